"""The other side of a join: files of records → tables of keys and of the columns that are wanted.

What enters: local files of Parquet, Arrow, CSV, TSV or JSON lines, gzipped or not. What leaves: batches with the column
`KEY` (text, never null), the wanted columns under their new names, and `NEWEST` where one is asked for. Invariant: a
file's format is told by its content alone, because a worker reads a copy that is named after its checksum; what CSV and
JSON hold comes as text, as the readers of a corpus give it.
"""

from __future__ import annotations

import csv as plain_csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, SchemaError, StepError
from datapipe.steps.columns import classic
from datapipe.steps.options import nearest
from datapipe.steps.row_keys import key_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

KEY: Final = "__key"
NEWEST: Final = "__newest"
_BATCH: Final = 1 << 14
_BLOCK: Final = 16 << 20
"""Bytes of CSV read at a time: no record may be longer."""
_SUFFIXES: Final = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".jsonl", ".ndjson", ".gz")


@final
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is read of the other side.

    Attributes:
        on: its key columns, in the order of the left side's. columns: (new name, name there). newest: the column by
            which the most recent of equal keys is told; "".
    """

    on: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    newest: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        more = (self.newest,) if self.newest else ()
        return tuple(dict.fromkeys((*self.on, *(name for _, name in self.columns), *more)))


def expanded(paths: Sequence[str]) -> tuple[str, ...]:
    """Folders as the files that they hold, by name: of a dataset with a manifest, its shards."""
    found: list[str] = []
    for path in paths:
        folder = Path(path)
        if not path or not folder.is_dir():
            found.append(path)
            continue
        manifest = folder / "manifest.json"
        if manifest.is_file():
            found += _shards(manifest)
            continue
        files = sorted(each for each in folder.iterdir() if each.is_file() and each.name.lower().endswith(_SUFFIXES))
        found += [str(each) for each in files if not each.name.startswith((".", "_"))]
    return tuple(found)


def _shards(manifest: Path) -> list[str]:
    try:
        names = [shard["path"] for shard in json.loads(manifest.read_bytes())["shards"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"join.files: {manifest} is no manifest ({error})", expected="a dataset") from None
    root = manifest.parent.resolve()
    found = [(root / str(name)).resolve() for name in names]
    if outside := next((each for each in found if not each.is_relative_to(root)), None):
        raise ConfigError(f"join.files: {manifest} names {outside}", expected="shards within the dataset")
    return [str(each) for each in found]


def right_batches(path: str, wanted: Wanted, shown: str = "") -> Iterator[pa.Table]:
    """The records of a file, batch by batch; at least one, empty if need be, so that the types are known.

    Args:
        shown: the file's name for messages; "": that of `path`.

    Raises:
        ConfigError: it cannot be read, or lacks a column.
    """
    import pyarrow as pa

    name = shown or Path(path).name
    if name.endswith(".resource"):  # a worker's copy, named after its checksum
        name = f"a joined file ({name[:8]}…)"
    there = False
    try:
        for table in _read(path, wanted.names, name):
            there = True
            yield _chosen(classic(table), wanted, name)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        raise ConfigError(
            f"join.files: {name} cannot be read ({error})",
            expected="Parquet, Arrow, CSV or JSON lines, whole",
            fix="check the file",
        ) from error
    if not there:
        empty = pa.table({each: pa.array([], pa.large_string()) for each in wanted.names})
        yield _chosen(empty, wanted, name)


def _chosen(table: pa.Table, wanted: Wanted, name: str) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {KEY: key_texts(table, wanted.on, f"join: {name}")}
    for new, old in wanted.columns:
        columns[new] = table.column(old)
    if wanted.newest:
        columns[NEWEST] = table.column(wanted.newest)
    found = pa.table(columns)
    # A record without a key is nobody's.
    return found.filter(found.column(KEY).is_valid()) if found.column(KEY).null_count else found


def _read(path: str, names: Sequence[str], shown: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    head = _head(path)
    if head.startswith(b"PAR1"):
        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, names, shown)
            for batch in file.iter_batches(_BATCH, columns=list(names), use_threads=False):
                yield pa.Table.from_batches([batch])
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().select(list(names))
        return
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with pa.memory_map(path) as source:
            stream = not head.startswith(b"ARROW1")
            reader = pa.ipc.open_stream(source) if stream else pa.ipc.open_file(source)
            _check_names(reader.schema.names, names, shown)
            yield reader.schema.empty_table().select(list(names))
            batches = reader if stream else (reader.get_batch(i) for i in range(reader.num_record_batches))
            for batch in batches:
                yield pa.Table.from_batches([batch]).select(list(names))
        return
    text = _text_head(path, head)
    if text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        yield from _json_lines(path, names, shown, packed=head.startswith(b"\x1f\x8b"))
        return
    line = text.partition(b"\n")[0].decode("utf-8-sig", "replace").rstrip("\r")
    delimiter = "\t" if "\t" in line else ","
    if line:
        _check_names(next(plain_csv.reader([line], delimiter=delimiter)), names, shown)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_string()), include_columns=list(names), strings_can_be_null=True,
        null_values=[""], quoted_strings_can_be_null=False,
    )  # fmt: skip
    try:
        with (
            pa.input_stream(path, compression="gzip" if head.startswith(b"\x1f\x8b") else None) as source,
            csv.open_csv(source, csv.ReadOptions(use_threads=False, block_size=_BLOCK), parse, convert) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except KeyError as error:
        raise ConfigError(f"join.files: {shown} has no column {error}", expected=f"{', '.join(names)}") from None


def _head(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(1 << 16)


def _text_head(path: str, head: bytes) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return head
    with gzip.open(path) as file:
        return file.read(1 << 16)


def _json_lines(path: str, names: Sequence[str], shown: str, *, packed: bool) -> Iterator[pa.Table]:
    import pyarrow as pa

    def table(rows: list[dict[str, Any]]) -> pa.Table:
        return pa.table({name: pa.array([_text(row.get(name)) for row in rows], pa.large_string()) for name in names})

    rows: list[dict[str, Any]] = []
    opened = gzip.open if packed else open
    with opened(path, "rt", encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(
                    f"join.files: {shown}, line {number}: not JSON ({error})", expected="an object on each line"
                ) from None
            if not isinstance(row, dict):
                raise ConfigError(f"join.files: {shown}, line {number}: no object", expected="an object on each line")
            rows.append(row)
            if len(rows) >= _BATCH:
                yield table(rows)
                rows = []
    yield table(rows)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_names(there: Sequence[str], names: Sequence[str], shown: str) -> None:
    if twice := [name for name in names if list(there).count(name) > 1]:
        raise ConfigError(f"join.files: {shown} has two columns {twice[0]!r}", expected="each name once")
    if missing := [name for name in names if name not in there]:
        raise ConfigError(
            f"join.files: {shown} has no column {missing[0]!r}",
            expected=f"one of {', '.join(there)}",
            fix=nearest(missing[0], there),
        )


def same_types(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The one schema that all files have.

    Raises:
        SchemaError: they differ in the type of a column.
    """
    first = schemas[0].remove_metadata()
    for other in schemas[1:]:
        if not first.equals(other.remove_metadata()):
            odd = next((a.name for a, b in zip(first, other, strict=False) if a != b), KEY)
            raise SchemaError(
                f"the files of a join have unlike types in {odd!r}",
                expected="one type for each column",
                fix="convert one of the files",
            )
    return first


def one_each(table: pa.Table, duplicates: str) -> pa.Table:
    """One record a key, in the order of the file.

    Args:
        duplicates: "first", "last", "newest" (the greatest `NEWEST`, of equal ones the first), or "error".

    Raises:
        StepError: a key comes twice, and `duplicates` is "error".
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = table.column(KEY).combine_chunks()
    keys = pa.concat_arrays(keys.chunks) if isinstance(keys, pa.ChunkedArray) else keys
    coded = pc.dictionary_encode(keys)
    count = len(coded.dictionary)
    if count == len(keys):
        return table
    codes = coded.indices.to_numpy(zero_copy_only=False)
    if duplicates == "error":
        twice = int(np.flatnonzero(np.bincount(codes, minlength=count) > 1)[0])
        raise StepError(
            f"join: the key {coded.dictionary[twice].as_py()!r} comes {int((codes == twice).sum()):,} times in the "
            "joined files",
            expected="each key once",
            fix="say which record counts: join.duplicates = first, last, or newest with join.newest_by",
        )
    rows = np.arange(len(codes))
    order = rows if duplicates == "first" else rows[::-1]
    if duplicates == "newest":
        by = pa.table({"newest": table.column(NEWEST), "row": rows})
        order = pc.sort_indices(by, sort_keys=[("newest", "descending"), ("row", "ascending")]).to_numpy()
    chosen = np.empty(count, np.int64)
    chosen[codes[order[::-1]]] = order[::-1]  # numpy keeps the last of the values given to one index
    return table.take(pa.array(np.sort(chosen)))
