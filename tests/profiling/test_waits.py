from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import Precedence, loader_spans, match_batches
from datapipe.profiling.waits import Hold, split_waits

US = 1_000


def split(spans, held=()):
    run = spans.run()
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    work = Precedence(run.spans[loader_spans(run.spans, run.stages, ledger)], run.stages)
    table = split_waits(ledger, work, match_batches(run.spans, run.stages, ledger), held)
    return ledger, [
        {name: ns // US for name, ns in zip(table.names, row, strict=True) if ns} for row in table.ns.tolist()
    ]


def add(spans, stage, start, end, **more):
    return spans.add(stage, start * US, end * US, **more)


def test_a_wait_is_split_by_the_stages_on_the_path(spans):
    """Batch 0 was gathered from block 7, which was fetched and decoded: the wait is theirs, back to its start."""
    add(spans, "step", 0, 1000, item=0)
    add(spans, "wait", 100, 900, item=0, cause=0)
    add(spans, "fetch", 0, 400, item=7, thread=1)
    add(spans, "decode", 400, 650, item=7, thread=2)
    add(spans, "gather", 700, 800, item=0, cause=7, thread=3)
    add(spans, "collate", 800, 880, item=0, thread=3)
    _, (row,) = split(spans)
    assert row == {"fetch": 300, "decode": 250, "gather": 100, "collate": 80, "queue": 70}


def test_the_last_arriving_dependency_is_followed(spans):
    """The gatherer was still busy with batch 0 when batch 1's block had long been decoded: that work is on the path."""
    add(spans, "step", 0, 1000, item=1)
    add(spans, "wait", 0, 1000, item=1, cause=1)
    add(spans, "decode", 0, 100, item=3, thread=1)
    add(spans, "gather", 50, 600, item=0, cause=2, thread=2)
    add(spans, "transform", 600, 1000, item=1, cause=-1, thread=2)
    add(spans, "decode", 0, 40, item=2, thread=3)
    _, (row,) = split(spans)
    assert row == {"gather": 550, "transform": 400, "decode": 40, "queue": 10}


def test_a_batch_that_lay_ready_was_only_handed_over(spans):
    """Work that ended before the wait began is not charged."""
    add(spans, "step", 500, 1000, item=0)
    add(spans, "wait", 500, 510, item=0, cause=0)
    add(spans, "collate", 100, 400, item=0, thread=1)
    _, (row,) = split(spans)
    assert row == {"queue": 10}


def test_a_batch_that_lay_ready_while_the_lock_was_held_waits_for_its_holder(spans):
    """The consumer could not run to take it: the transform of the next batch kept the lock for 440 of the 500."""
    add(spans, "step", 0, 1000, item=0)
    add(spans, "wait", 100, 900, item=0, cause=0)
    add(spans, "collate", 0, 400, item=0, thread=1)
    add(spans, "transform", 410, 850, item=1, thread=1)
    _, (row,) = split(spans, held=[Hold(410 * US, 850 * US, "transform")])
    assert row == {"collate": 300, "transform": 440, "queue": 60}
    _, (free,) = split(spans)
    assert free == {"collate": 300, "queue": 500}


def test_all_that_held_the_lock_since_a_batch_lay_ready_are_waited_for(spans):
    """One held it before the batch was ready and on, then another one: each is charged for its own time."""
    add(spans, "step", 0, 1000, item=0)
    add(spans, "wait", 100, 900, item=0, cause=0)
    add(spans, "collate", 0, 400, item=0, thread=1)
    held = [Hold(50 * US, 90 * US, "filter"), Hold(300 * US, 500 * US, "filter"), Hold(600 * US, 850 * US, "transform")]
    _, (row,) = split(spans, held=held)
    assert row == {"collate": 300, "filter": 100, "transform": 250, "queue": 150}


def test_a_foreign_loader_is_one_closed_box(spans):
    add(spans, "step", 0, 1000, item=0)
    add(spans, "wait", 0, 700, item=0)
    _, (row,) = split(spans)
    assert row == {"loader": 700}


def test_a_loader_on_the_consumers_thread_is_seen_inside_the_wait(spans):
    """Without a cause, the spans inside the wait say which batch it was for; what they leave over is the loader's."""
    for i in (0, 1):
        t = i * 1000
        add(spans, "step", t, t + 1000, item=i)
        add(spans, "wait", t, t + 600, item=i)
        add(spans, "gather", t + 100, t + 300, item=40 + i)
        add(spans, "collate", t + 300, t + 600, item=40 + i)
    _, rows = split(spans)
    assert rows[0] == {"gather": 200, "collate": 300, "loader": 100}
    assert rows[1]["gather"] == 200
    assert rows[1]["collate"] == 300


def test_steps_and_batches_are_matched_in_order_where_nothing_is_said(spans):
    """The k-th step had the k-th batch, if each was ready when its wait ended: a resumed run's numbers start late."""
    for i in range(4):
        add(spans, "step", i * 100, i * 100 + 100, item=i)
        add(spans, "wait", i * 100, i * 100 + 60, item=i)
        add(spans, "collate", i * 100, i * 100 + 60, item=1000 + i, thread=1)
    _, rows = split(spans)
    assert rows == [{"collate": 60}] * 4


def test_every_wait_of_a_step_is_split(spans):
    """Where gradients are accumulated a step waits for several batches, each for work of its own."""
    for i in range(3):
        t = i * 1000
        add(spans, "step", t, t + 1000, item=i)
        for k, stage in enumerate(("decode", "transform")):
            at = t + k * 500
            add(spans, "wait", at, at + 300, item=i)
            add(spans, "forward", at + 300, at + 500)
            add(spans, stage, at, at + 200, item=100 + i, thread=1)
            add(spans, "gather", at + 200, at + 300, item=10 + 2 * i + k, cause=100 + i if k == 0 else -1, thread=1)
    _, rows = split(spans)
    assert all(sum(row.values()) == 600 for row in rows)
    assert all(row["gather"] == 200 for row in rows)
    assert all(row["decode"] == 200 for row in rows)


def test_a_queue_span_explains_nothing(spans):
    """The time a hand-over span covers is the work of other stages."""
    add(spans, "step", 0, 1000, item=0)
    add(spans, "wait", 0, 800, item=0)
    add(spans, "queue", 0, 800, item=5)
    add(spans, "decode", 0, 700, item=2, thread=1)
    add(spans, "gather", 700, 800, item=5, cause=2, thread=1)
    _, (row,) = split(spans)
    assert row == {"decode": 700, "gather": 100}


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_every_row_sums_to_its_wait(pipeline, seed):
    """Any pipeline: the wait's stages sum to the wait, none negative."""
    random = np.random.default_rng(seed)
    services = random.lognormal(0, 0.7, (3, 40)) * random.uniform(0.5, 3, (3, 1)) * 1e6
    spans = pipeline(services, random.lognormal(0, 0.5, 40) * 1e6).spans()
    run = spans.run()
    ledger = build_ledger(run.spans, run.stages, began=0, ended=run.ended, wall=run.wall)
    work = Precedence(run.spans[loader_spans(run.spans, run.stages, ledger)], run.stages)
    table = split_waits(ledger, work, match_batches(run.spans, run.stages, ledger))
    assert table.ns.sum(axis=1).tolist() == ledger.part("wait").tolist()
    assert (table.ns >= 0).all()
    assert "loader" not in table.names or table.ns[:, table.names.index("loader")].sum() == 0
