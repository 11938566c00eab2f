"""`trace.json.gz`: the run as Chrome trace events, for Perfetto (ui.perfetto.dev) or chrome://tracing.

What enters: a `RawRun`. What leaves: a complete event ("X") per span, flows from storage read to step, counters of
memory and of batches that lie ready, and names for process and threads.
Invariant: times are µs since the run began, which `baseTimeNanoseconds` puts on the Unix clock; every flow that starts
ends, not before it started, and both ends lie in a span.

Format: "Trace Event Format" (Chromium project). The file is deterministic for the same run.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Final

from datapipe.events import DEVICE, HIT, MISS
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import BLOCK_STAGES, Precedence, loader_spans, match_batches
from datapipe.profiling.profile_file import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun

    Spans = npt.NDArray[np.void]

NAME: Final = "trace.json.gz"
MOST_SPANS: Final = 300_000
"""Spans written; of a longer run the last ones, which is said in the trace's `otherData`."""
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

    text = json.dumps(trace(run), allow_nan=False, separators=(",", ":")).encode()
    return write_whole(Path(folder) / NAME, gzip.compress(text, compresslevel=6, mtime=0))


def trace(run: RawRun) -> dict[str, Any]:
    """The run as one JSON object of trace events."""
    spans = run.spans[-MOST_SPANS:]
    events = [*_names(run), *_spans(spans, run), *_flows(spans, run), *_memory(run)]
    left_out = len(run.spans) - len(spans)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": run.started_unix_ns,
        "otherData": {"spans": len(spans), "spans left out": left_out, "spans lost": run.lost},
    }


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


def _spans(spans: Spans, run: RawRun) -> Iterator[dict[str, Any]]:
    import numpy as np

    # The outer of two spans that begin together comes first, as viewers expect of nested slices.
    for row in spans[np.lexsort((-spans["end"], spans["start"], spans["flags"] & DEVICE, spans["thread"]))].tolist():
        item, cause, get, start, end, put, nbytes, cpu, stage, thread, flags = row
        args: dict[str, Any] = {}
        if item >= 0:
            args["block" if run.stages[stage] in BLOCK_STAGES else "item"] = item
        if cause >= 0:
            args["cause"] = cause
        if nbytes:
            args["bytes"] = nbytes
        if cpu:
            args["cpu_ms"] = cpu / 1e6
        if start > get:
            args["starved_ms"] = (start - get) / 1e6
        if put > end:
            args["blocked_ms"] = (put - end) / 1e6
        if flags & (HIT | MISS):
            args["cache"] = "hit" if flags & HIT else "miss"
        yield {
            "ph": "X",
            "name": run.stages[stage],
            "cat": "device" if flags & DEVICE else "host",
            "ts": (start - run.began) / 1e3,
            "dur": max(0, end - start) / 1e3,
            "pid": _PID,
            "tid": thread + (_DEVICE_TRACK if flags & DEVICE else 0),
            "args": args,
        }


def _flows(spans: Spans, run: RawRun) -> Iterator[dict[str, Any]]:
    """Arrows along the way of the data: from what made an input to the work on it, and to the wait that it ended."""
    if not len(spans):
        return
    ledger = build_ledger(spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    work = Precedence(spans[loader_spans(spans, run.stages, ledger)], run.stages)
    number = 0
    for i, start in enumerate(work.start):
        made = work.input_of(i)
        if made >= 0 and work.end[i] > start:
            kind = "block" if work.stage[made] in BLOCK_STAGES else "batch"
            source = (work.start[made], work.end[made], work.thread[made])
            yield from _arrow(number := number + 1, kind, source, (start, work.thread[i]), run.began)
    batches = match_batches(spans, run.stages, ledger).tolist()
    ready: list[tuple[int, int]] = []
    for (asked, taken, _), batch in zip(ledger.waits.tolist(), batches, strict=True):
        made = work.last_of_batch(batch, taken) if batch >= 0 else -1
        if made < 0:
            continue
        source = (work.start[made], work.end[made], work.thread[made])
        ready += [(source[1], 1), (taken, -1)]
        if source[2] != ledger.thread:
            arrival = max(asked, min(source[1], taken - 1))
            if arrival >= source[1] - 1:
                yield from _arrow(number := number + 1, "batch", source, (arrival, ledger.thread), run.began)
    level = 0
    for when, change in sorted(ready, key=lambda pair: (pair[0], -pair[1])):  # it comes before it is taken
        level += change
        yield {
            "ph": "C", "name": "batches ready", "ts": (when - run.began) / 1e3, "pid": _PID, "tid": 0,
            "args": {"batches": level},
        }  # fmt: skip


def _arrow(
    number: int, kind: str, source: tuple[int, int, int], target: tuple[int, int], began: int
) -> Iterator[dict[str, Any]]:
    start, end, thread = source
    leaves = max(start, end - 1)  # a flow's end binds to the slice that holds its time
    common = {"name": kind, "cat": "flow", "id": number, "pid": _PID}
    yield {**common, "ph": "s", "ts": (leaves - began) / 1e3, "tid": thread}
    yield {**common, "ph": "f", "bp": "e", "ts": (max(target[0], leaves) - began) / 1e3, "tid": target[1]}


def _memory(run: RawRun) -> Iterator[dict[str, Any]]:
    for seconds, size in run.memory:
        yield {
            "ph": "C", "name": "resident memory", "ts": seconds * 1e6, "pid": _PID, "tid": 0,
            "args": {"MiB": round(size / 2**20, 1)},
        }  # fmt: skip
