"""What a Parquet footer says of its column chunks, asked so that a damaged one is an error and not the process's end.

What enters: metadata that nobody vouches for. What leaves: nothing, or ValueError; a chunk's statistics. Invariant:
after `check_chunks` no question about a chunk ends the process.

pyarrow (26.0) describes a chunk by C++ calls that may throw and are not declared so: where a footer's
statistics of sizes do not fit its schema, or a chunk is of another type, `RowGroupMetaData.column` and
`ColumnChunkMetaData.statistics` abort the process. To buffer chunks ahead Arrow goes through all of them, where its
errors are caught: that is asked for here, of a file that has no bytes, and its first read says that all was well.
On the lowest floor, as readers of raw inputs and of datasets need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.sized_file import SizedFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq


@final
class _ReachedError(OSError):
    """The chunks have been gone through, and a first one is read."""


@final
class _Unread(SizedFile):
    """A file of so many bytes, none of which can be read."""

    def read(self, n: int = -1) -> bytes:
        raise _ReachedError(f"{n} bytes")


def check_chunks(meta: pq.FileMetaData, size: int, leaves: Sequence[int] | None = None) -> None:
    """Refuse metadata some of whose column chunks cannot be described; 1 µs for each.

    Args:
        size: bytes of the file. leaves: the stored columns to look at (of encrypted ones there may be no key); all.

    Raises:
        ValueError: a chunk contradicts the schema, or lies beyond the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(range(meta.num_columns) if leaves is None else leaves)
    if not meta.num_row_groups or not wanted:
        return
    file = pq.ParquetFile(pa.PythonFile(_Unread(size), mode="r"), metadata=meta, pre_buffer=True)
    groups = list(range(meta.num_row_groups))
    try:
        for _ in file.reader.iter_batches(1, row_groups=groups, column_indices=wanted, use_threads=False):
            break
    except _ReachedError as reached:
        # Arrow keeps the error as long as the reader, and by its traceback the callers' frames and all that they hold.
        reached.__traceback__ = None
        return
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"its column chunks are damaged ({said[0]})") from None
    finally:
        del file


def physical_types(meta: pq.FileMetaData) -> list[str]:
    """The physical type of each stored column, as the schema has it."""
    return [meta.schema.column(leaf).physical_type for leaf in range(meta.num_columns)]


def statistics_of(chunk: Any, kind: str) -> pq.Statistics | None:
    """A checked chunk's statistics; None where it has none, or is not of its column's physical type."""
    return chunk.statistics if chunk.physical_type == kind else None
