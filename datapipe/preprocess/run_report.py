"""`report.html`: what a run took, kept and cost, as one page that needs nothing else.

What enters: a run's summary, ledger and histograms. What leaves: HTML with its style inside, under a content security
policy that allows that style by its hash, and no script at all. Invariant: every text that comes from data is escaped,
and what could reorder or hide text (control and direction characters) is written out; no path of this machine is in it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.pages import page_template
from datapipe.preprocess.amounts import size as spoken_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jinja2 import Template
    from markupsafe import Markup

    from datapipe.dataset import Manifest
    from datapipe.preprocess.histograms import Histograms
    from datapipe.preprocess.representation import Representation
    from datapipe.preprocess.row_ledger import StageLedger
    from datapipe.preprocess.summary import RunSummary

REPORT: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_LIBRARIES: Final = ("datapipe", "dask", "numpy", "polars", "pyarrow", "tokenizers")
_MOST_SPLITS: Final = 200
_MOST_LANGUAGES: Final = 24
_EXAMPLES: Final = 6


@final
@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a histogram, in percent of the chart: 80 is the height of the highest."""

    x: float
    width: float
    came: float
    kept: float
    label: str
    title: str


def report_html(
    summary: RunSummary,
    manifest: Manifest,
    stages: Sequence[StageLedger],
    counts: Histograms | None,
    *,
    splits: Iterable[int],
    represented: Representation | None = None,
) -> str:
    """The report as one HTML document.

    Args:
        stages: the ledger's sums by stage. counts: None where no signals were stored.
        splits: those of this run; others belong to earlier snapshots. represented: what it kept, by language and so on.
    """
    from markupsafe import Markup

    style = (_TEMPLATES / "run_report.css").read_text("utf-8")
    mine = set(splits)
    entries = [entry for entry in manifest.ledger if entry.split in mine]
    return run_page(
        "run_report.html.j2"
    ).render(
        s=summary,
        h=counts,
        r=represented,
        css=Markup(style),  # noqa: S704  (our own file)
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        ended=datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=_facts(summary),
        fall=_fall(summary, counts),
        out_width=_percent(summary.documents_out, summary.documents_in),
        out_share=_share(summary.documents_out, summary.documents_in),
        lengths=_bars(counts.lengths, in_bytes, "bytes") if counts else [],
        tokens=_bars(counts.tokens, in_thousands, "tokens") if counts else [],
        languages=_languages(counts) if counts else [],
        examples=_examples(summary, counts),
        steps=_steps(summary),
        stages=stages,
        shards=entries[:_MOST_SPLITS],
        splits=len(entries),
        recipe=json.dumps(manifest.recipe, indent=2, ensure_ascii=False),
        recipe_fingerprint=(manifest.recipe_fingerprint or "")[:12],
        environment=_environment(summary),
    )


@functools.cache  # compiling the templates takes longer than all else that a small run does once
def run_page(name: str) -> Template:
    """A template of this folder, with the filters that make the texts of data harmless."""
    return page_template(_TEMPLATES / name, plain=plain, breakable=breakable, size=in_bytes, duration=duration)


def _facts(summary: RunSummary) -> list[tuple[str, str, str]]:
    """The figures at the top: (label, figure, remark)."""
    tokens = "documents" if summary.tokens is None else f"{summary.tokens:,} tokens"
    return [
        ("Kept", _share(summary.documents_out, summary.documents_in), f"{summary.documents_out:,} documents"),
        ("Rows", f"{summary.rows:,}", tokens),
        (
            "Speed",
            f"{in_thousands(round(summary.docs_per_s))}/s",
            f"documents; {spoken_size(1e6 * summary.mb_per_s)}/s stored",
        ),
        ("Tasks", f"{summary.tasks_run:,}", f"run, {summary.tasks_reused:,} reused"),
    ]


def _fall(summary: RunSummary, counts: Histograms | None) -> list[dict[str, Any]]:
    """The waterfall: of each rule what it took, and how much was left after it."""
    lines = []
    left = whole = max(summary.documents_in, 1)
    for taken in counts.taken if counts is not None else ():
        left -= taken.rows
        lines.append(
            {
                "step": taken.step,
                "kind": taken.kind,
                "reason": taken.reason,
                "rows": taken.rows,
                "bytes": taken.bytes,
                "left": _percent(left, whole),
                # A hairline at least: what took one row of 10^6 did take one.
                "width": max(_percent(taken.rows, whole), 0.2),
                "share": _share(taken.rows, whole),
            }
        )
    return lines


def _bars(bins: Sequence[tuple[int, int, int]], shown: Any, unit: str) -> list[Bar]:
    if not bins:
        return []
    most = max(came for _, came, _ in bins)
    width = 100 / len(bins)
    every = -(-len(bins) // 6)
    return [
        Bar(
            x=round(i * width + width * 0.08, 3),
            width=round(width * 0.84, 3),
            came=round(80 * came / most, 3),
            kept=round(80 * kept / most, 3),
            label=shown(end) if i % every == every - 1 or every == 1 else "",
            title=f"below {end:,} {unit}: {came:,} in, {kept:,} out",
        )
        for i, (end, came, kept) in enumerate(bins)
    ]


def _languages(counts: Histograms) -> list[dict[str, Any]]:
    rows = list(counts.languages)
    if not any(name for name, _, _ in rows):
        return []
    shown, rest = rows[:_MOST_LANGUAGES], rows[_MOST_LANGUAGES:]
    if rest:
        shown.append((f"{len(rest)} more", sum(came for _, came, _ in rest), sum(kept for _, _, kept in rest)))
    most = max(came for _, came, _ in shown)
    return [
        {
            "name": name or "not told",
            "came": came,
            "kept": kept,
            "came_width": _percent(came, most),
            "kept_width": _percent(kept, most),
            "share": _share(kept, came),
        }
        for name, came, kept in shown
    ]


def _examples(summary: RunSummary, counts: Histograms | None) -> list[dict[str, Any]]:
    """Rejects by reason, those that took most first."""
    rows: dict[str, int] = {}
    for taken in counts.taken if counts is not None else ():
        rows[taken.reason] = rows.get(taken.reason, 0) + taken.rows
    groups: dict[str, list[Any]] = {}
    for reject in summary.rejects:
        groups.setdefault(reject.reason, []).append(reject)
    order = sorted(groups, key=lambda reason: (-rows.get(reason, 0), reason))
    return [
        {"reason": reason, "rows": rows.get(reason, len(groups[reason])), "rejects": groups[reason][:_EXAMPLES]}
        for reason in order
    ]


def _steps(summary: RunSummary) -> list[dict[str, Any]]:
    most = max((cost.cpu_seconds for cost in summary.steps), default=0.0) or 1.0
    return [
        {
            "name": cost.name,
            "width": _percent(cost.cpu_seconds, most),
            "cpu": duration(cost.cpu_seconds),
            "rows": cost.rows_measured or cost.rows_in,
            "speed": in_thousands(round((cost.rows_measured or cost.rows_in) / cost.cpu_seconds))
            if cost.cpu_seconds > 0
            else "",
            "mb": f"{cost.bytes_in / 1e6 / cost.cpu_seconds:,.1f}" if cost.cpu_seconds > 0 else "",
        }
        for cost in summary.steps
    ]


def _environment(summary: RunSummary) -> list[tuple[str, str]]:
    facts = [
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
        ("workers", str(summary.workers) if summary.workers else "none: in this process"),
    ]
    for name in _LIBRARIES:
        try:
            facts.append((name, version(name)))
        except PackageNotFoundError:
            module = sys.modules.get(name)
            facts.append((name, str(getattr(module, "__version__", "not installed"))))
    return facts


def plain(value: object) -> str:
    """A text with its control and direction characters written out, so that it can neither hide nor reorder others."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in str(value)
    )


def breakable(text: str) -> Markup:
    """A name, escaped, that may be broken where its words meet: gopher_too_|few_|words."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_@.:])", text))


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


def _share(part: int, whole: int) -> str:
    """A percentage that is 0% or 100% only where that is exact."""
    if not whole:
        return ""
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1%"
    if 99.9 < share < 100:
        return ">99.9%"
    return f"{share:.1f}%" if share not in (0.0, 100.0) else f"{share:.0f}%"


def in_bytes(count: float) -> str:
    """A size, powers of two, as the bins double: '4 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.1f} {unit}".replace(".0 ", " ")
        count /= 1024
    return f"{count:.1f} TiB"


def in_thousands(count: int) -> str:
    """A count as short as an axis needs it: '12.3k'."""
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000), ("k", 10_000)):
        if count >= size:
            return f"{count / (1000 if unit == 'k' else size):.1f}{unit}"
    return f"{count:,}"


def duration(seconds: float) -> str:
    """'84 ms', '12.3 s', '4 min 5 s', '2 h 4 min'."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
