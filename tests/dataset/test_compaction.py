"""Merging shards: fewer files; rows, row groups, fingerprint and the order that follows from them as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.dataset import (
    Checksum,
    RowGroups,
    ShardEntry,
    compacted,
    keep_snapshot,
    open_dataset,
    publish,
    read_snapshot,
    verify_dataset,
)
from datapipe.dataset.compaction import runs_of_small
from datapipe.dataset.manifest import parse_manifest
from datapipe.errors import IntegrityError, ManifestError


def shard(size, kind="parquet"):
    groups = RowGroups(rows=(1,), offset=(0,), bytes=(size,), uncompressed=(size,))
    return ShardEntry(
        path=f"data/{size}", format=kind, rows=1, bytes=size, checksum=Checksum(value="0" * 32), row_groups=groups
    )


@given(st.lists(st.tuples(st.integers(1, 120), st.sampled_from(["parquet", "arrow"])), max_size=30))
def test_runs_are_of_small_neighbours_and_not_too_large(sizes):
    """A run has two or more small shards of one format, within the target; none that could be merged stands alone."""
    shards = [shard(*each) for each in sizes]
    runs = runs_of_small(shards, 100)
    assert all(b <= c for (_, b), (c, _) in zip(runs, runs[1:], strict=False))
    for first, last in runs:
        part = shards[first:last]
        assert last - first >= 2
        assert len({each.format for each in part}) == 1
        assert all(each.bytes < 50 for each in part)
        assert sum(each.bytes for each in part) <= 100
    inside = {n for first, last in runs for n in range(first, last)}
    for n, (one, two) in enumerate(zip(shards, shards[1:], strict=False)):
        if not {n, n + 1} & inside and one.format == two.format:
            assert one.bytes >= 50 or two.bytes >= 50


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_the_content_stays(grown, kind):
    """One file of three; rows, row groups and fingerprint as before; old snapshots open; nothing is left to merge."""
    store = grown((5, 1, 4), format=kind)
    old = open_dataset(store.url)
    made = compacted(store, read_snapshot(store))
    keep_snapshot(store, old.manifest)
    publish(store, made)
    new = open_dataset(store.url)
    assert (len(new.manifest.shards), new.manifest.snapshot, new.manifest.parent) == (1, 3, old.fingerprint)
    assert new.fingerprint == old.fingerprint
    assert [g.rows for g in new.row_groups] == [g.rows for g in old.row_groups] == [2, 2, 1, 1, 2, 2]
    assert new.index.bytes.tolist() == old.index.bytes.tolist()
    assert new.take(range(10)).equals(old.take(range(10)))
    assert verify_dataset(store.url).ok
    assert compacted(store, new.manifest) is None
    assert [len(open_dataset(store.url, snapshot=n)) for n in range(4)] == [5, 6, 10, 10]
    again = compacted(store, old.manifest)
    assert again == made


def test_a_damaged_shard_is_not_merged(grown):
    """What is not what the manifest says gets no new checksum that would say it were whole."""
    store = grown()
    path = read_snapshot(store).shards[1].path
    data = bytearray(store.read(path))
    data[len(data) // 2] ^= 1
    store.put(path, bytes(data))
    with pytest.raises(IntegrityError, match=path):
        compacted(store, read_snapshot(store))


def test_pieces_that_are_not_the_shards_are_refused(grown):
    """A manifest whose pieces do not add up to its shards does not open: the fingerprint would name another content."""
    store = grown()
    made = compacted(store, read_snapshot(store))
    short = made.pieces[0].model_copy(update={"rows": 4})
    for pieces in (made.pieces[:-1], (short, *made.pieces[1:]), (*made.pieces, made.pieces[0])):
        bad = made.model_copy(update={"pieces": pieces})
        with pytest.raises(ManifestError, match="pieces"):
            parse_manifest(bad.to_json(), where="m")
