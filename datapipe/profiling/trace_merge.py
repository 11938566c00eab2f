"""Traces of several recorders on one clock: ours of each rank, and torch.profiler's.

What enters: Chrome traces whose `baseTimeNanoseconds` (UTC, Unix) is where their times count from, as torch.profiler's
(Kineto) and ours say it. What leaves: one trace whose times count from the earliest of them.
Invariant: every event of every trace is there, with its length; events of one trace keep their distances; no process,
flow or asynchronous event of one is taken for another's.

The clocks agree as well as each recorder read the system's clock: to some microseconds at the start of a run, and what
a time daemon slewed it by since (at most 0.5 ms a second: adjtimex(2)).
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import NoProfileError, ProfileError
from datapipe.profiling.profile_file import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

_LARGEST: Final = 1 << 30
"""Bytes of a trace as JSON: read, it takes some ten times as much memory."""
_MOST_NS: Final = 1 << 63
_ABSOLUTE: Final = 1e15
"""µs; a trace without a base and with times beyond this (2001-09-09) counts from the Unix epoch, as older torch did."""
_IDENTIFIED: Final = "stfbenNDO"
"""Phases of events that an `id` ties together: flows, asynchronous events, objects."""


def merge_traces(traces: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write several traces as one.

    Args:
        traces: files (`.json` or `.json.gz`), or folders of runs that hold a `trace.json.gz`.
        out: the file to write, gzipped.

    Raises:
        NoProfileError: one is not there.
        ProfileError: one cannot be read, is no trace, or does not say on which clock it is.
        NoSpaceError: the disk is full.
    """
    read = [(_file(path), _read(_file(path))) for path in traces]
    if not read:
        raise ProfileError("no trace was named", expected="at least one file or folder")
    bases = [_base(trace, path) for path, trace in read]
    base = min(bases)
    events: list[dict[str, Any]] = []
    taken: set[object] = set()
    for place, ((_, trace), own) in enumerate(zip(read, bases, strict=True)):
        events += _placed(trace["traceEvents"], place=place, shift=(own - base) / 1e3, taken=taken)
    other = {str(path): trace["otherData"] for path, trace in read if isinstance(trace.get("otherData"), dict)}
    merged = {
        "traceEvents": events, "displayTimeUnit": "ms", "baseTimeNanoseconds": base,
        "otherData": {Path(path).parent.name + "/" + Path(path).name: data for path, data in other.items()},
    }  # fmt: skip
    try:
        text = json.dumps(merged, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"a trace holds what JSON cannot: {error}", expected="Chrome traces") from None
    return write_whole(Path(out), gzip.compress(text, compresslevel=6, mtime=0))


def _placed(
    events: Sequence[dict[str, Any]], *, place: int, shift: float, taken: set[object]
) -> Iterator[dict[str, Any]]:
    """A trace's events on the common clock, under process numbers that no other trace has."""
    numbers: dict[object, object] = {}
    used: set[object] = set(taken)
    for event in events:
        moved = dict(event)
        if isinstance(moved.get("ts"), int | float):
            moved["ts"] = round(moved["ts"] + shift, 3)
        if "pid" in moved:
            pid = moved["pid"]
            if pid not in numbers:
                numbers[pid] = _free(pid, used)
                used.add(numbers[pid])
            moved["pid"] = numbers[pid]
        if place and moved.get("ph", "") in _IDENTIFIED and "id" in moved:
            moved["id"] = f"{place}.{moved['id']}"
        yield moved
    taken |= used


def _free(pid: object, used: set[object]) -> object:
    """The process number, or the next that is free where another trace has it."""
    if pid not in used:
        return pid
    if isinstance(pid, int):
        return max((number for number in used if isinstance(number, int)), default=0) + 1
    n = 2
    while f"{pid} {n}" in used:
        n += 1
    return f"{pid} {n}"


def _base(trace: dict[str, Any], path: Path) -> int:
    """Where a trace's times count from, Unix ns."""
    base = trace.get("baseTimeNanoseconds")
    if isinstance(base, int) and abs(base) < _MOST_NS:
        return base
    times = [event["ts"] for event in trace["traceEvents"] if event.get("ph") == "X" and "ts" in event]
    if times and min(times) > _ABSOLUTE:
        return 0
    raise ProfileError(
        f"{path} does not say on which clock its times are",
        expected="a trace with baseTimeNanoseconds: ours, or torch.profiler's export_chrome_trace",
        fix="record it again with torch 2.2 or newer, or with this datapipe",
    )


def _file(path: str | os.PathLike[str]) -> Path:
    from datapipe.profiling.chrome_trace import NAME

    file = Path(path)
    return file / NAME if file.is_dir() else file


def _read(file: Path) -> dict[str, Any]:
    wanted = "a Chrome trace: a JSON object with traceEvents, or that gzipped"
    try:
        with file.open("rb") as opened:
            packed = opened.peek(2)[:2] == b"\x1f\x8b"
            source = gzip.GzipFile(fileobj=opened) if packed else opened
            raw = source.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ProfileError(f"{file} has more than {_LARGEST:,} bytes", expected=wanted)
        trace = json.loads(raw)
    except (FileNotFoundError, NotADirectoryError):
        raise NoProfileError(f"there is no trace at {file}", expected=wanted) from None
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror or error}", expected=wanted) from error
    except (ValueError, EOFError, zlib.error, RecursionError) as error:
        raise ProfileError(f"{file} is no trace: {error}", expected=wanted) from error
    events = trace.get("traceEvents") if isinstance(trace, dict) else None
    if not isinstance(events, list) or not all(_is_event(event) for event in events):
        raise ProfileError(f"{file} is no trace: it has no list of events", expected=wanted)
    return dict(trace)


def _is_event(event: object) -> bool:
    """Whether it is an object whose time is a number, and whose process is a number or a name."""
    if not isinstance(event, dict):
        return False
    time, pid, kind = event.get("ts", 0), event.get("pid", 0), event.get("ph", "")
    return (
        (isinstance(time, float) or (isinstance(time, int) and abs(time) < _MOST_NS))
        and isinstance(pid, (int, float, str))
        and isinstance(kind, str)
    )
