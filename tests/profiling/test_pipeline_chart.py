from __future__ import annotations

import numpy as np
import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.pipeline_chart import STATES, boxes, strip_path

MS = 1_000_000


@pytest.fixture
def slow_decode(pipeline):
    services = np.full((3, 60), 1.0 * MS)
    services[1] *= 4
    return summarise(pipeline(services, np.full(60, MS)).spans().run())


def test_boxes_stand_in_the_order_of_the_data_and_sum_to_one(slow_decode):
    """Boxes are fetch → decode → gather → the loop; the named stage is marked, and each box's time is all there."""
    found = boxes(slow_decode)
    assert [box.name for box in found] == ["fetch", "decode", "gather", "step"]
    assert [box.name for box in found if box.bottleneck] == ["decode"]
    for box in found:
        assert sum(box.share(state) for state in STATES) == pytest.approx(1)
        assert [x for _, _, x in box.shares] == sorted(x for _, _, x in box.shares)
    assert found[0].queue is None
    assert found[1].queue is slow_decode.queues[0]


def test_the_stage_before_the_slow_one_is_blocked(slow_decode):
    fetch, decode, _, _ = boxes(slow_decode)
    assert fetch.share("blocked") > 0.6
    assert decode.share("working") > 0.95


def test_a_loader_that_records_nothing_has_no_pipeline(steady_run):
    assert boxes(summarise(steady_run())) == []


def test_claims_beyond_the_time_there_are_cut_in_proportion(spans):
    """Spans that overlap on a thread cannot make a box larger than its time."""
    for i in range(12):
        t = i * 10 * MS
        for start in (0, 1):
            spans.add("mine", t + start * MS, t + 9 * MS, get=t, put=t + 10 * MS, item=i, thread=1)
        spans.add("wait", t, t + 9 * MS, item=i).add("step", t, t + 10 * MS, item=i)
    box = boxes(summarise(spans.run()))[0]
    assert sum(box.share(state) for state in STATES) == pytest.approx(1)
    assert box.share("working") < 1


def test_a_strip_stays_in_its_box(slow_decode):
    for strip in slow_decode.queues:
        numbers = [float(y) for pair in strip_path(strip)[1:-1].replace("L", "").split() for y in pair.split(",")[1:]]
        assert min(numbers) >= 0
        assert max(numbers) <= 100
