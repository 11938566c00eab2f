"""Runs: what is asked for is found, whatever the sizes; what was damaged is not believed; little is read."""

import struct
import tracemalloc

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import IntegrityError
from datapipe.preprocess.near.record_file import CLASSES, in_order
from datapipe.preprocess.sorted_run import Run, RunWriter, joined, parted, with_split
from datapipe.storage import open_store

KIND = np.dtype([("hash", "<u8"), ("value", "<u4")])
REMOTE = "memory://runs-of-tests"


def write(folder, records, low=0, high=CLASSES):
    """A run of records in the folder: the same file locally and in a remote store."""
    path = folder / "run"
    writer = RunWriter(str(path), KIND, low, high)
    whole = in_order(records)
    cut = len(whole) // 3
    writer.add(whole[:cut])
    writer.add(whole[cut:])
    writer.finish()
    open_store(REMOTE).put("run", path.read_bytes())
    return whole


def records_of(hashes):
    found = np.zeros(len(hashes), KIND)
    found["hash"] = hashes
    found["value"] = np.arange(len(hashes))
    return found


def some(n, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << 64, n, np.uint64)


@settings(max_examples=8)
@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=40), st.integers(0, 3000), st.booleans())
def test_what_is_asked_for_is_found(tmp_path_factory, mine, others, remote):
    """All records of the hashes asked for and no others, in order, from a disk and from a store far away."""
    folder = tmp_path_factory.mktemp("run")
    held = np.concatenate([np.array(mine + mine[::2], np.uint64), some(others)])
    whole = write(folder, records_of(held))
    asked = np.unique(np.concatenate([np.array(mine, np.uint64), some(50, 1), held[:5]]))
    run = Run(open_store(REMOTE if remote else str(folder)), "run", KIND)
    assert run.matching(asked).tolist() == whole[np.isin(whole["hash"], asked)].tolist()
    assert run.matching(asked[:0]).tolist() == []
    assert run.between(0, CLASSES).tolist() == whole.tolist()
    parts = [run.between(low, low + CLASSES // 4) for low in range(0, CLASSES, CLASSES // 4)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_a_part_of_the_classes(tmp_path):
    """Hashes of other classes are not looked for."""
    held = np.sort(some(5000))
    classes = held >> np.uint64(52)
    mine = held[(classes >= 1000) & (classes < 1500)]
    whole = write(tmp_path, records_of(mine), 1000, 1500)
    found = Run(open_store(str(tmp_path)), "run", KIND).matching(held)
    assert found.tolist() == whole.tolist()


def test_any_damage_is_found_or_not_read(tmp_path):
    """A flipped byte anywhere, a file cut short anywhere: an error, or the right answer."""
    held = some(700)
    whole = write(tmp_path, records_of(held))
    path, store = tmp_path / "run", open_store(str(tmp_path))
    data = path.read_bytes()
    asked = np.sort(held[:300])
    right = whole[np.isin(whole["hash"], asked)].tolist()
    wrong = 0
    for place in [*range(64), *range(64, len(data), 1997), *range(len(data) - 16, len(data))]:
        broken = bytearray(data)
        broken[place] ^= 1
        path.write_bytes(broken)
        try:
            assert Run(store, "run", KIND).matching(asked).tolist() == right
        except IntegrityError:
            wrong += 1
    assert wrong > 64
    for size in (0, 63, 64, 1000, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(IntegrityError):
            Run(store, "run", KIND).matching(asked)


@pytest.mark.parametrize(("low", "high", "slots"), [(0, CLASSES, 0), (5, 5, 1), (7, 5, 1), (0, CLASSES + 1, 1)])
def test_a_header_that_cannot_be_is_refused(tmp_path, low, high, slots):
    """Whoever wrote it knew how a header is checked: no slots, classes that are none."""
    header = struct.pack("<7Q", 0x31_4E555250_444150, low, high, slots, KIND.itemsize, 1, 0)
    header += struct.pack("<Q", xxhash.xxh3_64_intdigest(header))
    (tmp_path / "run").write_bytes(header + bytes(KIND.itemsize + 16 * (slots + 1)))
    with pytest.raises(IntegrityError, match="slots of classes"):
        Run(open_store(str(tmp_path)), "run", KIND)


def test_little_is_read(tmp_path, monkeypatch):
    """Of a store far away ten hashes ask for some slots, not for the file."""
    held = some(30_000)
    write(tmp_path, records_of(held))
    store = open_store(REMOTE)
    monkeypatch.setattr("datapipe.preprocess.sorted_run._GAP", 0)
    read = []
    real = type(store).read_ranges

    def counted(self, path, ranges, pinned=None):
        read.extend(end - start for start, end in ranges)
        return real(self, path, ranges, pinned)

    monkeypatch.setattr(type(store), "read_ranges", counted)
    assert len(Run(store, "run", KIND).matching(np.sort(held[:10]))) == 10
    assert sum(read) < 64 + 10 * (32 + 200 * KIND.itemsize)


def test_splits_go_with_their_records():
    """Records of several splits are joined into a run's, and parted again."""
    records = records_of(some(5))
    both = joined(records, np.arange(5))
    assert both.dtype == with_split(KIND)
    mine, splits = parted(both, KIND)
    assert (mine.tolist(), splits.tolist()) == (records.tolist(), list(range(5)))


def test_what_is_looked_through_is_not_copied(tmp_path):
    """One hash in every slot of a local run: memory is in proportion to those hashes, not to the run."""
    held = some(120_000)
    whole = write(tmp_path, records_of(held))
    asked = whole["hash"][::100]
    run = Run(open_store(str(tmp_path)), "run", KIND)
    run.matching(asked[:1])  # what is imported on the way is not of it
    tracemalloc.start()
    try:
        found = run.matching(asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tolist() == whole[::100].tolist()
    assert peak < whole.nbytes / 4
