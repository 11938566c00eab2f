from __future__ import annotations

import pytest

from datapipe.events import HIT, MISS
from datapipe.profiling.stages import stage_rows


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
