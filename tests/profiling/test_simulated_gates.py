"""The selftest's gates over simulated pipelines: a virtual clock, so that the truth is exact and no run is late."""

from __future__ import annotations

import numpy as np

from datapipe.cli.selftest.grading import Asked, Outcome, grade
from datapipe.profiling.analysis import summarise
from datapipe.profiling.changes import Change
from datapipe.profiling.what_if import predict, work_of

MS = 1e6


def simulated(pipeline, seed):
    """A simulated case, graded as a real one is: truth by simulating again with each stage 30% faster."""
    random = np.random.default_rng(seed)
    means, spread = random.uniform(1, 6, 4) * MS, random.choice([0.05, 0.3])
    costs = np.round(means[:, None] * random.lognormal(0, spread, (4, 60)))
    stages = ("fetch", "decode", "gather", "forward")

    def step(costs):
        done = pipeline(costs[:3], costs[3]).finish()[-1]
        return (done[-1] - done[0]) / (len(done) - 1)

    run = pipeline(costs[:3], costs[3]).spans().run()
    summary, work = summarise(run), work_of(run, cores=8)
    gains, found = {}, []
    asked = random.choice(4, 2, replace=False)
    for row, stage in enumerate(stages):
        bumped = costs.copy()
        bumped[row] *= 0.7
        true = step(bumped)
        gains[stage] = step(costs) - true
        if row not in asked:
            continue
        said = predict(work, Change(kind="faster", stage=stage, factor=1 / 0.7))
        found.append(
            Asked(
                change=stage, kind="faster", predicted=said.step_ns, low=said.low, high=said.high, true=true,
                extrapolated=False,
            )
        )  # fmt: skip
    healthy = bool(means[3] > 1.3 * means[:3].max())
    return Outcome(
        name=str(seed), fault="simulated", healthy=healthy, step_ns=step(costs), kind=summary.verdict.kind,
        named=next(iter(summary.path_ns)), gains=gains, remainder=summary.remainder_ns / summary.wall_ns,
        asked=tuple(found),
    )  # fmt: skip


def test_simulated_pipelines_pass_the_gates(pipeline):
    """Over 100 simulated pipelines on a virtual clock: remainder, bottleneck, healthy controls and what-if errors.

    The simulated truth is the same run again, so it has none of a new run's noise: intervals hold it more often.
    """
    gates = {gate.measure: gate for gate in grade([simulated(pipeline, seed) for seed in range(100)], {})}
    for measure, gate in gates.items():
        if "intervals" in measure:
            assert gate.value > 0.75
        elif "delay" not in measure and "overhead" not in measure:
            assert gate.passed, f"{measure}: {gate.value}"
