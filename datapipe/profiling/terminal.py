"""A summary for a terminal: the verdict, one bar of 100%, the three best fixes, the ledger that adds up.

What enters: a `Summary`. What leaves: a rich renderable; plain where the console has no colour.
Invariant: the shares of the step table sum to 100% (within rounding), the run table ends in its signed remainder, and
nothing that a profile holds steers the terminal.
"""

from __future__ import annotations

import string
import unicodedata
from typing import TYPE_CHECKING, Final

from datapipe.profiling.advice_terminal import fix_items
from datapipe.profiling.differential_terminal import differential_items
from datapipe.profiling.measures import measured_lines
from datapipe.profiling.ranks_terminal import rank_items
from datapipe.profiling.summary import LATE_RANK
from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from datapipe.profiling.summary import Part, Summary

_COLOURS: Final = {
    "wait": "dark_orange", "h2d": "gold3", "forward": "steel_blue1", "backward": "blue", "optimizer":
    "medium_purple2", "communication": "hot_pink3", "checkpoint": "grey70", "evaluate": "green3", "other": "grey50",
}  # fmt: skip
_OWN: Final = ("turquoise4", "sandy_brown", "orchid", "yellow4", "cornflower_blue")
_SHADES: Final = "█▓▒░▞═+:·#%@"
_WIDTH: Final = 60
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: controls, format marks (text direction), surrogates, separators of lines."""


def render(summary: Summary) -> Group:
    """The summary as tables and a bar; print it with `rich.print` or `Console.print`."""
    from rich.console import Group
    from rich.text import Text

    mark = {"input-bound": "bold red", "moderately input-bound": "bold yellow", "not input-bound": "bold green"}
    mark[LATE_RANK] = "bold red"
    said = summary.verdict.sentence
    if summary.rank is not None and summary.ranks is None:
        said = f"Rank {summary.rank.rank}: {said}"
    items: list[Text | Table] = [Text(visible(said), style=mark.get(summary.verdict.kind, "bold"))]
    if summary.ranks is not None:
        items += rank_items(summary.ranks, visible)
        if summary.verdict.kind == LATE_RANK:
            items += [Text(visible(line), style="bold") for line in summary.verdict.evidence[:1]]
        if summary.rank is not None:
            items.append(Text(f"What follows is of rank {summary.rank.rank}.", style="dim"))
    if not summary.complete:
        cause = f" ({visible(summary.cause)})" if summary.cause else ""
        items.append(Text(f"This run did not end normally{cause}: the figures are of what ran.", style="yellow"))
    if summary.step is not None:
        items += [Text(), _bar(summary.parts)]
        if summary.advice is not None:
            items += [Text(), *fix_items(summary.advice, visible), Text()]
        items.append(_steps(summary))
    if summary.differential is not None:
        runs = _table("with and without its loader")
        items += [*differential_items(summary.differential, visible, runs), Text()]
    items += [_run(summary)]
    if summary.stages:
        items.append(_stages(summary))
    for line, warns in measured_lines(summary):
        items.append(Text(visible(line), style="bold yellow" if warns else "dim"))
    return Group(*items)


def visible(text: str) -> str:
    """The text with characters that steer a terminal, or cannot be printed, as escapes: profiles come from anywhere."""
    return "".join(c if unicodedata.category(c) not in _UNSEEN else ascii(c)[1:-1] for c in text)


def _colour(name: str, own: list[str]) -> str:
    return _COLOURS.get(name) or _OWN[own.index(name) % len(_OWN)]


def _shade(place: int) -> str:
    """A part's own character; after those, letters, and a dot for all that are left."""
    return (_SHADES + string.ascii_letters)[place] if place < len(_SHADES) + len(string.ascii_letters) else "."


def _own(parts: tuple[Part, ...]) -> list[str]:
    return [part.name for part in parts if part.name not in _COLOURS]


def _bar(parts: tuple[Part, ...]) -> Text:
    from rich.text import Text

    own, text, at, drawn = _own(parts), Text(), 0.0, 0
    for i, part in enumerate(parts):
        at += max(0.0, part.share) * _WIDTH
        cells = min(_WIDTH, round(at)) - drawn
        drawn += cells
        # The character tells parts apart where there is no colour.
        text.append(_shade(i) * cells, style=_colour(part.name, own))
    return text


def _steps(summary: Summary) -> Table:
    from rich.text import Text

    step = summary.step
    assert step is not None
    table = _table(f"steady step · {summary.steady_steps:,} steps · {summary.steps_per_second:,.1f} steps/s")
    for head in ("part", "mean", "median", "p95", "share"):
        table.add_column(head, justify="left" if head == "part" else "right", no_wrap=True)
    own = _own(summary.parts)
    for i, part in enumerate(summary.parts):
        name = Text(_shade(i) + " ", style=_colour(part.name, own)) + Text(visible(part.name), style="default")
        table.add_row(name, ms(part.mean), ms(part.p50), ms(part.p95), f"{part.share:.1%}")
        if part.name == "wait":
            for stage in summary.waits:
                if stage.share >= 0.0005:
                    table.add_row(
                        Text(f"   {visible(stage.name)}", style="dim"), ms(stage.mean), ms(stage.p50), ms(stage.p95),
                        f"{stage.share:.1%}", style="dim",
                    )  # fmt: skip
    table.add_section()
    table.add_row("step", ms(step.mean), ms(step.p50), ms(step.p95), f"{sum(p.share for p in summary.parts):.1%}")
    return table


def _run(summary: Summary) -> Table:
    from rich.text import Text

    table = _table("the whole run")
    for head in ("part", "time", "share"):
        table.add_column(head, justify="left" if head == "part" else "right", no_wrap=True)
    for part in summary.run:
        if part.total:
            table.add_row(Text(visible(part.name)), ms(part.total), f"{part.share:.1%}")
    wall = summary.wall_ns or 1
    table.add_row("remainder", ms(summary.remainder_ns), f"{summary.remainder_ns / wall:+.2%}")
    table.add_section()
    table.add_row("wall", ms(summary.wall_ns), "100.0%")
    return table


def _stages(summary: Summary) -> Table:
    from rich.text import Text

    table = _table("stages")
    for head in ("stage", "spans", "threads", "mean", "p95", "busy", "MB/s", "path"):
        table.add_column(head, justify="left" if head == "stage" else "right", no_wrap=True)
    for row in summary.stages:
        rate = f"{row.bytes / row.busy * 1e3:,.0f}" if row.bytes and row.busy else "-"
        table.add_row(
            Text(visible(row.name)), f"{row.count:,}", str(row.threads), ms(row.mean), ms(row.p95),
            f"{row.utilisation:.0%}", rate, f"{row.path:.0%}",
        )  # fmt: skip
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
