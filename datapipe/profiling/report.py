"""`report.html`: one page that holds everything it needs and asks the network for nothing.

What enters: a `Summary`. What leaves: HTML with inline style, script and SVG under a content security policy that
allows those by their hash and nothing else.
Invariant: every text that comes from the run is escaped; the page reads without its script, in light and dark, on a
phone and on paper.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.pages import page_template
from datapipe.profiling.advice import EFFORT
from datapipe.profiling.advice_chart import fix_rows
from datapipe.profiling.charts import bar, memory_chart, percentiles, step_chart
from datapipe.profiling.differential_chart import rows as differential_rows
from datapipe.profiling.machine_chart import SOURCES, byte_parts, byte_rows, memory_lines
from datapipe.profiling.measures import measured_lines
from datapipe.profiling.palette import class_names, palette_css
from datapipe.profiling.pipeline_chart import boxes, in_flow, strip_path
from datapipe.profiling.profile_file import write_whole
from datapipe.profiling.rank_chart import heat_map
from datapipe.profiling.summary import LATE_RANK
from datapipe.profiling.verdict import ms, spoken

if TYPE_CHECKING:
    import os

    from jinja2 import Template

    from datapipe.profiling.summary import Part, Summary

NAME: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_SMALL: Final = 0.0005
"""Parts of the wait below this share of the step are left out of the table."""


def write_report(summary: Summary, folder: str | os.PathLike[str]) -> Path:
    """Write `folder/report.html`, atomically; its path.

    Raises:
        ProfileError: it cannot be written.
        NoSpaceError: the disk is full.
    """
    return write_whole(Path(folder) / NAME, report_html(summary).encode("utf-8", "replace"))


@functools.cache  # compiling takes longer than rendering
def _template() -> Template:
    return page_template(_TEMPLATES / "report.html.j2", ms=ms, bytes=in_bytes, seconds=in_seconds)


def report_html(summary: Summary) -> str:
    """The report as one HTML document."""
    from markupsafe import Markup

    names = [p.name for p in (*summary.parts, *summary.waits, *summary.run)] + [row.name for row in summary.stages]
    classes = class_names([*names, *SOURCES])
    style = (_TEMPLATES / "report.css").read_text("utf-8") + palette_css(classes)
    script = (_TEMPLATES / "report.js").read_text("utf-8")
    chart = step_chart(summary.series, summary.step, summary.phases) if summary.step is not None else None
    data = {"names": chart.names, "columns": chart.columns} if chart is not None else {}
    return _template().render(
        s=summary,
        css=Markup(style),  # noqa: S704  (our own file and a palette of class names c0, c1, …)
        js=Markup(script),  # noqa: S704  (our own file)
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(_embedded(data)),  # noqa: S704  (escaped for a script element by `_embedded`)
        color=classes,
        step_bar=bar(summary.parts),
        run_bar=bar(summary.run),
        wait_bar=bar(_by_size(summary.waits)),
        waits=[part for part in _by_size(summary.waits) if part.share >= _SMALL],
        chart=chart,
        percentiles=percentiles(summary.series),
        pipeline=boxes(summary),
        queue_strips=[(strip, strip_path(strip)) for strip in in_flow(summary.queues)],
        heat=heat_map(summary.ranks),
        differential=summary.differential,
        differential_rows=differential_rows(summary.differential),
        advice=summary.advice,
        fixes=fix_rows(summary.advice),
        effort=EFFORT,
        unmeasured=[*summary.unmeasured, *_absent(summary)],
        memory=memory_chart(summary.memory),
        memory_chart=memory_lines(summary.memory_use),
        byte_bar=bar(byte_parts(summary.io.total)) if summary.io is not None else [],
        byte_rows=byte_rows(summary.io) if summary.io is not None else [],
        warnings=[line for line, warns in measured_lines(summary) if warns],
        facts=_headline(summary),
        started=datetime.fromtimestamp(summary.started_unix_ns / 1e9, tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        spoken=spoken,
        remainder=signed(summary.remainder_ns, summary.wall_ns),
        tone={"not input-bound": "good", "moderately input-bound": "warn", "input-bound": "bad", LATE_RANK: "bad"}.get(
            summary.verdict.kind, "none"
        ),
    )


def _absent(summary: Summary) -> list[str]:
    """A line for each section that this profile has no figures for."""
    has = {
        "Fixes: too little was recorded to replay, or it was recorded by an older datapipe.": summary.advice
        is not None,
        "The loader’s pipeline and its queues: it records no stages of its own.": bool(boxes(summary)),
        "Bytes by source: neither the loader nor the system tells them.": summary.io is not None,
        "Pinned, shared and device memory, leaks: memory was not watched.": summary.memory_use is not None,
        "What recording cost, against its limits: the price of a span was not measured.": summary.overhead is not None,
    }
    return [line for line, there in has.items() if not there]


def _by_size(parts: tuple[Part, ...]) -> list[Part]:
    return sorted(parts, key=lambda part: -part.mean)


def _headline(summary: Summary) -> list[tuple[str, str, str]]:
    """The four figures at the top: (label, figure, remark)."""
    facts = []
    if summary.step is not None:
        facts += [
            (
                "Step, median",
                ms(summary.step.p50),
                f"mean {ms(summary.step.mean)}; 95th percentile {ms(summary.step.p95)}",
            ),
            ("Input", f"{summary.verdict.input_share:.1%}", "of the mean step waits for or copies data"),
            ("Speed", f"{summary.steps_per_second:,.1f}", "steady steps a second"),
        ]
    facts.append(
        ("Ledger", signed(summary.remainder_ns, summary.wall_ns), f"unexplained of {in_seconds(summary.wall_ns)}")
    )
    return facts


def signed(part: float, whole: float) -> str:
    """A signed share, '+0.12%'; one that rounds to nothing has no sign, '±0.00%'."""
    text = f"{part / whole if whole else 0.0:+.2%}"
    return text if text.strip("+-0.%") else "±0.00%"


def _hash(text: str) -> str:
    """The source of a content security policy that allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def in_bytes(count: float) -> str:
    """A size: '3.1 GiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def in_seconds(ns: float) -> str:
    """A duration as long as a run: '84.2 s', '12 min 4 s'."""
    seconds = ns / 1e9
    if seconds < 1:
        return ms(ns)
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
