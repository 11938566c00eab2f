"""The step contract: a typed callable, Arrow table → Arrow table, with a name, a version, options and drop reasons.

A step is pure: the same table, options and keys give the same rows, on any worker, offline and online. It never removes
a row on its own: it *marks* it, by a reason in the column `drop_reason` (or `quarantine_reason` for bad data), and
whoever runs the step counts the mark and removes the row. So every dropped row has a counted reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

DROP = "drop_reason"
QUARANTINE = "quarantine_reason"
DETAIL = "mark_detail"
"""What a step has to say of a marked row beside the reason (the word that was found): string, null elsewhere."""
ROW_ID = "row_id"
LABELS = ("language", "n_tokens")
"""Columns that stay with the rows and are, like signals, also kept beside the shards, for rows that went as well."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What random steps draw from, with the row id: nothing else may enter a draw."""

    seed: int = 0
    epoch: int = 0


class Step(Protocol):
    """One step, its options bound. `resource` paths (a tokenizer) are part of the options."""

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Rows in, the same rows out (a `reshape` step apart), some of them marked."""
        ...


Kind = Literal["map", "reshape", "global"]
"""map: row by row, in order. reshape: documents in, other rows out (packing). global: needs every row of the corpus;
what runs over it is `preprocess`, and the step itself is the row-by-row half (a hash, a sample)."""


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """What the registry holds of a step.

    Attributes:
        name: as a recipe writes it; a rule that exists in several variants names its own ("gopher_quality@whitespace").
        version: raised whenever the rows a step gives may change: it is part of the task key.
        options: a frozen, keyword-only dataclass; every field has a default.
        reasons: every drop or quarantine reason the step may mark.
        needs: columns it reads; gives: columns it adds or rewrites.
        build: options → the callable; heavy imports happen in here.
        summary: one line, for `--help` and the printed plan.
        signals: columns of numbers that the step adds for every row, marked or not, and that the runner takes out of
            the table again and stores beside the shards: what the step measured. Named "<short>.<name>".
        counters: those of the signals that are summed over all rows for the report ("pii.email").
        judge: (signals, options) → reasons string[n], null where a row stays. Where given, the drop marks of the step
            are exactly what it says, so that stored signals can be judged again under other thresholds. Such a step
            rewrites no column that `judge` steps after it read: a run of them is measured on the same rows.
        measured_by: options that the signals depend on (a list of words, the n of n-grams): under another value of one
            of them the stored signals say nothing. All others are thresholds, which `judge` alone reads.
        resources: options that name local files (a text, or a list of them): their content, not their path, is part
            of the task key, and a worker is given paths of its own.
        resolve: (spec, options) → the spec with these options bound, for a step of which they name the columns it reads
            and adds, or whether it has still to see the whole corpus. `resolved` calls it.
        idle: with the options bound it leaves every row as it is (a join of no files): no stage runs it.
        sieve: of a step that makes other rows: options → a step that marks, row by row, those of which nothing would be
            made. It runs where rows are still told by the place where they were read.
        row_bytes: options → bytes that the step makes of each row, of a step that makes many times what it is given
            (pixels): so few rows are run at once that there is room for them.
    """

    name: str
    version: int
    kind: Kind
    options: type[Any]
    build: Callable[[Any], Step]
    summary: str
    reasons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    judge: Callable[[pa.Table, Any], pa.Array] | None = None
    measured_by: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resolve: Callable[[StepSpec, Any], StepSpec] | None = None
    idle: bool = False
    sieve: Callable[[Any], Step] | None = None
    row_bytes: Callable[[Any], int] | None = None

    def resolved(self, options: Any) -> StepSpec:
        """The spec of the step with these options bound: what it then needs, gives and is."""
        return self if self.resolve is None else self.resolve(self, options)
