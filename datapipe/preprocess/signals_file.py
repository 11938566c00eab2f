"""What became of each row of a map task, and what steps measured of it: one Parquet file beside the shards.

What enters: the events of a task: rows that ran through its steps, rows that drop lists name, rows the reader could not
read. What leaves: `index/signals/<checksum>.signals`, zstd Parquet, a row per row. Invariant: the file is a function of
the rows and the steps; memory is that of one row group.

The task that reads the corpus writes every row, later ones the rows that went and those that they measured; the rows of
one split are joined by `position`. Columns, null where there is nothing to say:

    row_id                                 string, in the task that reads the corpus
    position                               uint32, place in the split; null where the reader made no row of it
    bytes                                  uint32, of the row's raw content, picture or sound (or text), as it was read
    step, kind, reason, detail             why the row went: kind is drop, duplicate or quarantine
    survivor_split, survivor_position      uint32, the row that it repeats
    language, n_tokens, <step>.<signal>    what steps measured
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.corpus.options import MEDIA
from datapipe.errors import StepError
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.suppression import REASON, STEP
from datapipe.steps.row_fates import FATE
from datapipe.steps.step import LABELS

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.corpus import Quarantined
    from datapipe.preprocess.stage import Removal
    from datapipe.preprocess.tasks import OutputFile
    from datapipe.preprocess.work import WorkFolder
    from datapipe.steps import Ran

SIGNALS: Final = "signals"
ROW_GROUP: Final = 65_536
"""Rows. At 100 bytes a row 6 MB are held."""
READ_STEP: Final = "read"
"""What is named as the step of rows that the reader quarantined."""


def base_fields() -> dict[str, pa.DataType]:
    """The columns that every file has, with their types."""
    import pyarrow as pa

    return {
        "row_id": pa.string(),
        "position": pa.uint32(),
        "bytes": pa.uint32(),
        **{name: pa.string() for name in FATE},
        "survivor_split": pa.uint32(),
        "survivor_position": pa.uint32(),
    }


@final
class SignalsFile:
    """Written event by event, in the task's order."""

    def __init__(self, work: WorkFolder, stack: contextlib.ExitStack, *, corpus: bool, withheld: bool = False) -> None:
        """`corpus`: whether the task reads the corpus; `stack` ends what is open, whatever happens.

        `withheld`: nothing that could be a row's own words is told: no detail, and no text that a step measured but the
        language.
        """
        self._withheld = withheld
        self._work = work
        self._corpus = corpus
        self._path = stack.enter_context(work.scratch_file(SIGNALS))
        self._fields = base_fields()
        self._settled = False  # whether the columns are known: they are once rows ran through the steps
        self._held: list[pa.Table] = []
        self._rows = 0
        self._writer: Any = None
        stack.callback(self._close)

    def ran(self, ran: Ran, table: pa.Table) -> None:
        """Rows that went through the steps; `table`: as they went in, with their positions."""
        import pyarrow as pa
        import pyarrow.compute as pc

        fates = ran.signals if self._corpus or ran.measured or ran.marked.num_rows else None
        if fates is None:
            return
        extra = [name for name in fates.column_names if name not in ("row_id", *FATE)]
        if self._withheld:
            extra = [name for name in extra if name in LABELS or _is_number(fates.schema.field(name).type)]
        if not self._settled:
            self._fields |= {name: _stored(fates.schema.field(name).type) for name in extra}
            self._settled = True
        columns = {name: fates.column(name) for name in (*FATE, *extra)}
        columns["position"] = table.column(POSITION)
        if self._corpus:
            columns["row_id"] = fates.column("row_id")
            size = _bytes_of(table)
            if size is not None:
                columns["bytes"] = size
        events = pa.table(columns)
        if not self._corpus and not extra:
            events = events.filter(pc.is_valid(events.column("kind")))
        self._add(events)

    def removed(self, lost: Sequence[tuple[pa.Table, Removal, npt.NDArray[np.int64]]]) -> None:
        """Rows of one batch that drop lists name; by list: rows, removal, (split, position) of what each lost to.

        They are written by position: how many lists they were on (a matter of memory) is not to be seen.
        """
        import numpy as np
        import pyarrow as pa

        parts = []
        for table, removal, survivors in lost:
            n = table.num_rows
            fate = {"step": removal.step, "kind": removal.kind, "reason": removal.reason}
            parts.append(
                pa.table(
                    {
                        "position": table.column(POSITION),
                        **{name: pa.repeat(pa.scalar(value, pa.string()), n) for name, value in fate.items()},
                        "survivor_split": pa.array(survivors[:, 0].astype(np.uint32)),
                        "survivor_position": pa.array(survivors[:, 1].astype(np.uint32)),
                    }
                )
            )
        if parts:
            self._add(pa.concat_tables(parts).sort_by("position"))

    def unreadable(self, rows: Sequence[Quarantined]) -> None:
        """Rows that the reader could not make a row of."""
        import pyarrow as pa

        if not rows:
            return
        n = len(rows)
        self._add(
            pa.table(
                {
                    "row_id": pa.array([row.row_id for row in rows], pa.string()),
                    "step": pa.repeat(pa.scalar(READ_STEP, pa.string()), n),
                    "kind": pa.repeat(pa.scalar("quarantine", pa.string()), n),
                    "reason": pa.array([row.reason for row in rows], pa.string()),
                    "detail": pa.array([row.detail for row in rows], pa.string()),
                }
            )
        )

    def erased(self, positions: pa.ChunkedArray) -> None:
        """Rows that have been erased: that there was one, at this place, and nothing else."""
        import pyarrow as pa

        fate = {"step": STEP, "kind": "drop", "reason": REASON}
        columns = {name: pa.repeat(pa.scalar(value, pa.string()), len(positions)) for name, value in fate.items()}
        self._add(pa.table({"position": positions, **columns}))

    def poisoned(self, marks: pa.Table, table: pa.Table) -> None:
        """Rows that are left out for the harm they do: their fates, and the rows as they were read."""
        import pyarrow as pa

        columns = {name: marks.column(name) for name in FATE} | {"position": table.column(POSITION)}
        if self._corpus:
            columns["row_id"] = table.column("row_id")
            size = _bytes_of(table)
            if size is not None:
                columns["bytes"] = size
        self._add(pa.table(columns))

    def finish(self) -> OutputFile | None:
        """Store the file; None where no row has anything to say."""
        self._settled = True
        while self._rows:
            self._write(min(self._rows, ROW_GROUP))
        if self._writer is None:
            return None
        self._close()
        return self._work.keep_file(SIGNALS, self._path)

    def _add(self, events: pa.Table) -> None:
        if events.num_rows:
            if self._withheld and "detail" in events.column_names:
                events = events.drop_columns(["detail"])
            self._held.append(events)
            self._rows += events.num_rows
            # Row groups are cut by count, not by batch: the bytes do not depend on how the rows came.
            while self._settled and self._rows >= ROW_GROUP:
                self._write(ROW_GROUP)

    def _write(self, rows: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(list(self._fields.items()))
        whole = pa.concat_tables([_conform(part, schema) for part in self._held]).combine_chunks()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, **writing(schema))
        self._writer.write_table(whole.slice(0, rows), row_group_size=rows)
        rest = whole.slice(rows)
        self._held = [rest] if rest.num_rows else []
        self._rows = rest.num_rows

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def writing(schema: pa.Schema) -> dict[str, Any]:
    """How a signals file is written, as pyarrow takes it."""
    import pyarrow as pa

    return {
        "compression": "zstd",
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type) and f.name != "row_id"],
        # Ids of a file share their beginning, and positions ascend.
        "column_encoding": {"row_id": "DELTA_BYTE_ARRAY", "position": "DELTA_BINARY_PACKED"},
        "write_page_checksum": True,
    }


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type a measured column is stored as: words as string, numbers as they are."""
    import pyarrow as pa

    return kind if _is_number(kind) else pa.string()


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _conform(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """The events with all columns of the file."""
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in part.column_names:
            columns.append(pa.nulls(part.num_rows, field.type))
            continue
        values = part.column(field.name)
        try:
            columns.append(values if values.type == field.type else values.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise StepError(
                f"the signal {field.name!r} came as {values.type} after {field.type} ({error})",
                expected="one type in every batch",
                fix="convert the column in the step that measures it",
            ) from None
    return pa.table(columns, schema=schema)


def _bytes_of(table: pa.Table) -> Any:
    """Bytes of each row's content: of `raw`, else of the encoded media, else of `text`; None where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.columns import text_lengths

    media = [field.name for field in table.schema if field.name in MEDIA and pa.types.is_large_binary(field.type)]
    found = [text_lengths(table, name) for name in ("raw", *media, "text")]
    sizes = [lengths.cast(pa.uint32()) for lengths in found if lengths is not None]
    return pc.coalesce(*sizes) if sizes else None
