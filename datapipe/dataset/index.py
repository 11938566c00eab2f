"""The index: where every row group of a dataset is and how many rows it holds, as arrays.

What enters: a manifest, or the footers of a bare folder of Parquet and Arrow files. What leaves: one element per
row group (a
*block* of the loader's order), in shard order. Invariant: memory is O(row groups); no row is decoded to build it.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from datapipe.dataset.arrow_footer import batch_summaries, prefixes, sampled, summaries_of
from datapipe.dataset.byte_ranges import ByteRanges, coalesce
from datapipe.dataset.footers import Footers
from datapipe.dataset.keyring import is_locked, locked
from datapipe.errors import DatasetError, IntegrityError, SchemaError
from datapipe.parquet_chunks import physical_types, statistics_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from datapipe.dataset.arrow_footer import BatchSummary
    from datapipe.dataset.footers import ArrowFooter
    from datapipe.dataset.keyring import Keyring
    from datapipe.dataset.manifest import Manifest
    from datapipe.storage import Entry, Store

SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_FOOTER_THREADS: Final = 16
_MOST: Final = 1 << 62
"""Rows or bytes of a file: a footer may say anything."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetIndex:
    """One element per row group.

    Attributes:
        paths, formats: one per shard.
        shard, group: int32[n]: the shard of each block and its row group within it.
        rows: int64[n]: rows of each block. bytes: int64[n]: their size in memory, all columns: as the files tell, but
        at least what columns of one width take, which Parquet stores encoded. tokens: int64[n] or None.
        first: int64[n + 1]: the number of the first row of each block in the whole dataset.
    """

    paths: tuple[str, ...]
    formats: tuple[str, ...]
    shard: npt.NDArray[np.int32]
    group: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64] | None
    first: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def build_index(
    paths: Sequence[str],
    formats: Sequence[str],
    rows: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]] | None,
    schema: pa.Schema,
) -> DatasetIndex:
    """Arrays from per-shard lists of per-row-group counts."""
    counts = np.fromiter((len(r) for r in rows), np.int64, len(rows))
    flat_rows = _flat(rows)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    return DatasetIndex(
        paths=tuple(paths),
        formats=tuple(formats),
        shard=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        group=(np.arange(len(flat_rows)) - np.repeat(starts, counts)).astype(np.int32),
        rows=flat_rows,
        bytes=np.maximum(_flat(sizes), flat_rows * _least_width(schema)),
        tokens=None if tokens is None else _flat(tokens),
        first=np.concatenate([np.zeros(1, np.int64), np.cumsum(flat_rows)]),
    )


def _least_width(schema: pa.Schema) -> int:
    """Bytes that a row's values of one width take in memory.

    A Parquet file tells its encoded size, which dictionaries and runs make smaller by any factor.
    """

    def bits(kind: pa.DataType) -> int:
        if isinstance(kind, pa.BaseExtensionType):
            return bits(kind.storage_type)
        if pa.types.is_struct(kind):
            return sum(bits(kind.field(i).type) for i in range(kind.num_fields))
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size) * bits(kind.value_type)
        try:
            return 0 if pa.types.is_nested(kind) else int(kind.bit_width)
        except ValueError:  # of no one width
            return 0

    return sum(bits(field.type) for field in schema) // 8


def _flat(lists: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(np.asarray(part, dtype=np.int64) for part in lists)])


def index_of_manifest(manifest: Manifest) -> DatasetIndex:
    """The index a manifest carries: nothing is opened."""
    groups = [shard.row_groups for shard in manifest.shards]
    tokens = [g.tokens for g in groups if g.tokens is not None]
    return build_index(
        [shard.path for shard in manifest.shards],
        [shard.format for shard in manifest.shards],
        [g.rows for g in groups],
        [g.uncompressed for g in groups],
        tokens if groups and len(tokens) == len(groups) else None,
        manifest.schema,
    )


@dataclass(frozen=True, kw_only=True)
class Footer:
    """What a data file says of itself: schema, rows and uncompressed bytes per row group, a digest of its footer."""

    schema: pa.Schema
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    digest: str


def read_footer(footers: Footers, shard: int) -> Footer:
    """What the footer of a Parquet or Arrow IPC file says; IntegrityError where it is damaged or cut short."""
    kind, path, store = footers.formats[shard], footers.paths[shard], footers.store
    try:
        if kind == "parquet":
            footer = footers.parquet(shard)
            if footer.locked:
                raise locked(f"{store.url}/{path}", None)
            return _parquet_footer(footer.meta)
        if store.is_remote:
            return _remote_arrow_footer(store, path, footers.arrow(shard))
        with store.open(path) as file:
            return _arrow_footer(pa.ipc.open_file(file).schema, batch_summaries(file))
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, IndexError, struct.error) as error:
        if kind == "arrow" and _is_stream(store, path):
            raise DatasetError(
                f"{store.url}/{path} is an Arrow stream, which cannot be read from the middle",
                expected="Parquet, or Arrow IPC in the file format",
                fix="write it anew; what Hugging Face saved: load_from_disk(folder).to_parquet('new/part-0.parquet')",
            ) from None
        if is_locked(error):
            raise locked(f"{store.url}/{path}", footers.keyring) from None
        raise IntegrityError(
            f"{store.url}/{path}: its footer cannot be read ({str(error).splitlines()[0] if str(error) else error!r})",
            expected=f"a whole {kind} file",
            fix="copy the file again, or move it out of the folder",
        ) from None


def _is_stream(store: Store, path: str) -> bool:
    """Whether it begins as the IPC streaming format does: with a continuation mark, and no magic word."""
    return store.info(path).size >= 8 and store.read(path, 0, 4) == b"\xff\xff\xff\xff"


def _bounds(stats: pq.Statistics | None) -> tuple[object, ...]:
    """What a column chunk says of its values, as stored: bytes, numbers and booleans, whatever they mean.

    Not the logical values: what those become depends on the libraries at hand, and they may be out of range.
    """
    if stats is None or not stats.has_min_max:
        return ()
    try:
        bounds: tuple[object, ...] = (stats.min_raw, stats.max_raw)
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, pa.ArrowException):
        return (stats.null_count,)  # a physical type that has no Python value
    if not all(isinstance(bound, bytes | int | float) for bound in bounds):
        return (stats.null_count,)
    return (*bounds, stats.null_count)


def _parquet_footer(meta: pq.FileMetaData) -> Footer:
    digest = xxhash.xxh3_128()
    rows, sizes = [], []
    kinds = physical_types(meta)
    for g in range(meta.num_row_groups):
        group = meta.row_group(g)
        rows.append(group.num_rows)
        sizes.append(group.total_byte_size)
        for c in range(len(kinds)):
            column = group.column(c)
            sizes_ = (column.total_compressed_size, column.total_uncompressed_size)
            digest.update(repr((*sizes_, _bounds(statistics_of(column, kinds[c])))).encode())
    if min([*rows, *sizes], default=0) < 0 or sum(rows) >= _MOST or sum(sizes) >= _MOST:
        raise ValueError("its row groups hold less than nothing, or more than any file can")
    return Footer(schema=meta.schema.to_arrow_schema(), rows=tuple(rows), sizes=tuple(sizes), digest=digest.hexdigest())


def _remote_arrow_footer(store: Store, path: str, footer: ArrowFooter) -> Footer:
    """The same, in two rounds of requests side by side: the blocks' ends, then the lengths of compressed buffers."""

    def near(spans: list[tuple[int, int]]) -> list[tuple[int, memoryview]]:
        ranges = coalesce(spans, store.gap)
        data = store.read_ranges(path, ranges, footer.entry)
        return [(start, memoryview(part)) for (start, _), part in zip(ranges, data, strict=True)]

    blocks = footer.batches
    ends = sampled([*footer.dictionaries, *blocks])
    first = ByteRanges(footer.entry.size, near(ends))
    lengths = []
    for block in blocks:
        first.seek(block[0])
        lengths += prefixes(block, bytes(first.read(block[1])))
    file = ByteRanges(footer.entry.size, near(ends + lengths)) if lengths else first
    summaries = summaries_of(file, footer.dictionaries, blocks)  # type: ignore[arg-type]  # it reads and seeks
    return _arrow_footer(footer.schema, summaries)


def _arrow_footer(schema: pa.Schema, batches: list[BatchSummary]) -> Footer:
    assert len(schema.names) == len(schema)  # a name that is not UTF-8 is an error here, not at its first use
    if sum(batch.rows for batch in batches) >= _MOST or sum(batch.size for batch in batches) >= _MOST:
        raise ValueError("its record batches hold more than any file can")
    digest = xxhash.xxh3_128()
    for batch in batches:
        digest.update(f"{batch.rows}:{batch.size};".encode() + batch.digest)
    return Footer(
        schema=schema,
        rows=tuple(batch.rows for batch in batches),
        sizes=tuple(batch.size for batch in batches),
        digest=digest.hexdigest(),
    )


def index_of_folder(
    store: Store, entries: Sequence[Entry], keyring: Keyring | None = None
) -> tuple[DatasetIndex, pa.Schema, str, Footers]:
    """The index, schema, fingerprint and footers of data files without a manifest; footers are read in parallel.

    The fingerprint covers the schema and, per file in path order, its size, its row counts and what can be known
    without reading all rows. Of Parquet: the sizes, minima, maxima and null counts of each column chunk. Of Arrow:
    each record batch's header and the first and last 64 KiB of its body. It does not see a change that leaves all of
    these alone (a value between a Parquet column's bounds, one in the middle of a large record batch): a dataset with
    a manifest is told by its checksums instead.
    """
    kinds = [SUFFIXES["." + entry.path.rsplit(".", 1)[-1].lower()] for entry in entries]
    held = Footers(store, tuple(entry.path for entry in entries), tuple(kinds), keyring)
    with ThreadPoolExecutor(min(_FOOTER_THREADS, len(entries))) as pool:
        footers = list(pool.map(lambda shard: read_footer(held, shard), range(len(entries))))
    schema = footers[0].schema
    digest = xxhash.xxh3_128(schema.remove_metadata().serialize().to_pybytes())
    for entry, footer in zip(entries, footers, strict=True):
        if not footer.schema.equals(schema, check_metadata=False):
            difference = _difference(schema, footer.schema)
            raise SchemaError(
                f"{entry.path}: its columns differ from those of {entries[0].path}: {difference}",
                expected="the same schema in every file",
                fix="open the files of each schema apart, or rewrite them to one schema",
            )
        digest.update(f"{entry.size}:{footer.rows}:{footer.digest};".encode())
    index = build_index(
        [entry.path for entry in entries], kinds, [f.rows for f in footers], [f.sizes for f in footers], None, schema
    )
    return index, schema, f"dp1-{digest.hexdigest()}", held


def _difference(want: pa.Schema, got: pa.Schema) -> str:
    for field in want:
        if got.get_field_index(field.name) < 0:
            return f"{field.name} is missing"
        if not got.field(field.name).equals(field):
            return f"{field.name} is {got.field(field.name).type}, not {field.type}"
    extra = [field.name for field in got if want.get_field_index(field.name) < 0]
    return f"{extra[0]} is extra" if extra else "the columns are in another order"
