"""Which batch a wait was for."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import match_batches


def matched(run):
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    return match_batches(run.spans, run.stages, ledger).tolist()


def without_causes(spans):
    """The waits no longer say which batch they were for."""
    wait = spans.stages.index("wait")
    spans.rows = [(row[0], -1, *row[2:]) if row[8] == wait else row for row in spans.rows]
    return spans


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_batches_made_before_their_epoch_began_are_found(pipeline, depth):
    """A loader that reads ahead into the next epoch, numbers going on: every wait has its batch, in every epoch."""
    made = pipeline(np.full((3, 60), 1e6), np.full(60, 5e6), depth)
    _, _, _, _, asked, _, done = made.finish()
    spans = made.spans()
    for epoch in range(3):
        spans.add("epoch", asked[epoch * 20], done[epoch * 20 + 19], item=epoch)
    assert matched(without_causes(spans).run()) == list(range(60))


def test_a_loader_that_begins_anew_numbers_anew(pipeline, new_spans):
    """Each epoch from 0, with batches made at the end of an epoch that nobody took: they are not the next epoch's."""
    made = pipeline(np.full((3, 24), 1e6), np.full(24, 5e6), 4)
    length = int(made.finish()[0]) + 50_000_000
    spans = new_spans()
    for epoch in range(2):
        one = made.spans()
        spans.stages = one.stages
        names = {"wait": one.stages.index("wait"), "step": one.stages.index("step")}
        rows = [row for row in one.rows if row[8] not in names.values() or row[0] < 20]
        rows = [row for row in rows if row[8] != one.stages.index("forward") or row[3] < 20 * 6e6]
        spans.rows += [(*row[:2], *(t + epoch * length for t in row[2:6]), *row[6:]) for row in rows]
        spans.add("epoch", epoch * length, epoch * length + 20 * 6e6, item=epoch)
    assert matched(without_causes(spans).run()) == [*range(20), *range(20)]


def test_the_inputs_of_all_spans_are_those_of_each(pipeline):
    """By columns or one by one: the same edges."""
    import numpy as np

    from datapipe.profiling.ledger import build_ledger
    from datapipe.profiling.precedence import Precedence, loader_spans

    random = np.random.default_rng(3)
    made = pipeline(random.lognormal(0, 1, (3, 60)) * 1e6, random.lognormal(0, 1, 60) * 1e6)
    run = made.spans().run()
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    work = Precedence(run.spans[loader_spans(run.spans, run.stages, ledger)], run.stages)
    assert work.inputs().tolist() == [work.input_of(i) for i in range(len(work.start))]
    assert (work.inputs() >= 0).sum() > 60
