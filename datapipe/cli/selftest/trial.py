"""One case, from its runs to its `Outcome`: profiled, its fixes executed, the two compared.

What enters: a bench and a case. What leaves: an `Outcome`. Invariant: nothing of an executed fix reaches a prediction.

Datasets are made and read before the first run, which would be beside the writing of its own pages else.

A round runs the pipe, each fix, and the pipe again, one after the other, so that a machine that is busier for a while
is so for all of them. What the pipe's two runs differ by is the noise of the truth itself; rounds are repeated while it
is large, and of each pipe the fastest run counts: other programs only ever make a run slower.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from datapipe.cli.selftest.cases import BUMP
from datapipe.cli.selftest.grading import Asked, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.cli.selftest.cases import Case
    from datapipe.cli.selftest.pipe import Pipe
    from datapipe.cli.selftest.pipeline import Bench, Run
    from datapipe.profiling.changes import Change

ROUNDS: Final = 3
"""Rounds of a case, at most."""
_TELLS: Final = 1.2
"""A codec that makes decoding less faster than this says little of what a bump of it would gain."""
_CALM: Final = 0.015
"""Runs of one pipe that differ by less than this, half of the gate of the median error, need no further round."""


def outcome_of(bench: Bench, case: Case, again: Callable[[], bool]) -> Outcome:
    """Run a case and compare.

    Args:
        again: asked before every further round, whether there is time for it.
    """
    bumps = list(case.bumps())
    wanted: dict[str, Pipe] = {"": case.pipe}
    wanted |= {f"bump {stage}": pipe for stage, _, pipe in bumps}
    wanted |= {f"fix {place}": pipe for place, (_, pipe) in enumerate(case.fixes)}
    wanted["again"] = case.pipe
    for pipe in wanted.values():
        bench.prepare(pipe)
    runs: dict[str, Run] = {}
    others: list[float] = []
    for done in range(ROUNDS):
        if done and (abs(runs["again"].step_ns / runs[""].step_ns - 1) <= _CALM or not again()):
            break
        for name, pipe in wanted.items():
            made = bench.recorded(pipe)
            others += [] if made.others is None else [made.others]
            if name not in runs or made.step_ns < runs[name].step_ns:
                runs[name] = made
    base = runs[""]
    changes: list[tuple[str, Change]] = [(f"bump {stage}", change) for stage, change, _ in bumps]
    changes += [(f"fix {place}", _measured(bench, case, change)) for place, (change, _) in enumerate(case.fixes)]
    summary, use = base.summary, base.summary.memory_use
    return Outcome(
        name=case.name, fault=case.fault, healthy=case.healthy, step_ns=base.step_ns, kind=summary.verdict.kind,
        named=next(iter(summary.path_ns), None),
        gains={stage: base.step_ns - runs[f"bump {stage}"].step_ns for stage, _, _ in bumps} | _decoding(changes, runs),
        remainder=summary.remainder_ns / summary.wall_ns, delay=_delay(case, runs),
        asked=_asked(case, changes, runs), again_ns=runs["again"].step_ns,
        others=sum(others) / len(others) if others else None,
        device_ns=base.device_ns,
        warned=None if not (use and use.growth) else any(one.leak for one in use.growth),
    )  # fmt: skip


def _decoding(changes: list[tuple[str, Change]], runs: dict[str, Run]) -> dict[str, float]:
    """What a bump of decoding would gain, ns: there is none, but a codec by which it takes 1/factor of its time.

    Of what that gains, the share that the bump takes off decoding out of what the codec takes off.
    """
    for name, change in changes:
        if change.kind == "decode" and change.factor >= _TELLS:
            saved = runs[""].step_ns - runs[name].step_ns
            return {"decode": saved * (1 - 1 / BUMP) / (1 - 1 / change.factor)}
    return {}


def _asked(case: Case, changes: list[tuple[str, Change]], runs: dict[str, Run]) -> tuple[Asked, ...]:
    """Each change as the profiled run predicts it, and as it was executed."""
    from datapipe.profiling.what_if import predict, work_of

    work = work_of(runs[""].raw, cores=float(case.pipe.cores) if case.pipe.cores else None)
    asked = []
    for name, change in changes:
        found = predict(work, change)
        asked.append(
            Asked(
                change=str(change), kind=change.kind, predicted=found.step_ns, low=found.low, high=found.high,
                true=runs[name].step_ns, extrapolated=found.extrapolated,
            )
        )  # fmt: skip
    return tuple(asked)


def _delay(case: Case, runs: dict[str, Run]) -> tuple[float, float] | None:
    """Ns per step that a part of the fault's time adds, as executed, and that are charged to its stage.

    The part is what the bump takes away: without the whole fault another stage would be the bottleneck, and the step
    would differ by that one's time too.
    """
    base = runs[""]
    if case.delayed == "forward":  # on the loop's thread it adds what it takes
        return base.device_ns, base.spent("forward")
    if case.delayed is None:
        return None
    less = runs[f"bump {case.delayed}"]
    return base.step_ns - less.step_ns, base.spent(case.delayed) - less.spent(case.delayed)


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
