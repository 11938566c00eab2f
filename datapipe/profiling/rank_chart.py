"""Ranks × parts of the step as a shaded table, for a page.

What enters: `Ranks`. What leaves: column names, and per rank its cells as (ns, shade 0 to 4).
Invariant: a shade follows from how far the cell lies above the least of its column, against the mean step: a column
that all ranks share evenly has no shade, however large it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.ranks_terminal import shown_columns

if TYPE_CHECKING:
    from datapipe.profiling.ranks import Ranks

MOST_ROWS: Final = 128
"""Ranks shown; of a larger job the latest ones."""
SHADES: Final = (0.01, 0.03, 0.10, 0.25)
"""Shares of the mean step above the column's least from which a cell has shade 1, 2, 3 and 4."""


@final
@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """`names`: the columns; `rows`: (rank, cells as (ns, shade)), the last cell the step; `lines`: what it says."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float, int], ...]], ...]
    lines: tuple[str, ...]


def heat_map(ranks: Ranks | None) -> HeatMap | None:
    """The heat map of a job; None where there was one process."""
    if ranks is None or not ranks.rows:
        return None
    names, values = shown_columns(ranks)
    table = [(*row, of.step) for row, of in zip(values, ranks.rows, strict=True)]
    shown = sorted(sorted(range(len(table)), key=lambda i: -ranks.rows[i].late)[:MOST_ROWS])
    least = [min(column) for column in zip(*table, strict=True)]
    step = sum(of.step for of in ranks.rows) / len(ranks.rows)
    rows = tuple(
        (
            f"{of.rank}{' (late)' if of.rank in ranks.stragglers else ''}",
            tuple((value, _shade(value - low, step)) for value, low in zip(row, least, strict=True)),
        )
        for of, row in ((ranks.rows[i], table[i]) for i in shown)
    )
    left = len(table) - len(shown)
    more = (f"{left:,} ranks that are less late are not shown.",) if left else ()
    return HeatMap(names=(*names, "step"), rows=rows, lines=(ranks.sentence, *ranks.evidence, *more))


def _shade(above: float, step: float) -> int:
    return sum(above >= least * step for least in SHADES) if step > 0 else 0
