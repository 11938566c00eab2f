"""Rows between two stages: an Arrow IPC file, zstd, one record batch per batch that was read; encrypted if need be.

What enters: tables of one set of columns. What leaves: the same rows in the same order. Invariant: the same tables give
the same bytes; a file whose columns would differ from batch to batch is refused with the columns named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.errors import IntegrityError, SchemaError
from datapipe.preprocess.sealed_file import SealedSink, SealedSource, is_sealing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import pyarrow as pa

    from datapipe.storage import Store


@final
class RowsWriter:
    """Writes tables to a local path; the schema is the first one's. `rows` counts what was written."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sink: Any = None
        self._writer: Any = None
        self.schema: pa.Schema | None = None
        self.rows = 0

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the file; a second call does nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            finally:
                self._sink.close()

    def write(self, table: pa.Table, *, empty: bool = False) -> None:
        """Append a table as one record batch; one without rows only if `empty` says so: batches may be counted."""
        import pyarrow as pa

        if not table.num_rows and not empty:
            return
        if self._writer is None:
            self.schema = table.schema.remove_metadata()
            self._sink = SealedSink(self._path) if is_sealing() else pa.OSFile(self._path, "wb")
            options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
            self._writer = pa.ipc.new_file(self._sink, self.schema, options=options)
        table = conform(table, self.schema)
        none = [pa.RecordBatch.from_pylist([], self.schema)]
        for batch in table.combine_chunks().to_batches() or none:
            self._writer.write_batch(batch)
        self.rows += table.num_rows


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns, order and types of `schema`.

    Raises:
        SchemaError: a column is missing, extra or of a type that does not convert without loss.
    """
    import pyarrow as pa

    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    if sorted(table.column_names) != sorted(schema.names):
        odd = sorted(set(table.column_names) ^ set(schema.names))
        raise SchemaError(
            f"rows with the columns {', '.join(table.column_names)} after rows with {', '.join(schema.names)}",
            expected="the same columns in every input",
            fix=f"give the inputs the column {odd[0]!r}, or leave it out of input.columns",
        )
    try:
        found = table.select(schema.names).cast(schema).replace_schema_metadata(None)
        _check_lossless(table, found)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise SchemaError(
            f"rows of another type than those before them: {error}",
            expected=", ".join(f"{f.name}: {f.type}" for f in schema),
            fix="convert the column in the input, or leave it out of input.columns",
        ) from None
    return found


def _check_lossless(table: pa.Table, found: pa.Table) -> None:
    """Compare what was cast with what it was: Arrow rounds 0.1 to float32, and reads "007" as 7, without a word.

    Raises:
        ArrowInvalid: a column is another by now, or cannot be cast back.
    """
    import pyarrow as pa

    for field in found.schema:
        before, after = table.column(field.name), found.column(field.name)
        if before.type == after.type or pa.types.is_null(before.type):
            continue
        back = after.cast(before.type)
        # NaN is not equal to itself: what must be the same is that it is one.
        same = back.equals(before) or back.cast(pa.string()).equals(before.cast(pa.string()))
        if not same:
            raise pa.ArrowInvalid(f"{field.name!r} changes as it is cast from {before.type} to {after.type}")


def _opened(store: Store, path: str, local: str | None) -> Any:
    """The file to read: mapped where it can be, decrypted where it must be."""
    import pyarrow as pa

    if not is_sealing():
        return pa.memory_map(local) if local is not None else store.open(path)
    return pa.PythonFile(SealedSource(store.open(path), path), mode="r")


def read_rows(
    store: Store, path: str, columns: Sequence[str] | None = None, *, first: int = 0
) -> Iterator[pa.Table]:  # fmt: skip
    """The record batches of a rows file, in order, from number `first` on; `columns` None: all.

    Raises:
        IntegrityError: the file is damaged or cut short.
    """
    import pyarrow as pa

    local = store.local_path(path)
    try:
        with _opened(store, path, local) as source:
            options = pa.ipc.IpcReadOptions(use_threads=False)
            if columns is not None:
                names = pa.ipc.open_file(source).schema.names
                options = pa.ipc.IpcReadOptions(
                    use_threads=False, included_fields=[names.index(name) for name in columns]
                )
            reader = pa.ipc.open_file(source, options=options)
            for number in range(first, reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} cannot be read ({error})", expected="a whole rows file", fix="run again with --fresh"
        ) from error
