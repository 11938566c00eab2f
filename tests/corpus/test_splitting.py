"""Splits: a function of the files and a size, in which every file is whole or in pieces that join."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus import SourceFile, discover, plan_splits
from datapipe.errors import ConfigError


def source(i, size, format="jsonl", path=None):
    return SourceFile(
        root="/nowhere", path=path or f"{i}.{format}", name=f"{i}", format=format, size=size, etag=f"e{i}"
    )


SIZES = st.lists(st.integers(0, 5000), max_size=30)


@given(SIZES, st.integers(1, 3000))
def test_pieces_join_to_their_files(sizes, target):
    """Every byte of every file is in one piece, in order, and no split but a single piece's is larger than asked."""
    files = [source(i, size) for i, size in enumerate(sizes)]
    splits = plan_splits(files, target_bytes=target)
    assert [split.index for split in splits] == list(range(len(splits)))
    pieces = [piece for split in splits for piece in split.pieces]
    for i, file in enumerate(files):
        own = [piece for piece in pieces if piece.file == file]
        ends = [(piece.start, file.size if piece.end is None else piece.end) for piece in own]
        assert ends[0][0] == 0
        assert ends[-1][1] == file.size
        assert all(a[1] == b[0] for a, b in zip(ends, ends[1:], strict=False)), i
    assert [piece.file.name for piece in pieces] == sorted((p.file.name for p in pieces), key=int)
    for split in splits:
        assert split.bytes <= target
        assert split.pieces
    assert sum(split.bytes for split in splits) == sum(sizes)


@given(SIZES, st.integers(1, 3000))
def test_the_same_files_give_the_same_splits(sizes, target):
    files = [source(i, size) for i, size in enumerate(sizes)]
    assert plan_splits(files, target_bytes=target) == plan_splits(tuple(files), target_bytes=target)


def test_small_files_share_a_split():
    splits = plan_splits([source(i, 10) for i in range(100)], target_bytes=200)
    assert [len(split.pieces) for split in splits] == [20] * 5


def test_many_empty_files_do_not_pile_up():
    """Opening has its cost: a split has a most number of files, whatever their size."""
    splits = plan_splits([source(i, 0) for i in range(5000)])
    assert max(len(split.pieces) for split in splits) <= 2048


@pytest.mark.parametrize(
    ("format", "path"),
    [("jsonl", "x.jsonl.gz"), ("jsonl", "x.jsonl.zst"), ("csv", "x.csv"), ("json", "x.json"), ("text", "x.txt")],
)
def test_what_cannot_be_cut_is_whole(format, path):
    (split,) = plan_splits([source(0, 10_000, format, path)], target_bytes=100)
    assert [(piece.start, piece.end) for piece in split.pieces] == [(0, None)]


def test_parquet_is_cut_by_row_groups(tmp_path):
    """Row groups are joined up to the size asked for, and none is left out or taken twice."""
    pq.write_table(pa.table({"text": [f"{i} {'x' * 100}" for i in range(1000)]}), tmp_path / "x.parquet",
                   row_group_size=50, compression="none", use_dictionary=False)  # fmt: skip
    (file,) = discover(str(tmp_path / "x.parquet")).files
    splits = plan_splits([file], target_bytes=file.size // 5)
    edges = [(piece.start, piece.end) for split in splits for piece in split.pieces]
    assert edges[0][0] == 0
    assert edges[-1][1] == 20
    assert all(a[1] == b[0] for a, b in zip(edges, edges[1:], strict=False))
    assert 4 <= len(splits) <= 8


def test_damaged_and_missing_files_are_left_to_their_reader(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1" * 100)
    (file,) = discover(str(tmp_path / "x.parquet")).files
    for gone in (False, True):
        if gone:
            (tmp_path / "x.parquet").unlink()
        (split,) = plan_splits([file], target_bytes=10)
        assert [(piece.start, piece.end) for piece in split.pieces] == [(0, None)]


def test_no_files():
    assert plan_splits([]) == []


def test_a_size_that_is_none():
    with pytest.raises(ConfigError):
        plan_splits([], target_bytes=0)
