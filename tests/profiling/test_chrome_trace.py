"""The trace read back: what a viewer needs of every event, of nesting on a thread, and of flows."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from datapipe.profiling import profile
from datapipe.profiling.chrome_trace import MOST_SPANS, trace, write_trace


@pytest.fixture
def events(pipeline):
    random = np.random.default_rng(0)
    services = np.round(random.lognormal(0, 0.5, (3, 40)) * 1e6)
    run = (
        pipeline(services, np.round(random.lognormal(0, 0.5, 40) * 1e6)).spans().run(memory=((0.0, 1), (0.1, 2 << 20)))
    )
    return run, trace(run)["traceEvents"]


def check_fields(event):
    assert event["ph"] in "MXCsf"
    assert isinstance(event["name"], str)
    assert isinstance(event["pid"], int)
    assert isinstance(event["tid"], int)
    if event["ph"] != "M":
        assert event["ts"] >= 0
    if event["ph"] == "X":
        assert event["dur"] >= 0
        assert isinstance(event["cat"], str)
    if event["ph"] in "sf":
        assert isinstance(event["id"], int)
        assert event["cat"] == "flow"


def check_nesting(events):
    """Slices of a thread lie beside or inside each other."""
    for tid in {event["tid"] for event in events if event["ph"] == "X"}:
        open_until = []
        slices = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == tid]
        assert slices == sorted(slices, key=lambda s: (s[0], -s[1]))
        for start, end in slices:
            while open_until and open_until[-1] <= start + 1e-6:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 1e-6
            open_until.append(end)


def test_every_event_has_its_fields(events):
    for event in events[1]:
        check_fields(event)


def test_every_span_is_there(events):
    run, rows = events
    assert sum(row["ph"] == "X" for row in rows) == len(run.spans)
    named = {row["args"]["name"] for row in rows if row["ph"] == "M" and row["name"] == "thread_name"}
    assert named == set(run.threads)


def test_slices_nest(events):
    check_nesting(events[1])


def holders(rows, flow):
    """The slices that a flow's end binds to: those of its thread that hold its time."""
    return [
        row for row in rows
        if row["ph"] == "X" and row["tid"] == flow["tid"] and row["ts"] <= flow["ts"] <= row["ts"] + row["dur"]
    ]  # fmt: skip


def test_flows_pair_up_and_lie_in_slices(events):
    """Each start has one end, not before it; both bind to a slice on their thread, one stage and the next."""
    rows = events[1]
    starts = {row["id"]: row for row in rows if row["ph"] == "s"}
    ends = {row["id"]: row for row in rows if row["ph"] == "f"}
    assert starts
    assert starts.keys() == ends.keys()
    assert len(starts) == sum(row["ph"] == "s" for row in rows)
    seen = set()
    for number, start in starts.items():
        assert start["ts"] <= ends[number]["ts"]
        pairs = {(a["name"], b["name"]) for a in holders(rows, start) for b in holders(rows, ends[number])}
        known = {("fetch", "decode"), ("decode", "gather"), ("gather", "wait")} & pairs
        assert known
        assert start["name"] == ("batch" if ("gather", "wait") in known else "block")
        seen |= known
    assert len(seen) == 3


def test_flows_lead_from_storage_to_every_step(events):
    """Walked back from any wait, arrows end in the read of its block."""
    rows = events[1]
    starts = {row["id"]: row for row in rows if row["ph"] == "s"}
    into = {}
    for row in rows:
        if row["ph"] == "f":
            for target in holders(rows, row):
                into.setdefault(id(target), []).append(holders(rows, starts[row["id"]]))

    def roots(target):
        sources = [source for found in into.get(id(target), []) for source in found]
        return {target["name"]}.union(*(roots(source) for source in sources)) if sources else {target["name"]}

    waits = [row for row in rows if row["ph"] == "X" and row["name"] == "wait" and id(row) in into]
    assert len(waits) == 40
    assert all(roots(wait) >= {"fetch", "decode", "gather"} for wait in waits)


def test_the_device_has_a_track_of_its_own(spans):
    """What the device did overlaps what its host thread did; on its own track both nest."""
    spans.add("step", 0, 100, item=0).add("forward", 0, 30).add("sync", 30, 100)
    spans.add("forward", 10, 60, flags=4).add("backward", 60, 95, flags=4)
    rows = trace(spans.run())["traceEvents"]
    check_nesting(rows)
    assert len({row["tid"] for row in rows if row["ph"] == "X"}) == 2
    assert any("device" in row["args"].get("name", "") for row in rows if row["ph"] == "M")


def test_counters_never_go_below_nothing(events):
    levels = [row["args"]["batches"] for row in events[1] if row["ph"] == "C" and row["name"] == "batches ready"]
    assert levels
    assert min(levels) == 0
    assert [row["args"]["MiB"] for row in events[1] if row["name"] == "resident memory"] == [0.0, 2.0]


def test_a_real_run_reads_back(tmp_path):
    """The file is gzipped JSON; nested phases of a real loop nest."""
    with profile(tmp_path) as prof:
        for _ in prof.steps(range(20)):
            with prof.phase("forward"), prof.phase("<script>"):
                pass
    with gzip.open(tmp_path / "trace.json.gz") as file:
        rows = json.load(file)["traceEvents"]
    for row in rows:
        check_fields(row)
    check_nesting(rows)
    assert sum(row["name"] == "<script>" for row in rows) == 20


def test_the_same_run_gives_the_same_file(events, tmp_path):
    one = write_trace(events[0], tmp_path / "a").read_bytes()
    assert one == write_trace(events[0], tmp_path / "b").read_bytes()


@pytest.mark.slow
def test_a_long_run_is_cut_and_says_so(spans):
    run = spans.add("step", 0, 10).add("wait", 0, 5).run()
    import dataclasses

    many = np.tile(run.spans, MOST_SPANS // 2 + 5)
    other = trace(dataclasses.replace(run, spans=many))["otherData"]
    assert other == {"spans": MOST_SPANS, "spans left out": 10, "spans lost": 0}
