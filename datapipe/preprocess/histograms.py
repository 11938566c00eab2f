"""What came in and what went out, by length and by language, and what each rule took: from stored signals.

What enters: the signals files of a run. What leaves: counts. Invariant: one split is in memory at a time; the bins of a
histogram sum to the rows it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.split_fates import KEPT, Fates, split_fates

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.split_fates import SplitFates
    from datapipe.preprocess.stored_run import StoredRun

LANGUAGE: Final = "language"
BINS: Final = 40


@final
@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one rule took: rows and their bytes. kind: "drop", "duplicate" or "quarantine"."""

    step: str
    kind: str
    reason: str
    rows: int
    bytes: int


@final
@dataclass(frozen=True, kw_only=True)
class Histograms:
    """See the module.

    Attributes:
        taken: in the order of the recipe's steps, the reader first; by rows within a step.
        lengths: (bytes below which a bin ends, documents in, documents kept), ascending; bins double. Empty where no
            row has a length, as rows of a table.
        tokens: the same for tokens of kept documents, in and kept alike; empty where they have none.
        languages: (language, documents in, documents kept), most first; "" where none was told.
        bytes_in, bytes_kept: of raw content, where it is known.
    """

    taken: tuple[Taken, ...]
    lengths: tuple[tuple[int, int, int], ...]
    tokens: tuple[tuple[int, int, int], ...]
    languages: tuple[tuple[str, int, int], ...]
    bytes_in: int
    bytes_kept: int


def histograms(run: StoredRun) -> Histograms:
    """Count the rows of all splits.

    Raises:
        IntegrityError: a signals file is damaged.
    """
    fates = Fates()
    count = _Count()
    for split in run.files:
        count.add(split_fates(run, split, fates, [LANGUAGE]))
    order = {step.name: step.place for step in reversed(run.steps)}
    taken = [
        Taken(step=fate.step, kind=fate.kind, reason=fate.reason, rows=count.rows[i], bytes=count.bytes.get(i, 0))
        for i, fate in enumerate(fates.known)
        if count.rows.get(i)
    ]
    taken.sort(key=lambda each: (order.get(each.step, -1), -each.rows, each.reason))
    return Histograms(
        taken=tuple(taken),
        lengths=_shown(count.lengths) if count.bytes_in else (),
        tokens=_shown(count.tokens),
        languages=tuple(
            sorted(
                ((name, came, kept) for name, (came, kept) in count.languages.items()),
                key=lambda each: (-each[1], each[0]),
            )
        ),
        bytes_in=count.bytes_in,
        bytes_kept=count.bytes_kept,
    )


@final
@dataclass
class _Count:
    rows: dict[int, int] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    languages: dict[str, list[int]] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_kept: int = 0
    lengths: list[list[int]] = field(default_factory=lambda: [[0] * BINS, [0] * BINS])
    tokens: list[list[int]] = field(default_factory=lambda: [[0] * BINS, [0] * BINS])

    def add(self, split: SplitFates) -> None:
        import numpy as np

        kept = split.fate == KEPT
        for number, n in split.unread.items():
            self.rows[number] = self.rows.get(number, 0) + n
        for number in np.unique(split.fate[~kept]).tolist():
            mine = split.fate == number
            self.rows[number] = self.rows.get(number, 0) + int(mine.sum())
            self.bytes[number] = self.bytes.get(number, 0) + int(split.bytes[mine].sum())
        self.bytes_in += int(split.bytes.sum())
        self.bytes_kept += int(split.bytes[kept].sum())
        _count_into(self.lengths[0], split.bytes)
        _count_into(self.lengths[1], split.bytes[kept])
        known = kept & (split.tokens >= 0)
        for into in self.tokens:
            _count_into(into, split.tokens[known])
        self._languages(split, kept)

    def _languages(self, split: SplitFates, kept: npt.NDArray[np.bool_]) -> None:
        import pyarrow.compute as pc

        for stage in split.stages:
            if LANGUAGE not in stage.table.column_names:
                continue
            coded = pc.fill_null(stage.table.column(LANGUAGE), "").combine_chunks()
            for which, rows in ((0, coded), (1, coded.filter(_mask(kept[stage.position])))):
                for name, n in zip(*_counts(rows), strict=True):
                    self.languages.setdefault(name, [0, 0])[which] += n
            return


def _mask(values: npt.NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return pa.array(values)


def _counts(values: Any) -> tuple[list[str], list[int]]:
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    found = values.value_counts()
    return found.field("values").to_pylist(), found.field("counts").to_pylist()


def _count_into(bins: list[int], values: npt.NDArray[np.int64]) -> None:
    """Add counts to bins: bin b holds the values from 2^(b-1) to 2^b - 1, bin 0 the zeros."""
    import numpy as np

    # frexp's exponent of v is the number of its binary digits, exactly, below 2^53.
    digits = np.frexp(values.astype(np.float64))[1] if len(values) else np.zeros(0, np.int64)
    for number, n in enumerate(np.bincount(np.minimum(digits, BINS - 1), minlength=BINS).tolist()):
        bins[number] += n


def _shown(bins: Iterable[list[int]]) -> tuple[tuple[int, int, int], ...]:
    """(end of the bin, in, kept) from the first to the last bin with a row."""
    came, kept = bins
    full = [number for number, n in enumerate(came) if n]
    if not full:
        return ()
    return tuple((1 << number, came[number], kept[number]) for number in range(full[0], full[-1] + 1))
