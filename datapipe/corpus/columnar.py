"""Parquet and Arrow IPC (file and stream): row groups [start, end) of a file enter, its rows leave.

Invariant: a row's position is its number in the whole file, whatever the range; columns that nobody asked for are not
read. A damaged file gives the rows before the damage, then a fault; one cut short has lost its
footer and gives none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from datapipe.corpus.columns import batches_of, wanted
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.reasons import DAMAGED_FILE
from datapipe.errors import StorageError
from datapipe.parquet_chunks import check_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

_MOST_ROWS: Final = 8192
_ARROW_MAGIC: Final = b"ARROW1"


def read_parquet(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of row groups [piece.start, piece.end) of a Parquet file."""
    import pyarrow.parquet as pq

    with _faults(), store.open(piece.file.path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        meta = file.metadata
        names = wanted(file.schema_arrow, options)
        end = meta.num_row_groups if piece.end is None else piece.end
        row = sum(meta.row_group(group).num_rows for group in range(piece.start))
        for group in range(piece.start, end):
            here = meta.row_group(group)
            # Bounded by the average row; `batches_of` then cuts by what the rows really are.
            each = max(1, here.total_byte_size // max(1, here.num_rows))
            size = max(1, min(_MOST_ROWS, options.max_batch_bytes // each))
            for batch in file.iter_batches(size, row_groups=[group], columns=names, use_threads=False):
                yield from batches_of(batch, row, piece.file.name, options)
                row += batch.num_rows


def read_arrow(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of record batches [piece.start, piece.end) of an Arrow IPC file, or of a whole stream."""
    import pyarrow as pa

    with _faults(), _arrow_source(store, piece.file.path) as source:
        whole = piece.start == 0 and piece.end is None
        if source.read(len(_ARROW_MAGIC)) != _ARROW_MAGIC:
            assert whole, "an Arrow stream is not cut"
            source.seek(0)
            yield from _stream_rows(pa.ipc.open_stream(source), piece, options)
            return
        source.seek(0)
        reader = pa.ipc.open_file(source)
        names = wanted(reader.schema, options)
        end = reader.num_record_batches if piece.end is None else piece.end
        row = sum(reader.get_batch(number).num_rows for number in range(piece.start))
        for number in range(piece.start, end):
            batch = reader.get_batch(number)
            yield from batches_of(batch.select(names), row, piece.file.name, options)
            row += batch.num_rows


def _stream_rows(reader: Any, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    names = wanted(reader.schema, options)
    row = 0
    for batch in reader:
        yield from batches_of(batch.select(names), row, piece.file.name, options)
        row += batch.num_rows


def row_group_sizes(store: Store, path: str, format: str) -> list[int] | None:  # noqa: A002  (it is called so everywhere)
    """Stored bytes of each row group or record batch; None where a file is not cut: a stream, or a damaged one.

    An Arrow file is cut only where it can be mapped: to know the rows before a batch, its predecessors are looked at.

    Raises:
        StorageError: the file cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _faults():
            if format == "parquet":
                with store.open(path) as source:
                    meta = pq.ParquetFile(source).metadata
                    check_chunks(meta, store.info(path).size)
                    groups = [meta.row_group(group) for group in range(meta.num_row_groups)]
                return [
                    max(1, sum(here.column(c).total_compressed_size for c in range(here.num_columns)))
                    for here in groups
                ]
            local = store.local_path(path)
            if local is None:
                return None
            with pa.memory_map(local) as source:
                if source.read(len(_ARROW_MAGIC)) != _ARROW_MAGIC:
                    return None
                source.seek(0)
                count = pa.ipc.open_file(source).num_record_batches
                return [max(1, source.size() // max(1, count))] * count
    except FileFault:
        return None  # its reader will say what is wrong with it


@contextlib.contextmanager
def _arrow_source(store: Store, path: str) -> Iterator[Any]:
    import pyarrow as pa

    local = store.local_path(path)
    if local is None:
        with store.open(path) as source:
            yield source
        return
    store.open(path).close()  # Arrow's own errors would not tell a missing file from a forbidden one
    with pa.memory_map(local) as source:
        yield source


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Arrow's errors as ours."""
    import pyarrow as pa

    try:
        yield
    except (FileFault, StorageError):
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # The disk's own word, not Arrow's: not the file's fault, and no reason to lose its rows.
            raise StorageError(f"reading failed: {error.strerror}") from error
        raise FileFault(DAMAGED_FILE, (str(error).splitlines() or [type(error).__name__])[0]) from None
