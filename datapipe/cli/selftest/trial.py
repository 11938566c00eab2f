"""One case, from its runs to its `Outcome`: profiled, its fixes executed, the two compared.

What enters: a bench and a case. What leaves: an `Outcome`. Invariant: nothing of an executed fix reaches a prediction;
runs of one case are interleaved, so that a machine that is busier for a while is so for all of them, and of each pipe
the quieter run counts.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

from datapipe.cli.selftest.grading import Asked, Outcome

if TYPE_CHECKING:
    from datapipe.cli.selftest.cases import Case
    from datapipe.cli.selftest.pipe import Pipe
    from datapipe.cli.selftest.pipeline import Bench, Run
    from datapipe.profiling.changes import Change

ROUNDS: Final = 2
"""Runs of each pipe of a case."""


def outcome_of(bench: Bench, case: Case, rounds: int = ROUNDS) -> Outcome:
    """Run a case and compare."""
    from datapipe.profiling.what_if import predict, work_of

    bumps = list(case.bumps())
    wanted: dict[str, Pipe] = {"": case.pipe}
    wanted |= {f"bump {stage}": pipe for stage, _, pipe in bumps}
    wanted |= {f"fix {place}": pipe for place, (_, pipe) in enumerate(case.fixes)}
    if case.delayed not in (None, "forward"):
        assert case.delayed is not None
        wanted["clean"] = case.pipe.faster(case.delayed, float("inf"))
    runs: dict[str, Run] = {}
    for _ in range(rounds):
        for name, pipe in wanted.items():
            made = bench.recorded(pipe)
            if name not in runs or made.step_ns < runs[name].step_ns:
                runs[name] = made
    base = runs[""]
    work = work_of(base.raw, cores=float(case.pipe.cores) if case.pipe.cores else None)
    asked: list[Asked] = []
    changes: list[tuple[str, Change]] = [(f"bump {stage}", change) for stage, change, _ in bumps]
    changes += [(f"fix {place}", change) for place, (change, _) in enumerate(case.fixes)]
    for name, change in changes:
        known = _measured(bench, case, change)
        found = predict(work, known)
        asked.append(
            Asked(
                change=str(known), predicted=found.step_ns, low=found.low, high=found.high, true=runs[name].step_ns,
                extrapolated=found.extrapolated,
            )
        )  # fmt: skip
    delay = None
    if case.delayed == "forward":  # on the loop's thread it adds what it takes
        delay = (base.device_ns, base.spent("forward"))
    elif case.delayed is not None:
        clean = runs["clean"]
        delay = (base.step_ns - clean.step_ns, base.spent(case.delayed) - clean.spent(case.delayed))
    summary, use = base.summary, base.summary.memory_use
    return Outcome(
        name=case.name, fault=case.fault, healthy=case.healthy, step_ns=base.step_ns, kind=summary.verdict.kind,
        named=next(iter(summary.path_ns), None),
        gains={stage: base.step_ns - runs[f"bump {stage}"].step_ns for stage, _, _ in bumps},
        remainder=summary.remainder_ns / summary.wall_ns, delay=delay, asked=tuple(asked),
        warned=None if not (use and use.growth) else any(one.leak for one in use.growth),
    )  # fmt: skip


def _measured(bench: Bench, case: Case, change: Change) -> Change:
    """Another codec's cost has to be known: here it is measured, by decoding both datasets once."""
    if change.kind != "decode":
        return change
    after = next(pipe for other, pipe in case.fixes if other is change)
    return dataclasses.replace(change, factor=bench.decoding_ns(case.pipe) / bench.decoding_ns(after))


def overhead_of(bench: Bench, pairs: int) -> dict[str, list[float]]:
    """Step time with recording ÷ without, and with a trace ÷ without, less 1; interleaved runs.

    Between the two, and written apart, lies what the machine does by itself: the median over the pairs is graded.
    """
    import tempfile
    from pathlib import Path

    from datapipe.cli.selftest.pipe import Pipe

    pipe = Pipe(transform="sleep", transform_ms=1.0, device_ms=5.0, steps=96)
    found: dict[str, list[float]] = {"recording": [], "with trace": []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(pairs):
            bare = bench.bare(pipe)
            found["recording"].append(bench.recorded(pipe).looped_ns / bare - 1)
            found["with trace"].append(bench.recorded(pipe, out=Path(folder) / str(i)).looped_ns / bare - 1)
    return found


def lateness_ns() -> float:
    """How late this machine wakes a thread now: 90th percentile over 50 sleeps of 2 ms, ns."""
    late = []
    for _ in range(50):
        began = time.perf_counter_ns()
        time.sleep(0.002)
        late.append(time.perf_counter_ns() - began - 2_000_000)
    return float(sorted(late)[45])
