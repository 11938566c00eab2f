from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.events import DEVICE, HIT, MISS
from datapipe.profiling.stages import StageTally


def stage_rows(spans, stages, *, path):
    """The rows of spans that are added at once."""
    tally = StageTally()
    tally.add(spans)
    return tally.rows(stages, path=path)


def test_a_stage_is_counted_timed_and_its_waits_kept_apart(spans):
    """Service is end - start; waiting for input and for room are beside it; utilisation is over its threads."""
    spans.add("decode", 10, 30, get=0, put=45, item=0, thread=1, nbytes=100, cpu=15, flags=HIT)
    spans.add("decode", 50, 90, get=50, put=90, item=1, thread=2, nbytes=50, cpu=15, flags=MISS)
    run = spans.run()
    (row,) = stage_rows(run.spans, run.stages, path={"decode": 30, "forward": 70})
    assert (row.name, row.count, row.threads, row.busy, row.bytes) == ("decode", 2, 2, 60, 150)
    assert (row.starved, row.blocked, row.hits, row.misses) == (10, 15, 1, 1)
    assert (row.mean, row.p50) == (30, 30)
    assert row.utilisation == pytest.approx(60 / (45 + 40))
    assert row.cpu == pytest.approx(0.5)
    assert row.path == pytest.approx(0.3)


def test_steps_and_epochs_are_no_stages(spans):
    run = spans.add("step", 0, 10).add("epoch", 0, 10).add("wait", 0, 4).run()
    assert [row.name for row in stage_rows(run.spans, run.stages, path={})] == ["wait"]


def test_no_spans_are_no_rows(spans):
    """Nothing recorded, or nothing but what a device did."""
    assert stage_rows(spans.array(), spans.run(ended=1).stages, path={}) == ()
    device = spans.add("forward", 0, 10, flags=DEVICE).run()
    assert stage_rows(device.spans, device.stages, path={}) == ()


@given(cut=st.integers(0, 30))
def test_a_tally_in_two_parts_is_a_tally_at_once(new_spans, cut):
    """Rows of a run are those of any two parts of it together; a service of 5 s, too long for 32 bits, too."""
    made = new_spans()
    for i in range(30):
        made.add(
            ("fetch", "decode")[i % 2], i * 10, i * 10 + 7 + (5_000_000_000 if i == 20 else 0), thread=i % 3, cpu=i
        )
    run = made.run()
    tally = StageTally()
    tally.add(run.spans[:cut])
    tally.add(run.spans[cut:])
    assert tally.rows(run.stages, path={}) == stage_rows(run.spans, run.stages, path={})
    assert tally.recorded == {0: 10, 1: 10, 2: 10}
