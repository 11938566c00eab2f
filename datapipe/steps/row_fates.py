"""What steps said of the rows of one table: marks, measurements, counts.

What enters: each step's result, its marks and signals still in it. What leaves: the result without them, and at the
end two tables: the marked rows, and one row per row of the input with its fate and all that was measured of it.
Invariant: a row is marked at most once, by the first step that marks it; nothing here runs a Python loop over rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import StepError
from datapipe.steps.columns import TEXT, row_ids
from datapipe.steps.step import DETAIL, DROP, LABELS, QUARANTINE, ROW_ID
from datapipe.steps.step_checks import MARKS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.registry import BoundStep

DROPPED: Final = "drop"
QUARANTINED: Final = "quarantine"
FATE: Final = ("step", "kind", "reason", "detail")
"""Columns that say what became of a row; null where it came through."""
HEAD: Final = 200
"""Characters of a marked row's text that are kept, to show."""


@final
class RowFates:
    """Fed step by step; the rows it is given between steps are those that no step has marked."""

    def __init__(self, table: pa.Table) -> None:
        self._ids = row_ids(table) if ROW_ID in table.column_names else None
        # Places in the input of the rows that are left; None: all of them. "lost" once a reshape step made other rows.
        self._left: npt.NDArray[np.int64] | None = None
        self._lost = False
        self._open: npt.NDArray[np.bool_] | None = None
        self._marks: list[tuple[npt.NDArray[np.int64] | None, pa.Table]] = []
        self._signals: dict[str, tuple[npt.NDArray[np.int64] | None, Any]] = {}
        self._heads: list[tuple[Any, Any]] = []
        self.counters: dict[str, int] = {}

    def unmarked(self, table: pa.Table) -> int:
        """Rows of `table` that no step has marked."""
        return table.num_rows if self._open is None else int(self._open.sum())

    def take(self, result: pa.Table, step: BoundStep) -> pa.Table:
        """Take a step's signals and marks out of its result; marked rows stay until `close`.

        Raises:
            StepError: a reason that the step does not declare.
        """
        if step.spec.kind == "reshape":
            self._lost = True
        for name in step.spec.signals:
            if name in result.column_names:
                self._measured(name, result.column(name), step)
        for name in LABELS:
            if name in step.spec.gives and name in result.column_names and not self._lost:
                self._signals[name] = (self._left, result.column(name))
        detail = result.column(DETAIL) if DETAIL in result.column_names else None
        for name, kind in ((QUARANTINE, QUARANTINED), (DROP, DROPPED)):
            if name in result.column_names:
                self._mark(result, result.column(name), detail, step, kind)
        gone = [name for name in (*MARKS, *step.spec.signals) if name in result.column_names]
        return result.drop_columns(gone) if gone else result

    def close(self, table: pa.Table) -> pa.Table:
        """The rows of `table` that are unmarked."""
        import numpy as np
        import pyarrow as pa

        if self._open is None:
            return table
        stays, self._open = self._open, None
        if not self._lost:
            self._left = np.flatnonzero(stays) if self._left is None else self._left[stays]
        return table.filter(pa.array(stays))

    @property
    def measured(self) -> bool:
        """Whether any step measured anything of the rows."""
        return bool(self._signals)

    def marked(self) -> pa.Table:
        """`row_id`, then `FATE`: all string, in the order of the steps; of one step, quarantined rows first."""
        import pyarrow as pa

        schema = pa.schema([(name, pa.string()) for name in (ROW_ID, *FATE)])
        return pa.concat_tables([schema.empty_table(), *(table for _, table in self._marks)])

    def heads(self) -> dict[str, str]:
        """By row id, how the text began that the step saw by which the row went; rows without a text are not in it."""
        return {
            row_id: head
            for ids, heads in self._heads
            for row_id, head in zip(ids.to_pylist(), heads.to_pylist(), strict=True)
            if head
        }

    def table(self) -> pa.Table:
        """One row per row of the input, in order: `row_id`, `FATE`, signals and `LABELS` (null where not measured)."""
        import numpy as np
        import pyarrow as pa

        assert self._ids is not None  # no step runs without
        n = len(self._ids)
        columns = {ROW_ID: self._ids}
        marks = [(places, table) for places, table in self._marks if places is not None]
        if marks:
            fates = pa.concat_tables([table for _, table in marks]).combine_chunks()
            where = _scattered(np.concatenate([places for places, _ in marks]), n)
            columns |= {name: fates.column(name).take(where) for name in FATE}
        else:
            columns |= {name: pa.nulls(n, pa.string()) for name in FATE}
        for name, (left, values) in self._signals.items():
            columns[name] = values if left is None else values.take(_scattered(left, n))
        return pa.table(columns)

    def _measured(self, name: str, values: pa.ChunkedArray, step: BoundStep) -> None:
        import pyarrow.compute as pc

        if name in step.spec.counters:
            self.counters[name] = self.counters.get(name, 0) + int(pc.sum(values).as_py() or 0)
        if self._lost:
            return
        # A step that comes twice measures twice: "#2" is the second time.
        again = sum(each == name or each.startswith(f"{name}#") for each in self._signals)
        self._signals[f"{name}#{again + 1}" if again else name] = (self._left, values)

    def _mark(self, result: pa.Table, given: Any, detail: Any, step: BoundStep, kind: str) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if given.null_count == len(given):
            return
        undeclared = sorted(set(pc.unique(given.drop_null()).to_pylist()) - set(step.spec.reasons))
        if undeclared:
            raise StepError(
                f"{step.name} marked rows by {', '.join(map(repr, undeclared))}",
                expected=f"a declared reason: {', '.join(step.spec.reasons) or 'it declares none'}",
                fix="add the reason to the step's spec",
            )
        if self._open is None:
            self._open = np.ones(result.num_rows, bool)
        fresh = np.flatnonzero(given.is_valid().to_numpy() & self._open)
        if not len(fresh):
            return
        self._open[fresh] = False
        rows = pa.array(fresh)
        marks = pa.table(
            {
                ROW_ID: row_ids(result).take(rows),
                "step": pa.repeat(pa.scalar(step.name, pa.string()), len(fresh)),
                "kind": pa.repeat(pa.scalar(kind, pa.string()), len(fresh)),
                "reason": given.take(rows).cast(pa.string()),
                "detail": pa.nulls(len(fresh), pa.string()) if detail is None else detail.take(rows).cast(pa.string()),
            }
        )
        text = result.column(TEXT) if TEXT in result.column_names else None
        if text is not None and (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
            self._heads.append((marks.column(ROW_ID), pc.utf8_slice_codeunits(text.take(rows), 0, HEAD)))
        places = None if self._lost else fresh if self._left is None else self._left[fresh]
        self._marks.append((places, marks))


def _scattered(places: npt.NDArray[np.int64], n: int) -> pa.Array:
    """Indices that take row i of a table to row places[i] of n, and null to every other."""
    import numpy as np
    import pyarrow as pa

    where = np.full(n, -1, np.int64)
    where[places] = np.arange(len(places))
    return pa.array(where, mask=where < 0)
