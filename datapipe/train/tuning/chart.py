"""A search, or a range test, as one HTML page that needs nothing else: SVG panels, no script.

What enters: a `TuneResult` or a `RangeTest`. What leaves: HTML. Invariant: every trial that reached a rung is in every
panel; a loss far above the others is drawn at the upper edge and counted there, so that it does not flatten the rest.
"""

from __future__ import annotations

import html
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.train.tuning.range_test import RangeTest
    from datapipe.train.tuning.trials import TrialRow, TuneResult

_WIDTH: Final = 460
_HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 12, 40
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5c6773; --line: #d9dee4; --ground: #ffffff;
  --best: #b3261e; --complete: #1f6feb; --pruned: #8a94a0; --unfinished: #b07d00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --soft: #9aa5b1; --line: #333c47; --ground: #14181d;
  --best: #ff8a80; --complete: #79b0ff; --pruned: #77828e; --unfinished: #e0b040; } }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 24px; }
h1 { font-size: 20px; margin: 0 0 4px; } p { margin: 0 0 16px; color: var(--soft); max-width: 80ch; }
.panels { display: flex; flex-wrap: wrap; gap: 20px; } figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 460px; max-width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
.axis { stroke: var(--line); } .grid { stroke: var(--line); stroke-dasharray: 2 3; }
.best { stroke: var(--best); fill: var(--best); } .complete { stroke: var(--complete); fill: var(--complete); }
.pruned { stroke: var(--pruned); fill: var(--pruned); } .unfinished { stroke: var(--unfinished);
  fill: var(--unfinished); } polyline { fill: none !important; stroke-width: 1.6; }
table { border-collapse: collapse; margin-top: 20px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid var(--line); } th { color: var(--soft); }
td.words, th.words { text-align: left; } tr.best td { fill: none; font-weight: 600; color: var(--best); }
"""


@final
@dataclass(frozen=True, kw_only=True)
class Mark:
    """Points, joined if `joined`; `kind` gives the colour, `tip` is shown where the mouse rests."""

    points: tuple[tuple[float, float], ...]
    kind: str
    tip: str = ""
    joined: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Panel:
    """A diagram of losses; with `names` the x are places among them, from 0."""

    title: str
    x_label: str
    marks: tuple[Mark, ...]
    log: bool = False
    names: tuple[str, ...] = ()

    def svg(self) -> str:
        """The figure."""
        points = [point for mark in self.marks for point in mark.points]
        if not points:
            return ""
        low, high, cut = _loss_range([y for _, y in points])
        xs = [self._x(x) for x, _ in points]
        left, right = (-0.5, len(self.names) - 0.5) if self.names else (min(xs), max(xs))
        if left == right:
            left, right = left - 0.5, right + 0.5

        def place(x: float, y: float) -> tuple[float, float]:
            across = (self._x(x) - left) / (right - left)
            down = (high - min(y, high)) / (high - low)
            return (
                round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
                round(_TOP + down * (_HEIGHT - _TOP - _BOTTOM), 1),
            )

        parts = [self._axes(low, high, left, right)]
        for mark in self.marks:
            spots = [place(x, y) for x, y in mark.points]
            tip = f"<title>{html.escape(mark.tip)}</title>" if mark.tip else ""
            if mark.joined and len(spots) > 1:
                line = " ".join(f"{x},{y}" for x, y in spots)
                parts.append(f'<polyline class="{mark.kind}" points="{line}">{tip}</polyline>')
            if not mark.joined or len(spots) < 12:
                parts += [f'<circle class="{mark.kind}" cx="{x}" cy="{y}" r="3.2">{tip}</circle>' for x, y in spots]
        if cut:
            parts.append(f'<text x="{_LEFT + 4}" y="{_TOP + 10}">{cut} above {high:.3g}, drawn at the edge</text>')
        return (
            f"<figure><figcaption>{html.escape(self.title)}</figcaption>"
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg></figure>'
        )

    def _x(self, x: float) -> float:
        return math.log10(x) if self.log else x

    def _axes(self, low: float, high: float, left: float, right: float) -> str:
        inner = _WIDTH - _LEFT - _RIGHT
        parts = []
        for n in range(5):
            y = _TOP + n / 4 * (_HEIGHT - _TOP - _BOTTOM)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            value = high - n / 4 * (high - low)
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>')
        ticks: list[tuple[float, str]] = [(float(n), name) for n, name in enumerate(self.names)] or [
            (at, f"{10**at if self.log else at:.3g}") for at in (left + k / 4 * (right - left) for k in range(5))
        ]
        for at, text in ticks:
            x = _LEFT + (at - left) / (right - left) * inner
            anchor = "end" if not self.names and at >= right else "middle"
            parts.append(
                f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">{html.escape(text)}</text>'
            )
        parts.append(
            f'<text x="{_LEFT + inner / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(self.x_label)}</text>'
        )
        return "".join(parts)


def _loss_range(losses: Sequence[float]) -> tuple[float, float, int]:
    """(lower edge, upper edge, how many lie above): the upper is three times as far from the lowest as the median."""
    low, middle = min(losses), statistics.median(losses)
    high = min(max(losses), low + 3 * (middle - low)) if middle > low else max(losses)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    room = 0.04 * (high - low)
    return low - room, high + room, sum(loss > high + room for loss in losses)


def search_page(result: TuneResult, *, title: str) -> str:
    """The curves of all trials, and for each value that was varied the loss at the first rung, which all have."""
    best = result.best
    rows = [row for row in reversed(result.rows) if row.curve]  # the best is drawn last, above the others

    def kind(row: TrialRow) -> str:
        return "best" if best is not None and row.number == best.number else row.end

    def tip(row: TrialRow) -> str:
        return f"trial {row.number}: " + ", ".join(f"{name} {_short(v)}" for name, v in row.values.items())

    unit = result.plan.resource
    panels = [
        Panel(
            title="Loss at each rung", x_label=f"{unit} (logarithmic)", log=True,
            marks=tuple(Mark(points=row.curve, kind=kind(row), tip=tip(row), joined=True) for row in rows),
        )
    ]  # fmt: skip
    for name in result.space:
        values = [row.values[name] for row in rows]
        numbers = all(isinstance(v, float) for v in values) and len(set(values)) > 1
        names = (
            () if numbers else tuple(dict.fromkeys(_short(v) for v in sorted(values, key=lambda v: (str(type(v)), v))))
        )
        marks = tuple(
            Mark(
                points=((v if numbers else float(names.index(_short(v))), row.curve[0][1]),),
                kind=kind(row),
                tip=tip(row),
            )
            for row, v in zip(rows, values, strict=True)
        )
        log = numbers and min(values) > 0 and max(values) > 20 * min(values)
        amount = f"{result.plan.amounts[0]:g} {unit}"
        panels.append(Panel(title=f"{name}: loss after {amount}", x_label=name, marks=marks, log=log, names=names))
    ends = {end: sum(row.end == end for row in result.rows) for end in ("complete", "pruned", "unfinished", "failed")}
    said = ", ".join(f"{n} {end}" for end, n in ends.items() if n)
    text = f"{len(result.rows)} trials: {said}; {result.spent_s:.0f} s of {result.budget_s:.0f} s."
    if best is not None:
        text += f" Best (red): {tip(best)}, loss {best.loss:.4f}."
    return _page(title, text, panels, _table(result))


def _table(result: TuneResult) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in result.space)
    head = f"<tr><th>trial</th>{names}<th>rung</th><th>loss</th><th>step ms</th><th class=words>end</th></tr>"
    lines = []
    for place, row in enumerate(result.rows):
        values = "".join(f"<td>{html.escape(_short(row.values.get(name, '')))}</td>" for name in result.space)
        loss = "" if row.loss is None else f"{row.loss:.4f}"
        end = html.escape(f"{row.end}: {row.why}" if row.why else row.end)
        mark = ' class="best"' if place == 0 and result.best is not None else ""
        lines.append(
            f"<tr{mark}><td>{row.number}</td>{values}<td>{row.rung}</td><td>{loss}</td><td>{row.step_ms:.1f}</td>"
            f"<td class=words>{end}</td></tr>"
        )
    return f"<table>{head}{''.join(lines)}</table>"


def range_page(test: RangeTest, *, title: str) -> str:
    """The loss against the rate, raw and smoothed, with the suggestion."""
    if test.suggestion is None:
        text = f"No suggestion: {test.why}."
    else:
        text = f"Suggested rate {test.suggestion:.3g}: there the smoothed loss fell fastest."
    if test.tenth is not None:
        text += f" A tenth of the rate of the lowest is {test.tenth:.3g}."
    marks = [
        Mark(points=tuple(zip(test.rates, test.losses, strict=True)), kind="pruned", tip="loss", joined=True),
        Mark(points=tuple(zip(test.rates, test.smoothed, strict=True)), kind="complete", tip="smoothed", joined=True),
    ]
    if test.suggestion is not None:
        at = min(range(len(test.rates)), key=lambda n: abs(math.log(test.rates[n] / (test.suggestion or 1.0))))
        marks.append(Mark(points=((test.rates[at], test.smoothed[at]),), kind="best", tip="suggested"))
    panel = Panel(title="Loss by learning rate", x_label="learning rate (logarithmic)", marks=tuple(marks), log=True)
    return _page(title, text, [panel], "")


def _page(title: str, text: str, panels: Sequence[Panel], table: str) -> str:
    figures = "".join(panel.svg() for panel in panels)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        f'<div class="panels">{figures}</div>{table}</body></html>\n'
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
