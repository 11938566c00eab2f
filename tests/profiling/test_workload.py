"""A run as work: what taking a batch costs."""

from __future__ import annotations

import pytest

from datapipe.profiling.loader_facts import TORCH
from datapipe.profiling.replay import replay
from datapipe.profiling.what_if import work_of
from datapipe.profiling.workload import _ready

MS = 1_000_000


@pytest.mark.parametrize(
    ("ready", "woken", "told"),
    [
        pytest.param([17, 18, 19], [2] * 20, 2, id="no more than waking and taking"),
        pytest.param([1, 1, 1], [2] * 20, 1, id="less than that is as measured"),
        pytest.param([17, 18, 19], [2] * 2, 18, id="two that were waited for say nothing"),
    ],
)
def test_taking_a_batch_takes_no_longer_than_being_woken_for_it(ready, woken, told):
    """Ms that batches took that lay ready, and that others took from being made on."""
    waits = [[100 * MS, (100 + ms) * MS] for ms in ready] + [[100 * MS, (150 + ms) * MS] for ms in woken]
    ended = [90 * MS] * len(ready) + [150 * MS] * len(woken)
    assert _ready(waits, ended) == told * MS


def test_a_few_late_first_takes_do_not_make_every_step_late(spans):
    """Two workers, a batch each 24 ms, so steps of 12; the first five were ready, and taken 17 ms late.

    Replayed, the steps after them are 12 ms: with each take as late as those they were 18, and no more workers helped.
    """
    made = [10 * MS, 11 * MS, 12 * MS, 13 * MS, 14 * MS] + [(140 + 12 * i) * MS for i in range(30)]
    asked = 14 * MS
    for i, end in enumerate(made):
        begun = max(0, end - 24 * MS)
        spans.add("dataset", begun, end, item=i, thread=1 + i % 2)
        got = asked + 17 * MS if i < 5 else max(asked, end) + MS // 2
        spans.add("wait", asked, got, item=i, cause=i).add("forward", got, got + MS).add(
            "step", asked, got + MS, item=i
        )
        asked = got + MS
    run = spans.run(notes={"loader": TORCH, "loader.num_workers": 2}, environment={"cpus usable": 2})
    ends = replay(work_of(run))
    assert (ends[-1] - ends[-11]) / 10 == pytest.approx(12 * MS, rel=0.05)
