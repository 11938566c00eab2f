"""Finding rows of the input by id or by place, in the signals files of a dataset.

What enters: a stored run, an id or (split, position). What leaves: places and ids. Invariant: a row group whose
statistics exclude the id is not read, so that a search among 10^7 rows reads a few footers and one column of a few row
groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from datapipe.parquet_chunks import statistics_of
from datapipe.preprocess.stored_run import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.preprocess.stored_run import StageFile, StoredRun

_NEAR = 3


@final
@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A row of the input.

    Attributes:
        split: where it was read. read: whether the reader could read it.
        at: its position in the split; of a row that could not be read, its place in the signals file.
    """

    split: int
    at: int
    read: bool = True


def find_row(run: StoredRun, row_id: str) -> list[Place]:
    """Where rows of that id are, in the order of the splits: more than one where an id was given twice."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for split, files in run.files.items():
        with run.parquet(files[0].path) as opened:
            before = 0
            for group in range(opened.num_row_groups):
                rows = opened.metadata.row_group(group).num_rows
                if _may_hold(opened, group, row_id):
                    table = _read(files[0], opened, group)
                    same = pc.equal(table.column("row_id"), pa.scalar(row_id, pa.string()))
                    for at in pc.indices_nonzero(pc.fill_null(same, False)).to_pylist():
                        position = table.column("position")[at].as_py()
                        known = position is not None
                        found.append(Place(split=split, at=position if known else before + at, read=known))
                before += rows
    return sorted(found)


def row_id_at(run: StoredRun, split: int, position: int) -> str | None:
    """The id of the row at a place; None where the dataset does not know the split."""
    import pyarrow.compute as pc

    files = run.files.get(split)
    if not files:
        return None
    table = run.table(files[0], ["row_id", "position"])
    at = pc.index(table.column("position"), position).as_py()
    return None if at < 0 else table.column("row_id")[at].as_py()


@final
@dataclass(frozen=True, kw_only=True)
class Nearest:
    """What an id that no row has may have meant.

    Attributes:
        ids: of the same file the nearest places, else ids that read alike.
        same_file: whether a row's id begins with the same file. is_file: whether the id is the name of a file.
    """

    ids: list[str]
    same_file: bool
    is_file: bool


def nearest_ids(run: StoredRun, row_id: str) -> Nearest:
    """Ids that may have been meant, and whether there is such a file. Reads all ids."""
    files: dict[str, str] = {}
    ids = _nearest(run, row_id, files)
    return Nearest(ids=ids, same_file=row_id.rpartition(":")[0] in files, is_file=row_id in files)


def _nearest(run: StoredRun, row_id: str, files: dict[str, str]) -> list[str]:
    """The ids; `files` is filled with each file and one id of it."""
    import difflib

    name, _, offset = row_id.rpartition(":")
    number = int(offset) if offset.isdecimal() else None
    close: list[tuple[int, str]] = []
    ids: list[str] = []
    for table in _all_ids(run):
        for each in table.column("row_id").to_pylist():
            other, _, place = each.rpartition(":")
            files.setdefault(other, each)
            if number is not None and other == name and place.isdecimal():
                close.append((abs(int(place) - number), each))
            elif len(ids) < 100_000:
                ids.append(each)
        if len(close) > 1000:
            close = sorted(close)[:_NEAR]
    if close:
        return [each for _, each in sorted(close)[:_NEAR]]
    if row_id in files:
        return [files[row_id]]
    if alike := difflib.get_close_matches(name or row_id, list(files), n=_NEAR):
        return [files[each] for each in alike]
    return difflib.get_close_matches(row_id, ids[:20_000], n=_NEAR) or ids[:1]


def _all_ids(run: StoredRun) -> Iterator[pa.Table]:
    for files in run.files.values():
        yield run.table(files[0], ["row_id"]).drop_null()


def _may_hold(opened: pq.ParquetFile, group: int, row_id: str) -> bool:
    column = opened.schema_arrow.get_field_index("row_id")
    chunk = opened.metadata.row_group(group).column(column)
    statistics = statistics_of(chunk, opened.metadata.schema.column(column).physical_type)
    if statistics is None or not statistics.has_min_max:
        return True
    # Parquet orders strings by their bytes.
    low, high, wanted = (_encoded(value) for value in (statistics.min, statistics.max, row_id))
    return low <= wanted <= high


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _read(file: StageFile, opened: pq.ParquetFile, group: int) -> pa.Table:
    import pyarrow as pa

    try:
        return opened.read_row_group(group, columns=["row_id", "position"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(file.path, error) from error
