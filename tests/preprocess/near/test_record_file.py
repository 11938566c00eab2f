"""Sorted records come back by ranges of their hash, however they were written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datapipe
from datapipe.errors import IntegrityError
from datapipe.preprocess.near import record_file
from datapipe.preprocess.near.record_file import (
    CLASSES,
    RecordWriter,
    class_ranges,
    put_records,
    read_begins,
    read_records,
)
from datapipe.preprocess.work import WorkFolder
from datapipe.storage import open_store

KIND = np.dtype([("hash", "<u8"), ("place", "<u4")])


def some_records(n, seed=0):
    draw = np.random.default_rng(seed)
    records = np.zeros(n, KIND)
    records["hash"] = draw.integers(0, 1 << 64, n, np.uint64) & np.uint64(0xFF0000000000000F)
    records["place"] = draw.integers(0, 50, n)
    return records


def written(tmp_path, batches, **more):
    """The bytes of the file."""
    with contextlib.ExitStack() as stack:
        writer = RecordWriter("records", WorkFolder(open_store(str(tmp_path))), stack, **more)
        for batch in batches:
            writer.add(batch)
        made = writer.finish()
        return None if made is None else (Path(made[0]).read_bytes(), made[1])


@pytest.mark.parametrize("distinct", [False, True])
def test_the_file_is_a_function_of_the_records(tmp_path, monkeypatch, distinct):
    """In one batch, in many, spilled to disk between them: the same bytes, in order."""
    records = some_records(1000)
    whole = written(tmp_path, [records], distinct=distinct)
    draw = np.random.default_rng(1)
    shuffled = draw.permutation(records)
    monkeypatch.setattr(record_file, "SPILL", 100 * KIND.itemsize)
    assert written(tmp_path, np.array_split(shuffled, 7), distinct=distinct) == whole
    expected = sorted(records.tolist())
    expected = sorted(set(expected)) if distinct else expected
    assert np.frombuffer(whole[0][8 * (CLASSES + 1) :], KIND).tolist() == expected
    assert whole[1] == len(expected)
    assert list((tmp_path / "_work" / "scratch").iterdir()) == []


def test_ranges(tmp_path):
    """A range of classes is what a filter by hash gives; a file cut short is refused."""
    data, _ = written(tmp_path, [some_records(500)])
    (tmp_path / "file").write_bytes(data)
    store = open_store(str(tmp_path))
    records = np.frombuffer(data[8 * (CLASSES + 1) :], KIND)
    for low, high in ((0, CLASSES), (0, 1), (100, 3000), (4000, CLASSES)):
        begins = read_begins(store, "file", low, high)
        found = read_records(store, "file", KIND, int(begins[0]), int(begins[-1]))
        inside = (records["hash"] >> np.uint64(52) >= low) & (records["hash"] >> np.uint64(52) < high)
        assert found.tolist() == records[inside].tolist()
    (tmp_path / "file").write_bytes(data[:-5])
    with pytest.raises(IntegrityError):
        read_records(store, "file", KIND, 0, 500)


def test_nothing_is_no_file(tmp_path):
    """Without records there is no file."""
    assert written(tmp_path, [some_records(0)]) is None


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 20))
def test_class_ranges_hold_each_record_once(counts, limit):
    """Ranges follow one another, leave out empty classes only, and exceed the limit by one class alone at most."""
    ranges = class_ranges(np.array(counts, np.int64), limit)
    inside = [number for low, high in ranges for number in range(low, high)]
    assert inside == sorted(set(inside))
    assert all(counts[number] == 0 for number in range(len(counts)) if number not in inside)
    assert all(sum(counts[low:high]) <= limit or sum(map(bool, counts[low:high])) == 1 for low, high in ranges)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_a_full_disk_is_an_error(n):
    """Of few records as of many: none is lost without a word, as `ndarray.tofile` loses them."""
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb") as file:
        put_records(file, some_records(n))


def test_nothing_is_written_by_tofile():
    """It does not say when the disk is full."""
    package = Path(datapipe.__file__).parent
    assert [path for path in package.rglob("*.py") if ".tofile(" in path.read_text()] == []
