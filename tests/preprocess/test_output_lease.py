"""The lease on a remote output: one holder, told apart from a dead one by nothing but its changes."""

import time
from types import SimpleNamespace

import pytest

import datapipe
from datapipe.errors import OutputError
from datapipe.preprocess import output_lease
from datapipe.preprocess.output_lease import lease
from datapipe.preprocess.work import LEASE
from datapipe.storage import open_store

INTERVAL = 0.2


@pytest.fixture
def store(request):
    return open_store(f"memory://{request.node.name}")


def test_the_second_is_refused_and_the_first_goes_on(store):
    """While a holder lives, another is told; afterwards nothing is left of the lease."""
    with lease(store, interval=INTERVAL):
        with pytest.raises(OutputError, match="another run holds"), lease(store, interval=INTERVAL):
            pass
        assert store.exists(LEASE)
    assert not store.exists(LEASE)


def test_a_dead_holder_is_waited_for_and_followed(store):
    """A lease that a killed run left behind does not change: it is taken over."""
    store.put(LEASE, b'{"token": "dead", "beat": 4, "interval": 0.05}')
    with lease(store, interval=INTERVAL):
        assert b"dead" not in store.read(LEASE)


def test_a_machine_that_stood_still_is_no_dead_holder(store, monkeypatch):
    """However long a look at a live holder takes: its beats come late by as much, and it is waited for."""
    store.put(LEASE, b'{"token": "live", "beat": 0, "interval": 5.0}')
    looked = []

    def sleep(seconds):
        looked.append(seconds)
        now[0] += 3600 if len(looked) == 1 else seconds
        if len(looked) == 4:
            store.put(LEASE, b'{"token": "live", "beat": 1, "interval": 5.0}')

    now = [0.0]
    monkeypatch.setattr(output_lease, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    with pytest.raises(OutputError, match="another run holds"), lease(store):
        pass
    assert len(looked) == 4
    looked.clear()
    store.put(LEASE, b'{"token": "dead", "beat": 1, "interval": 5.0}')
    monkeypatch.setattr(output_lease.time, "sleep", looked.append)
    with lease(store):
        assert sum(looked) == pytest.approx(output_lease.BEATS * 5.0)
        assert max(looked) <= 1.0


@pytest.mark.parametrize("interval", ['"x"', "1e12", "-1", "null", "[]"])
def test_a_lease_that_says_nonsense_is_waited_for_no_longer(store, interval):
    """It would end the run in a traceback, or hold it up for years."""
    store.put(LEASE, b'{"token": "odd", "interval": %s}' % interval.encode())
    with lease(store, interval=0.01):
        assert b"odd" not in store.read(LEASE)


def test_a_removed_lease_is_put_back(store):
    """Removing the work folder of a run lets no second one in."""
    with lease(store, interval=INTERVAL):
        store.delete(LEASE)
        for _ in range(100):
            if store.exists(LEASE):
                break
            time.sleep(INTERVAL)
        with pytest.raises(OutputError), lease(store, interval=INTERVAL):
            pass


def test_a_run_on_a_held_output(store, corpus, tools):
    """`preprocess` takes the lease, and gives it back."""
    with lease(store, interval=INTERVAL), pytest.raises(OutputError, match="another run"):
        datapipe.preprocess(corpus, "memory://test_a_run_on_a_held_output", workers=0, overrides=tools.overrides)
    datapipe.preprocess(corpus, "memory://test_a_run_on_a_held_output", workers=0, overrides=tools.overrides)
    assert not store.exists(LEASE)


def test_of_two_who_append_one_publishes(store, tmp_path, monkeypatch):
    """Where no lease told them apart, the manifest does: the other is refused, and its delivery can be run again."""
    import contextlib

    from datapipe.dataset import open_dataset
    from datapipe.preprocess import output_folder

    recipe = {"steps": ["decode", "exact_duplicates"]}
    url = store.url
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"the text of {name}")
    datapipe.preprocess(tmp_path / "a.txt", url, recipe, workers=0)
    monkeypatch.setattr(output_folder, "lease", lambda _: contextlib.nullcontext())
    real = datapipe.preprocess.run.publish_run

    def late(*args, **more):
        monkeypatch.setattr(datapipe.preprocess.run, "publish_run", real)
        datapipe.preprocess(tmp_path / "c.txt", url, recipe, workers=0, append=True)
        return real(*args, **more)

    monkeypatch.setattr(datapipe.preprocess.run, "publish_run", late)
    with pytest.raises(OutputError, match="has published a snapshot"):
        datapipe.preprocess(tmp_path / "b.txt", url, recipe, workers=0, append=True)
    assert open_dataset(url).num_rows == 2
    datapipe.preprocess(tmp_path / "b.txt", url, recipe, workers=0, append=True)
    assert sorted(open_dataset(url).take(range(3)).column("text").to_pylist()) == [f"the text of {n}" for n in "abc"]
