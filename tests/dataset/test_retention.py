"""Snapshots go, oldest first; files go when no snapshot names them and nobody can be reading them any more."""

import pytest

from datapipe.dataset import (
    compacted,
    expire,
    keep_snapshot,
    open_dataset,
    publish,
    read_snapshot,
    roll_back,
    snapshot_paths,
    snapshots_of,
    spared,
    sweep,
    verify_dataset,
)
from datapipe.errors import ConfigError, DatasetError, ManifestError


def paths(store):
    return {entry.path for entry in store.list("data")}


def compact(store):
    """Merge, and publish."""
    old = read_snapshot(store)
    made = compacted(store, old)
    keep_snapshot(store, old)
    publish(store, made)
    return made


@pytest.mark.parametrize(("keep", "kept"), [(1, (3,)), (2, (2, 3)), (4, (0, 1, 2, 3)), (9, (0, 1, 2, 3))])
def test_the_newest_stay(grown, keep, kept):
    """So many as were asked for; the others cannot be opened, and those that stay are whole."""
    store = grown((1, 1, 1, 1))
    done = expire(store, keep=keep, grace=0, now=100.0)
    assert done.kept == kept == tuple(each.number for each in snapshots_of(store))
    assert done.removed == ()  # deliveries only add: the newest names every file
    assert verify_dataset(store.url).ok
    if keep == 1:
        with pytest.raises(DatasetError, match="no snapshot 0"):
            open_dataset(store.url, snapshot=0)


def test_one_that_is_damaged_can_go(grown):
    """What is told of the others needs nothing of it; one that is to stay has to be whole, or its files would go."""
    store = grown((1, 1, 1))
    store.put(snapshot_paths(store)[0], b"{")
    with pytest.raises(ManifestError, match="00000-"):
        expire(store, keep=3, grace=0, now=100.0)
    assert expire(store, keep=2, grace=0, now=100.0).snapshots == (0,)
    assert [(each.number, each.added) for each in snapshots_of(store)] == [(1, None), (2, 1)]


def test_by_age(grown):
    """What was replaced too long ago goes; when it was, where nobody knows, is taken for when it was first asked."""
    store = grown((1, 1, 1))
    assert expire(store, older_than=50, now=1000.0, replaced={0: 900.0, 1: 960.0}).snapshots == (0,)
    assert expire(store, older_than=50, now=1010.0).snapshots == ()
    assert expire(store, older_than=50, now=1011.0).snapshots == (1,)
    store = grown((1, 1))
    assert expire(store, older_than=50, now=1000.0).snapshots == ()
    assert expire(store, older_than=50, now=1051.0).snapshots == (0,)


def test_files_outlive_their_snapshot_by_the_grace_period(grown):
    """Who has the old shards open reads on; a sweep leaves them; and once it is over they go, and nothing else does."""
    store = grown()
    reader = open_dataset(store.url)
    small = paths(store)
    compact(store)
    (store.put("data/of-somebody.txt", b""), store.put("data/own-12345678.csv", b""))
    done = expire(store, keep=1, grace=60, now=1000.0)
    assert done.snapshots == (0, 1, 2)
    assert set(done.waiting) == small
    assert sweep(store, read_snapshot(store), spare=spared(store, 1059.0)) == []
    assert reader.take([0, 11]).num_rows == 2
    assert expire(store, grace=60, now=1059.0).removed == ()
    done = expire(store, grace=60, now=1060.0)
    assert set(done.removed) == small
    assert paths(store) == {read_snapshot(store).shards[0].path, "data/of-somebody.txt", "data/own-12345678.csv"}
    assert verify_dataset(store.url).ok
    assert open_dataset(store.url).take(range(12)).column("row").to_pylist() == list(range(12))


def test_rolled_back_and_forth(grown):
    """An earlier content is the newest, the later one is there to be rolled back to; what it was is told."""
    store = grown()
    newest = read_snapshot(store)
    back = roll_back(store, 0)
    assert (back.snapshot, back.rows, back.parent) == (3, 5, newest.fingerprint)
    assert len(open_dataset(store.url)) == 5
    assert roll_back(store, 0) == back
    assert roll_back(store, 2).fingerprint == newest.fingerprint
    assert [each.kind for each in snapshots_of(store)] == ["delivery"] * 3 + ["rolled back"] * 2
    assert [each.added for each in snapshots_of(store)] == [5, 4, 3, -7, 7]
    assert verify_dataset(store.url).ok
    with pytest.raises(DatasetError, match="no snapshot 9"):
        roll_back(store, 9)
    # What was rolled back goes with its snapshots, and is told all the same.
    roll_back(store, 0)
    assert set(expire(store, keep=1, grace=0, now=0.0).removed) == {shard.path for shard in newest.shards[1:]} | {
        entry.path for entry in newest.sources[1:]
    }
    (left,) = snapshots_of(store)
    assert (left.kind, left.added) == ("rolled back", -7)
    store.put("snapshots/told.json", b"[1]")
    (left,) = snapshots_of(store)
    assert (left.kind, left.added) == ("unknown", None)


def test_cut_short_at_any_write(grown, monkeypatch):
    """Merging and expiring die at each write and removal: what opens is whole, and the next call does the rest."""
    from datapipe.storage.local import LocalStore

    left = 10**9

    def dying(real):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call

    for name in ("put", "put_file", "delete"):
        monkeypatch.setattr(LocalStore, name, dying(getattr(LocalStore, name)))

    def work(store):
        if len(read_snapshot(store).shards) > 1:
            compact(store)
        expire(store, keep=1, grace=0, now=0.0)

    def files(store):
        return {entry.path: store.read(entry.path) for entry in store.list()}

    straight = grown()
    work(straight)
    points = 0
    while True:
        left = 10**9
        store = grown()
        left = points
        try:
            work(store)
            break
        except KeyboardInterrupt:
            pass
        left = 10**9
        assert verify_dataset(store.url).ok
        for each in snapshots_of(store):
            dataset = open_dataset(store.url, snapshot=each.number)
            assert dataset.take(range(len(dataset))).column("row").to_pylist() == list(range(each.rows))
        work(store)
        assert files(store) == files(straight)
        points += 1
    assert points > 8


def test_what_is_out_of_range_is_refused(grown):
    """The newest snapshot cannot expire."""
    store = grown((1,))
    for wrong in ({"keep": 0}, {"older_than": -1.0}, {"grace": -1.0}):
        with pytest.raises(ConfigError):
            expire(store, now=0.0, **wrong)
