"""`trace.json.gz`: the run as Chrome trace events, for Perfetto (ui.perfetto.dev) or chrome://tracing.

What enters: a `RawRun`. What leaves: a complete event ("X") per span, flows from storage read to step, counters of
memory and of batches that lie ready, and names for process and threads.
Invariant: times are µs since the run began, which `baseTimeNanoseconds` puts on the Unix clock; every flow that starts
ends, not before it started, and both ends lie in a span.

Format: "Trace Event Format" (Chromium project). The file is deterministic for the same run. It is written by columns
(`trace_text`), 2 µs a span of work instead of 12, and packed at gzip's lowest level, which takes a third of the time of
the usual one for a file a fifth larger.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from datapipe.events import DEVICE, HIT, MISS
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import BLOCK_STAGES, Precedence, loader_spans, match_batches
from datapipe.profiling.profile_file import write_whole
from datapipe.profiling.trace_text import chosen, fields, joined, lines, microseconds, milliseconds, numbers, where

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun

    Spans = npt.NDArray[np.void]
    Ints = npt.NDArray[np.int64]

NAME: Final = "trace.json.gz"
MOST_SPANS: Final = 300_000
"""Spans written; of a longer run the last ones, which is said in the trace's `otherData`."""
_AT_ONCE: Final = 1 << 15
"""Spans made text of at once."""
_PID: Final = 1
_DEVICE_TRACK: Final = 1 << 16
"""Added to a thread's number (16 bits) for the track of the device it drives."""


def write_trace(run: RawRun, folder: str | os.PathLike[str]) -> Path:
    """Write `folder/trace.json.gz`, atomically.

    Raises:
        ProfileError: it cannot be written.
        NoSpaceError: the disk is full.
    """
    from pathlib import Path

    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
        for part in _parts(run):
            file.write(part.encode())
    return write_whole(Path(folder) / NAME, packed.getvalue())


def trace(run: RawRun) -> dict[str, Any]:
    """The run as one JSON object of trace events."""
    read: dict[str, Any] = json.loads("".join(_parts(run)))
    return read


def _parts(run: RawRun) -> Iterator[str]:
    """The trace as text, a part after the other: 300,000 spans in one take 200 MiB to join."""
    spans = run.spans[-MOST_SPANS:]
    named = (",".join(_dumped(event) for event in _names(run)) for _ in (0,))
    memory = (",".join(_dumped(event) for event in _memory(run)) for _ in (0,))
    about = {"spans": len(spans), "spans left out": run.recorded - len(spans), "spans lost": run.lost}
    rest = {"displayTimeUnit": "ms", "baseTimeNanoseconds": run.started_unix_ns, "otherData": about}
    before = '{"traceEvents":['
    for part in itertools.chain(named, _spans(spans, run), _flows(spans, run), memory):
        if part:
            yield before
            yield part
            before = ","
    yield f"],{_dumped(rest)[1:]}" if before == "," else f"{before}],{_dumped(rest)[1:]}"


def _dumped(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _names(run: RawRun) -> Iterator[dict[str, Any]]:
    import numpy as np

    yield {"ph": "M", "name": "process_name", "pid": _PID, "tid": 0, "args": {"name": run.title or "datapipe run"}}
    for number, name in enumerate(run.threads):
        yield {"ph": "M", "name": "thread_name", "pid": _PID, "tid": number, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": _PID, "tid": number, "args": {"sort_index": number}}
    # What a device did is written by the host's thread, but lies on a track of its own.
    for number in np.unique(run.spans["thread"][run.spans["flags"] & DEVICE != 0]).tolist():
        name = f"device, as seen by {run.threads[number]}" if number < len(run.threads) else "device"
        yield {"ph": "M", "name": "thread_name", "pid": _PID, "tid": _DEVICE_TRACK + number, "args": {"name": name}}


def _spans(spans: Spans, run: RawRun) -> Iterator[str]:
    import numpy as np

    if not len(spans):
        return
    # The outer of two spans that begin together comes first, as viewers expect of nested slices.
    spans = spans[np.lexsort((-spans["end"], spans["start"], spans["flags"] & DEVICE, spans["thread"]))]
    heads = [
        f'{{"ph":"X","name":{_dumped(name)},"cat":"{kind}","ts":' for name in run.stages for kind in ("host", "device")
    ]
    tracks = [
        f',"pid":{_PID},"tid":{number + (_DEVICE_TRACK if on else 0)},"args":{{'
        for number in range(int(spans["thread"].max()) + 1)
        for on in (False, True)
    ]
    for at in range(0, len(spans), _AT_ONCE):
        yield lines(_events(spans[at : at + _AT_ONCE], run, heads, tracks))


def _events(spans: Spans, run: RawRun, heads: Sequence[str], tracks: Sequence[str]) -> Any:
    import numpy as np

    device = (spans["flags"] & DEVICE != 0).astype(np.int64)
    stage, thread = spans["stage"].astype(np.int64), spans["thread"].astype(np.int64)
    return joined(
        chosen(heads, stage * 2 + device),
        microseconds(spans["start"] - run.began),
        ',"dur":',
        microseconds(np.maximum(spans["end"] - spans["start"], 0)),
        chosen(tracks, thread * 2 + device),
        _arguments(spans, stage, run),
        "}}",
    )


def _arguments(spans: Spans, stage: Ints, run: RawRun) -> Any:
    import numpy as np

    block = np.isin(stage, [i for i, name in enumerate(run.stages) if name in BLOCK_STAGES])
    wholes = [
        ("block", (spans["item"] >= 0) & block, spans["item"]),
        ("item", (spans["item"] >= 0) & ~block, spans["item"]),
        ("cause", spans["cause"] >= 0, spans["cause"]),
        ("bytes", spans["bytes"] != 0, spans["bytes"]),
    ]
    times = [
        ("cpu_ms", spans["cpu"] != 0, spans["cpu"]),
        ("starved_ms", spans["start"] > spans["get"], spans["start"] - spans["get"]),
        ("blocked_ms", spans["put"] > spans["end"], spans["put"] - spans["end"]),
    ]
    columns = [where(mask, joined(f'"{name}":', numbers(values[mask]), ",")) for name, mask, values in wholes]
    columns += [where(mask, joined(f'"{name}":', milliseconds(values[mask]), ",")) for name, mask, values in times]
    cached = spans["flags"] & (HIT | MISS) != 0
    hit = (spans["flags"][cached] & HIT != 0).astype(np.int64)
    columns.append(where(cached, chosen(['"cache":"miss"', '"cache":"hit"'], hit)))
    return fields(columns, len(spans))


def _flows(spans: Spans, run: RawRun) -> tuple[str, ...]:
    """Arrows along the way of the data: from what made an input to the work on it, and to the wait that it ended."""
    import numpy as np

    if not len(spans):
        return ()
    ledger = build_ledger(spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    work = Precedence(spans[loader_spans(spans, run.stages, ledger)], run.stages)
    start, end, thread = work.starts, work.ends, work.threads
    made = work.inputs()
    into = np.flatnonzero((made >= 0) & (end > start))
    blocks = np.isin(work.numbers, [i for i, name in enumerate(run.stages) if name in BLOCK_STAGES])
    arrows = [(blocks[made[into]], made[into], start[into], thread[into])]

    batches = match_batches(spans, run.stages, ledger)
    taken = ledger.waits[:, 1]
    last = work.last_of_batches(batches, taken)
    known = last >= 0
    last, asked, taken = last[known], ledger.waits[known, 0], taken[known]
    arrival = np.maximum(asked, np.minimum(end[last], taken - 1))
    crosses = (thread[last] != ledger.thread) & (arrival >= end[last] - 1)
    arrows.append((
        np.zeros(int(crosses.sum()), dtype=bool), last[crosses], arrival[crosses],
        np.full(int(crosses.sum()), ledger.thread, dtype=np.int64),
    ))  # fmt: skip
    block, source, target, onto = (np.concatenate(parts) for parts in zip(*arrows, strict=True))
    return (
        _arrows(block, start[source], end[source], thread[source], target, onto, run.began),
        _ready(end[last], taken, run.began),
    )


def _arrows(block: Any, start: Ints, end: Ints, thread: Ints, target: Ints, onto: Ints, began: int) -> str:
    import numpy as np

    if not len(target):
        return ""
    leaves = np.maximum(start, end - 1)  # a flow's end binds to the slice that holds its time
    kind = chosen([f'{{"name":"{name}","cat":"flow","id":' for name in ("batch", "block")], block.astype(np.int64))
    common = joined(kind, numbers(np.arange(1, len(target) + 1)), f',"pid":{_PID},"ph":"')
    begins = joined(common, 's","ts":', microseconds(leaves - began), ',"tid":', numbers(thread), "},")
    ends = joined(
        common, 'f","bp":"e","ts":', microseconds(np.maximum(target, leaves) - began), ',"tid":', numbers(onto), "}"
    )  # fmt: skip
    return lines(joined(begins, ends))


def _ready(came: Ints, taken: Ints, began: int) -> str:
    """How many batches lay ready, as a counter."""
    import numpy as np

    when = np.concatenate([came, taken])
    change = np.concatenate([np.ones(len(came), np.int64), -np.ones(len(taken), np.int64)])
    order = np.lexsort((-change, when))  # it comes before it is taken
    if not len(order):
        return ""
    return lines(joined(
        '{"ph":"C","name":"batches ready","ts":', microseconds(when[order] - began),
        f',"pid":{_PID},"tid":0,"args":{{"batches":', numbers(np.cumsum(change[order])), "}}",
    ))  # fmt: skip


def _memory(run: RawRun) -> Iterator[dict[str, Any]]:
    for seconds, size in run.memory:
        yield {
            "ph": "C", "name": "resident memory", "ts": seconds * 1e6, "pid": _PID, "tid": 0,
            "args": {"MiB": round(size / 2**20, 1)},
        }  # fmt: skip
