"""A run of `preprocess` while it lasts: a live view on a terminal, a plain line every few seconds elsewhere.

What enters: `Progress` events. What leaves: text on standard error. Invariant: names and reasons are printed as text,
never as markup; a view that is quiet prints nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.cli import console

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from datapipe.preprocess import Progress

REASONS: Final = 4
"""Reasons that are named; the rest are summed."""


@final
class RunView:
    """Shows the newest event; use as a context, and give `update` to `preprocess(on_progress=…)`."""

    def __init__(self, *, quiet: bool = False, every: float = 5.0) -> None:
        self._quiet = quiet
        self._every = every
        self._live: Live | None = None
        self._newest: Progress | None = None
        self._at = 0.0
        self._began = self._said = time.monotonic()
        self._dashboard: str | None = None

    def __enter__(self) -> RunView:
        if not self._quiet and console.err().is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._shown, console=console.err(), refresh_per_second=4, transient=True
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Take an event."""
        self._newest, self._at = progress, time.monotonic()
        if self._live is None and not self._quiet:
            self._say(progress)

    def _say(self, progress: Progress) -> None:
        if progress.dashboard and progress.dashboard != self._dashboard:
            console.say(f"  dashboard: {progress.dashboard}")
            self._dashboard = progress.dashboard
        now = time.monotonic()
        ends = progress.done == progress.total and progress.elapsed > self._every
        if ends or now - self._said > self._every:
            console.say(f"  {line_of(progress)}")
            self._said = now

    def _shown(self) -> Any:
        """What the terminal shows: drawn anew four times a second, so that the clock runs between tasks."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress = self._newest
        if progress is None:
            return Text(f"  reading the input …  {clock_of(time.monotonic() - self._began)}")
        since = time.monotonic() - self._at
        head = Table.grid(padding=(0, 1))
        left = progress.remaining
        clock = "" if left is None or progress.done == progress.total else f"{clock_of(max(0.0, left - since))} left"
        head.add_row(
            Text(f"  {console.printable(progress.stage)}", style="bold"),
            ProgressBar(total=max(progress.total, 1), completed=progress.done, width=30),
            Text(f"{progress.done}/{progress.total}"),
            Text(f"stage {progress.number} of {progress.stages}", style="dim"),
            Text(clock_of(progress.elapsed + since), style="dim"),
            Text(clock),
        )
        rows: list[RenderableType] = [head, Text(f"  {console.printable(', '.join(figures_of(progress)))}")]
        if progress.taken():
            rows.append(Text(f"  {console.printable(taken_of(progress))}", style="dim"))
        if progress.dashboard:
            rows.append(Text(f"  dashboard: {console.printable(progress.dashboard)}", style="dim"))
        return Group(*rows)


def line_of(progress: Progress) -> str:
    """An event as one line."""
    parts = [f"{progress.stage}: {progress.done} of {progress.total}", *figures_of(progress)]
    if progress.taken():
        parts.append(taken_of(progress))
    if progress.remaining:
        parts.append(f"{clock_of(progress.remaining)} left")
    return ", ".join(parts)


def figures_of(progress: Progress) -> list[str]:
    """How much, how fast; what was done before."""
    parts = [console.count(progress.documents, progress.counts)]
    if progress.documents_now and progress.elapsed > 0:
        parts.append(f"{progress.docs_per_s:,.0f}/s")
    if progress.bytes_now and progress.elapsed > 0:
        parts.append(f"{console.size(1e6 * progress.mb_per_s)}/s")
    if progress.reused:
        parts.append(f"{progress.reused} done before")
    return parts


def taken_of(progress: Progress) -> str:
    """What was taken out, as shares of the documents that the stage has read."""
    taken = progress.taken()
    whole = max(progress.documents, 1)
    named = [f"{reason} {100 * n / whole:.1f}%" for reason, n in taken[:REASONS]]
    if rest := sum(n for _, n in taken[REASONS:]):
        named.append(f"{len(taken) - REASONS} more {100 * rest / whole:.1f}%")
    return f"{100 * sum(n for _, n in taken) / whole:.1f}% out ({', '.join(named)})"


def clock_of(seconds: float) -> str:
    """'0:42', '12:05', '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
