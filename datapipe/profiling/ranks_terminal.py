"""A job's ranks for a terminal: who is late, in what, and a table of ranks × stages.

What enters: `Ranks`. What leaves: rich renderables, for `terminal.render` to put above the one rank's own ledger.
Invariant: every rank has a row up to the cap, and beyond it those that are latest; of the columns those are shown in
which the ranks differ most, and the others summed as "rest", so that a row adds up to its step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from rich.text import Text

    from datapipe.profiling.ranks import Ranks

_MOST_ROWS: Final = 16
_MOST_COLUMNS: Final = 4


def rank_items(ranks: Ranks, visible: Callable[[str], str]) -> list[Text | Table]:
    """What the merged verdict rests on, and the table."""
    from rich.text import Text

    items: list[Text | Table] = [Text(f"  {visible(line)}", style="dim") for line in ranks.evidence]
    if ranks.rows:
        items.append(_table(ranks, visible))
    return items


def shown_columns(ranks: Ranks) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """The columns of `Ranks.table` in which the ranks are furthest apart, and "rest" (ns a step)."""
    names, rows = ranks.table()
    apart = sorted(range(len(names)), key=lambda c: min(row[c] for row in rows) - max(row[c] for row in rows))
    kept, left = sorted(apart[:_MOST_COLUMNS]), apart[_MOST_COLUMNS:]
    chosen = tuple(names[c] for c in kept) + (("rest",) if left else ())
    return chosen, tuple(tuple(row[c] for c in kept) + ((sum(row[c] for c in left),) if left else ()) for row in rows)


def _table(ranks: Ranks, visible: Callable[[str], str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names, cells = shown_columns(ranks)
    rows = list(zip(ranks.rows, cells, strict=True))
    if len(rows) > _MOST_ROWS:
        rows = sorted(rows, key=lambda pair: -pair[0].late)[:_MOST_ROWS]
    title = f"ranks · {len(ranks.rows)} of {ranks.world_size} · {ranks.steps:,} steps in common · ms a step"
    title += f" · the {_MOST_ROWS} latest" if len(ranks.rows) > _MOST_ROWS else ""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("rank", "step", "late", "last in", *names):
        table.add_column(Text(visible(head.removeprefix("wait: "))), justify="right", no_wrap=True)
    for row, values in rows:
        table.add_row(
            str(row.rank), _short(row.step), _short(row.late), f"{row.last:.0%}", *map(_short, values),
            style="red" if row.rank in ranks.stragglers else None,
        )  # fmt: skip
    return table


def _short(ns: float) -> str:
    return ms(ns).removesuffix(" ms")
