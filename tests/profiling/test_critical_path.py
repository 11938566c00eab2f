"""The path against the truth: a stage's share of it is how much of the run its speeding-up saves."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.profiling.critical_path import critical_path
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import Precedence, loader_spans, match_batches
from datapipe.profiling.waits import split_waits


def path_of(spans):
    run = spans.run()
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    work = Precedence(run.spans[loader_spans(run.spans, run.stages, ledger)], run.stages)
    batches = match_batches(run.spans, run.stages, ledger)
    return ledger, critical_path(ledger, work, batches, split_waits(ledger, work, batches))


def elasticities(pipeline, services, compute):
    """By what share the run shortens per share of a stage's time saved, measured by running it again."""
    base = pipeline(services, compute).finish()[0]
    out = {}
    for s, name in enumerate(("fetch", "decode", "gather")):
        faster = services.copy()
        faster[s] *= 0.999
        out[name] = (base - pipeline(faster, compute).finish()[0]) / base / 0.001
    out["forward"] = (base - pipeline(services, compute * 0.999).finish()[0]) / base / 0.001
    return out


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spread", [0.1, 0.8])
def test_shares_are_elasticities(pipeline, seed, spread):
    """In simulated pipelines with finite queues, each stage's share is its measured elasticity, within 5 points."""
    random = np.random.default_rng(seed)
    means = random.uniform(1, 4, (3, 1)) * 1e6
    services = np.round(means * random.lognormal(0, spread, (3, 400)))
    compute = np.round(random.uniform(1, 4) * 1e6 * random.lognormal(0, spread, 400))
    _, path = path_of(pipeline(services, compute).spans())
    truth = elasticities(pipeline, services, compute)
    whole = sum(path.values())
    shares = {name: path.get(name, 0) / whole for name in truth}
    assert shares == pytest.approx(truth, abs=0.05)


def test_the_charges_sum_to_the_time_walked_over(pipeline):
    """From the first steady step's start to the last one's end, to the nanosecond."""
    random = np.random.default_rng(3)
    services = np.round(random.lognormal(0, 0.5, (3, 100)) * 1e6)
    ledger, path = path_of(pipeline(services, np.round(random.lognormal(0, 0.5, 100) * 1e6)).spans())
    assert sum(path.values()) == ledger.end[-1] - ledger.start[1]


def test_time_between_steps_is_no_part_of_the_path(spans):
    """An evaluation between two steps is nobody's share of a step."""
    for i in range(3):
        t = i * 10_000_000
        spans.add("step", t, t + 4_000_000, item=i).add("forward", t, t + 4_000_000)
    _, path = path_of(spans)
    assert dict(path) == {"forward": 8_000_000}


@pytest.mark.parametrize("scale", [1, 100], ids=["short waits", "long waits"])
def test_work_on_the_consumers_own_thread_leads_back_to_the_consumer(spans, scale):
    """A loader without threads: each wait is its own work, and before it comes the step before, not a queue."""
    us = 1_000 * scale
    for i in range(6):
        t = i * 100 * us
        spans.add("step", t, t + 100 * us, item=i).add("wait", t, t + 40 * us, item=i)
        spans.add("gather", t + 5 * us, t + 25 * us, item=i, cause=0).add("collate", t + 25 * us, t + 40 * us, item=i)
        spans.add("forward", t + 40 * us, t + 100 * us)
    spans.add("decode", 0, 1 * us, item=0, thread=1)
    _, path = path_of(spans)
    assert dict(path) == {"forward": 300 * us, "gather": 100 * us, "collate": 75 * us, "loader": 25 * us}


def test_a_closed_loader_is_charged_its_waits(spans):
    for i in range(5):
        t = i * 10_000_000
        spans.add("step", t, t + 10_000_000, item=i).add("wait", t, t + 7_000_000, item=i)
        spans.add("forward", t + 7_000_000, t + 10_000_000)
    _, path = path_of(spans)
    assert dict(path) == {"loader": 28_000_000, "forward": 12_000_000}
