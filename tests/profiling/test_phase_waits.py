"""A phase beside the steps that waits for data is named in the verdict, with its share and its loader."""

from __future__ import annotations

import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.phase_waits import loader_note

MS = 1_000_000


def evaluated(spans, *, batches, wait, n=40, notes=None):
    """Start-up of 10 s, n healthy steps of 10 ms, then batches of evaluation: 20 ms each, of which `wait` ms wait."""
    t = began = 10_000 * MS
    for i in range(n):
        spans.add("wait", t, t + MS // 10, item=i).add("forward", t + MS // 10, t + 10 * MS)
        spans.add("step", t, t + 10 * MS, item=i)
        t += 10 * MS
    spans.add("epoch", began, t, item=0)
    for _ in range(batches):
        spans.add("evaluate", t, t + 20 * MS).add("wait", t, t + wait * MS).add("forward", t + wait * MS, t + 20 * MS)
        t += 20 * MS
    return spans.run(ended=t + MS, notes=notes or {})


def test_a_slow_evaluation_beside_healthy_steps_is_named(spans):
    """200 ms of the 600 after start-up, 90% of them waits: named with its loader; the verdict on the steps stays."""
    notes = {loader_note("evaluate"): "torch.utils.data.DataLoader(num_workers=0)"}
    found = summarise(evaluated(spans, batches=10, wait=18, notes=notes)).verdict
    assert found.kind == "not input-bound"
    assert found.sentence.startswith("Healthy")
    assert found.sentence.endswith(
        " Beside the steps, evaluation takes 33% of the run after its start-up (200 ms), and 90% of that waits for its"
        " loader (torch.utils.data.DataLoader(num_workers=0))."
    )


@pytest.mark.parametrize(("batches", "wait"), [(2, 18), (10, 8), (0, 0)])
def test_a_short_one_or_one_that_computes_is_not(spans, batches, wait):
    """Under a tenth of the run, or waiting for less than half of itself: nothing to say."""
    assert "Beside" not in summarise(evaluated(spans, batches=batches, wait=wait)).verdict.sentence


def test_waits_of_an_evaluation_are_no_waits_of_steps(spans, new_spans):
    """The ledger of the steps is the same with and without what is recorded inside the evaluation."""
    some, none = (summarise(evaluated(kind, batches=10, wait=wait)) for kind, wait in ((spans, 18), (new_spans(), 0)))
    assert some.parts == none.parts
    assert some.run == none.run
    assert some.remainder_ns == none.remainder_ns == 0
