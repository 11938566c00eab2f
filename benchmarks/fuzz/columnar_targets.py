"""Targets: Parquet and Arrow, as a corpus to preprocess and as a dataset to train on, and our own parsers of them."""

from __future__ import annotations

import functools
import io
import shutil
import struct
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from place import scratch, written
from target import Target
from text_targets import RECORDS, read_file

import datapipe
from datapipe.corpus import ReadOptions
from datapipe.dataset import open_dataset
from datapipe.dataset.arrow_footer import batch_summaries
from datapipe.dataset.byte_ranges import ByteRanges, coalesce
from datapipe.dataset.decompression import pages

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = ReadOptions()


def _table() -> pa.Table:
    return pa.table({
        "text": [f"row {i} " + "x" * (i % 50) for i in range(60)],
        "tokens": pa.array([list(range(i % 7)) for i in range(60)], pa.list_(pa.uint16())),
        "label": pa.array(["a", "b", "c"] * 20).dictionary_encode(),
        "x": pa.array([None if i % 9 == 0 else i / 3 for i in range(60)], pa.float64()),
        "n_tokens": pa.array([i % 7 for i in range(60)], pa.int32()),
        "deep": pa.array([[{"a": [b"x"] * (i % 3)}] for i in range(60)]),
    })  # fmt: skip


@functools.cache
def _parquet_seeds() -> list[bytes]:
    found = []
    for options in (
        {"compression": "zstd", "row_group_size": 20},
        {"compression": "snappy", "data_page_version": "2.0", "use_dictionary": False},
        {"compression": "gzip", "write_page_index": True, "version": "1.0"},
        {"compression": "none", "column_encoding": {"x": "BYTE_STREAM_SPLIT"}, "use_dictionary": ["label"]},
        {"compression": "lz4", "store_schema": False},
    ):
        sink = io.BytesIO()
        pq.write_table(_table(), sink, **options)
        found.append(sink.getvalue())
    return found


@functools.cache
def _arrow_seeds(*, stream: bool = False) -> list[bytes]:
    found = []
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    for compression in (None, "zstd", "lz4"):
        sink = io.BytesIO()
        with make(sink, _table().schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
            for batch in _table().to_batches(max_chunksize=25):
                writer.write_batch(batch)
        found.append(sink.getvalue())
    return found


def _corpus(name: str) -> Callable[[bytes], object]:
    def check(data: bytes) -> None:
        path = written(name, data)
        for options in (_TEXT, RECORDS):
            read_file(path, options)
        read_file(path, _TEXT, target_bytes=max(1, len(data) // 3))

    return check


def _sound(table: pa.Table) -> None:
    """Nothing leads out of its memory; text need not be UTF-8 before somebody makes strings of it."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        if "Invalid UTF8" not in str(error):
            raise


def _dataset(name: str) -> Callable[[bytes], object]:
    """Opened, planned, every row group decoded, rows taken: valid tables of as many rows as the index says."""

    def check(data: bytes) -> None:
        folder = scratch() / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        written(f"dataset/{name}", data)
        ds = open_dataset(str(folder))
        if len(ds) > 10_000:  # a count that nothing bears out yet: reading must refuse it
            ds.fetch(0).decode()
            return
        for block in range(len(ds.row_groups)):
            table = ds.fetch(block).decode()
            _sound(table)
            assert table.num_rows == ds.row_groups[block].rows
        if len(ds):
            ds.take([0, len(ds) - 1, 0])
        names = [name for name in ("text", "tokens", "x", "label") if name in ds.schema.names]
        if len(ds) and names:
            loader = datapipe.DataLoader(
                ds.select(names), batch_size=16, prefetch=0, nulls=0, tail="partial", rank=0, world_size=1
            )
            for batch in loader:
                assert len(next(iter(batch.values()))) <= 16

    return check


def _footer(data: bytes) -> None:
    """Our own reading of an Arrow file's footer: a summary, or one of the errors that it names."""
    try:
        found = batch_summaries(io.BytesIO(data))
    except (ValueError, struct.error):
        return
    assert all(each.rows >= 0 and each.size >= 0 for each in found)


def _pages(data: bytes) -> None:
    """Our own reading of Parquet's page headers: pages, or IndexError; `_decompress_again` bears the latter."""
    try:
        for count, page in enumerate(pages(memoryview(data))):
            assert page.start >= 0
            assert count <= len(data), "pages without end"
    except (IndexError, ValueError):
        return


def _page_seeds() -> list[bytes]:
    found = []
    for data in _parquet_seeds():
        meta = pq.ParquetFile(io.BytesIO(data)).metadata
        for column in range(meta.num_columns):
            chunk = meta.row_group(0).column(column)
            first = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
            found.append(data[first : first + chunk.total_compressed_size])
    return found


def _ranges(data: bytes) -> None:
    """Any seeks and reads over any parts give the file's own bytes, or OSError or ValueError; never others."""
    whole = bytes(range(256)) * 4
    numbers = list(struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4]))
    cut = numbers[:8]
    spans = [(a % 1024, min(1024, a % 1024 + b % 200)) for a, b in zip(cut[::2], cut[1::2], strict=False)]
    joined = coalesce(spans, 16)
    file = ByteRanges(1024, [(a, memoryview(whole)[a:b]) for a, b in joined])
    rest = iter(numbers[8:])
    for where, size in zip(rest, rest, strict=False):
        try:
            at = file.seek(where % 3000 - 1000, abs(size) % 3)
            got = bytes(file.read(size % 600 - 50))
        except (OSError, ValueError):  # not at hand; before the beginning
            continue
        assert at >= 0, "read before the beginning"
        assert whole[at : at + len(got)] == got, "other bytes than the file's"


def _range_seeds() -> list[bytes]:
    numbers = [0, 100, 500, 150, 0, 50, 0, 9, *[520, 80] * 4]
    return [struct.pack("<20i", *range(0, 2000, 100)), struct.pack("<16i", *numbers)]


PARQUET = Target(seeds=_parquet_seeds, check=_corpus("a.parquet"), memory_mib=512)
PARQUET_DATASET = Target(seeds=_parquet_seeds, check=_dataset("a.parquet"), memory_mib=512)
ARROW = Target(seeds=_arrow_seeds, check=_corpus("a.arrow"), memory_mib=512)
ARROW_STREAM = Target(seeds=functools.partial(_arrow_seeds, stream=True), check=_corpus("a.arrow"), memory_mib=512)
ARROW_DATASET = Target(seeds=_arrow_seeds, check=_dataset("a.arrow"), memory_mib=512)
ARROW_FOOTER = Target(seeds=_arrow_seeds, check=_footer, memory_mib=64)
PARQUET_PAGES = Target(seeds=_page_seeds, check=_pages, memory_mib=64)
BYTE_RANGES = Target(seeds=_range_seeds, check=_ranges, memory_mib=64)
