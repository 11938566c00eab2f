"""How long a worker may be silent."""

from types import SimpleNamespace

import pytest

from datapipe.preprocess import silence
from datapipe.preprocess.limits import BATCH_BYTES, Limits
from datapipe.preprocess.silence import AT_ONCE, TIMES, Silence


@pytest.fixture
def cluster(monkeypatch):
    """Two workers, a clock that the test moves, and what was ended."""
    made = SimpleNamespace(now=1000.0, ended=[])
    workers = {f"w{n}": SimpleNamespace(last_seen=5.0) for n in (1, 2)}
    made.scheduler = SimpleNamespace(workers=workers)
    made.workers = {n: SimpleNamespace(worker_address=f"w{n}", pid=n) for n in (1, 2)}
    monkeypatch.setattr(silence, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(silence, "os", SimpleNamespace(kill=lambda pid, _: made.ended.append(pid)))
    return made


def looked(cluster, limits, *, seconds, every, size=0):
    """Look `every` so many seconds, for so long; the first worker says that it lives, the second does not."""
    looks = Silence(cluster)
    for _ in range(int(seconds / every)):
        cluster.now += every
        cluster.scheduler.workers["w1"].last_seen = cluster.now
        looks.end_silent(limits, size)
    return cluster.ended


@pytest.mark.parametrize("size", [0, 4 * BATCH_BYTES])
def test_the_silent_one_is_ended_after_its_time(cluster, size):
    """Twice what the largest task may take, and not before; the other goes on."""
    allowed = TIMES * 100 * max(1, size / BATCH_BYTES)
    limits = Limits(batch_seconds=100)
    assert looked(cluster, limits, seconds=allowed, every=5, size=size) == []
    assert set(looked(cluster, limits, seconds=allowed + 10, every=5, size=size)) == {2}


def test_without_a_limit_none_is_ended(cluster):
    """batch_seconds=0 says that a task may take any time."""
    assert looked(cluster, Limits(batch_seconds=0), seconds=100_000, every=10) == []


def test_a_driver_that_was_stopped_has_heard_nobody(cluster):
    """An hour between two looks is no hour of silence."""
    assert looked(cluster, Limits(batch_seconds=1), seconds=3 * 3600, every=3600) == []
    assert 3 * AT_ONCE < silence.LEAST
