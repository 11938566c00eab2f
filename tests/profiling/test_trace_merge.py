"""Merged traces read back: nothing lost, nothing confused, and one clock with torch.profiler's."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from datapipe.errors import ProfileError
from datapipe.profiling import profile
from datapipe.profiling.chrome_trace import write_trace
from datapipe.profiling.trace_merge import merge_traces


def read(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def trace(path, base, *events):
    path.write_text(json.dumps({"traceEvents": list(events), "baseTimeNanoseconds": base}))
    return path


def test_a_torch_trace_lies_on_the_same_clock(tmp_path):
    """What torch recorded inside a phase lies inside it in the merged trace too."""
    torch = pytest.importorskip("torch")
    with (
        profile(tmp_path / "run") as prof,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as t,
    ):
        for i in prof.steps(range(12)):
            with prof.phase("forward"):
                time.sleep(0.02)  # the clocks' own error is microseconds
                with torch.profiler.record_function(f"marker {i}"):
                    torch.ones(10).sum()
                time.sleep(0.02)
    t.export_chrome_trace(str(tmp_path / "torch.json"))
    merged = read(merge_traces([tmp_path / "run", tmp_path / "torch.json"], tmp_path / "both.json.gz"))
    slices = [row for row in merged["traceEvents"] if row["ph"] == "X"]
    phases = sorted((row["ts"], row["ts"] + row["dur"]) for row in slices if row["name"] == "forward")
    markers = sorted((r["ts"], r["ts"] + r["dur"]) for r in slices if r["name"].startswith("marker"))
    assert len(phases) == len(markers) == 12
    for (began, ended), (a, b) in zip(phases, markers, strict=True):
        assert began < a <= b < ended
    pids = {row["name"]: row["pid"] for row in slices}
    assert pids["forward"] != pids["marker 0"]


def test_nothing_is_lost_or_moved_against_its_own(pipeline, tmp_path):
    """All events of both, in order, with their lengths; distances within one trace are as they were."""
    import numpy as np

    run = pipeline(np.full((3, 20), 1e6), np.full(20, 1e6)).spans().run()
    write_trace(run, tmp_path / "a")
    later = trace(
        tmp_path / "b.json", 5_000_000,
        {"ph": "X", "name": "x", "pid": 1, "tid": 1, "ts": 10.0, "dur": 3.0},
        {"ph": "s", "name": "f", "cat": "flow", "id": 1, "pid": 1, "tid": 1, "ts": 10.0},
        {"ph": "f", "name": "f", "cat": "flow", "id": 1, "pid": 1, "tid": 1, "ts": 12.0},
        {"ph": "M", "name": "process_name", "pid": 1, "args": {}},
    )  # fmt: skip
    before = read(tmp_path / "a" / "trace.json.gz")["traceEvents"]
    merged = read(merge_traces([tmp_path / "a", later], tmp_path / "out.json.gz"))
    events = merged["traceEvents"]
    assert events[: len(before)] == before  # the earliest stays where it was
    assert merged["baseTimeNanoseconds"] == 0
    x, start, end, name = events[len(before) :]
    assert (x["ts"], x["dur"]) == (5010.0, 3.0)
    assert (start["ts"], end["ts"]) == (5010.0, 5012.0)
    assert start["id"] == end["id"]
    assert start["id"] not in {row.get("id") for row in before}
    assert x["pid"] == name["pid"] != before[0]["pid"]


def test_ranks_of_one_machine_keep_their_processes_apart(tmp_path):
    one = {"ph": "X", "name": "step", "pid": 1, "tid": 0, "ts": 0.0, "dur": 1.0}
    named = {"ph": "X", "name": "k", "pid": "Spans", "tid": 0, "ts": 0.0, "dur": 1.0}
    files = [trace(tmp_path / f"{i}.json", i * 1000, one, named) for i in range(3)]
    events = read(merge_traces(files, tmp_path / "out.json.gz"))["traceEvents"]
    assert len({row["pid"] for row in events}) == 6
    assert [row["ts"] for row in events[::2]] == [0.0, 1.0, 2.0]


def test_what_is_no_trace_is_refused(tmp_path):
    """Missing, torn, of another kind, or on an unknown clock: each is said, and nothing is written."""
    files = {
        "missing.json": None,
        "torn.json.gz": b"\x1f\x8b\x08torn",
        "text.json": b"not json",
        "other.json": b"[]",
        "events.json": b'{"traceEvents": [1]}',
        "clock.json": b'{"traceEvents": [{"ph": "X", "ts": 5, "dur": 1}]}',
    }
    for name, data in files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ProfileError, match=name):
            merge_traces([tmp_path / name], tmp_path / "out.json.gz")
    with pytest.raises(ProfileError, match="no trace was named"):
        merge_traces([], tmp_path / "out.json.gz")
    assert not (tmp_path / "out.json.gz").exists()


def test_an_older_torch_counted_from_the_epoch(tmp_path):
    """A trace without a base whose times are Unix µs is placed by those."""
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"traceEvents": [{"ph": "X", "name": "x", "pid": 2, "ts": 1.7e15, "dur": 1}]}))
    new = trace(
        tmp_path / "new.json", 1_700_000_000_000_000_000, {"ph": "X", "name": "y", "pid": 1, "ts": 7.0, "dur": 1}
    )
    events = read(merge_traces([old, new], tmp_path / "out.json.gz"))["traceEvents"]
    assert events[1]["ts"] - events[0]["ts"] == pytest.approx(7.0)
