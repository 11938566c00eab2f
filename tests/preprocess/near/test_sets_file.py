"""Shingles come back by position, in batches or at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import IntegrityError
from datapipe.preprocess.near import sets_file
from datapipe.preprocess.near.sets_file import SetsFile, SetsWriter, spans
from datapipe.storage import open_store

SETS = [[1, 5, 9], [2], [], [3, 4], [7] * 1]
POSITIONS = [0, 4, 5, 9, 100]


@pytest.fixture(params=[1, 2, 5])
def file(request, tmp_path):
    """The sets above, written in batches."""
    writer = SetsWriter(str(tmp_path / "sets"))
    for begin in range(0, len(SETS), request.param):
        part = SETS[begin : begin + request.param]
        positions = np.array(POSITIONS[begin : begin + request.param], np.uint32)
        # As a slice of a longer array has them: offsets that do not begin at 0.
        flat = np.array([99, *(value for each in part for value in each)], np.uint32)
        offsets = 1 + np.cumsum([0, *map(len, part)])
        writer.add(positions, positions + 1, positions / 2, flat, offsets)
    writer.close()
    writer.close()
    return open_store(str(tmp_path))


@pytest.mark.parametrize("gap", [0, 1 << 16])
def test_what_was_written_is_found(file, monkeypatch, gap):
    """Any choice of documents, read in one piece or in several."""
    monkeypatch.setattr(sets_file, "_GAP", gap)
    opened = SetsFile(file, "sets")
    for chosen in ([0], [4], [0, 3], [1, 2, 4], list(range(5)), []):
        rows = opened.rows_of(np.array([POSITIONS[i] for i in chosen], np.uint32))
        assert rows.tolist() == chosen
        assert [each.tolist() for each in opened.shingles(rows)] == [SETS[i] for i in chosen]
    assert opened.records["score"].tolist() == [position / 2 for position in POSITIONS]
    assert opened.records["size"].tolist() == [position + 1 for position in POSITIONS]


def test_what_is_not_there_is_refused(file, tmp_path):
    """A position without a set, a file cut short."""
    for position in (1, 101):
        with pytest.raises(IntegrityError, match="lacks a document"):
            SetsFile(file, "sets").rows_of(np.array([position], np.uint32))
    whole = (tmp_path / "sets").read_bytes()
    for data in (whole[:-1], whole[:10], b""):
        (tmp_path / "sets").write_bytes(data)
        with pytest.raises(IntegrityError):
            SetsFile(file, "sets")


def test_a_large_table_is_not_read_for_a_few_documents(tmp_path):
    """Memory that a document of a local file takes does not grow with the documents beside it."""
    n = 40_000
    positions = 2 * np.arange(n, dtype=np.uint32)
    writer = SetsWriter(str(tmp_path / "sets"))
    writer.add(positions, positions, positions / 2, positions, np.arange(n + 1))
    writer.close()
    store = open_store(str(tmp_path))
    tracemalloc.start()
    try:
        opened = SetsFile(store, "sets")
        rows = opened.rows_of(np.array([8, 60_000], np.uint32))
        shingles = opened.shingles(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (rows.tolist(), [each.tolist() for each in shingles]) == ([4, 30_000], [[8], [60_000]])
    assert (opened.held, peak < opened.records.nbytes / 10) == (0, True)
    for position in (7, 2 * n):
        with pytest.raises(IntegrityError, match="lacks a document"):
            opened.rows_of(np.array([position], np.uint32))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20), st.integers(0, 10))
def test_spans(steps, gap):
    """Runs cover every range once, and a gap within one is no wider than asked."""
    begins, ends, at = [], [], 0
    for skip, length in steps:
        begins.append(at + skip)
        ends.append(at := at + skip + length)
    runs = spans(begins, ends, gap)
    assert [i for first, last in runs for i in range(first, last)] == list(range(len(steps)))
    for first, last in runs:
        assert all(begins[i + 1] - ends[i] <= gap for i in range(first, last - 1))
