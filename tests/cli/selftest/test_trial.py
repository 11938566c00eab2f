"""One case: what is run, how often, and what of it counts. The runs are made up; each takes what its pipe says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from datapipe.cli.selftest.cases import FAULTS, cases
from datapipe.cli.selftest.pipe import Pipe
from datapipe.cli.selftest.pipeline import Run
from datapipe.cli.selftest.trial import ROUNDS, _decoding, outcome_of
from datapipe.events import FIELDS, STAGES
from datapipe.profiling.analysis import RawRun, summarise
from datapipe.profiling.changes import Change

MS = 1_000_000


def made_up(pipe, late):
    """A loop that waits for a transform of one thread and then computes; every step takes `late` times as long."""
    rows, t, ready = [], 0, 0

    def add(stage, start, end, item, thread):
        rows.append((item, item, start, start, end, end, 0, 0, STAGES.index(stage), thread, 0))

    for i in range(40):
        began, ready = ready, ready + round(late * pipe.transform_ms * MS)
        add("transform", began, ready, i, 1)
        taken = max(t, ready)
        end = taken + round(late * pipe.device_ms * MS)
        add("wait", t, taken, i, 0)
        add("forward", taken, end, -1, 0)
        add("step", t, end, i, 0)
        t = end
    spans = np.array(rows, dtype=np.dtype(list(FIELDS)))
    raw = RawRun(
        spans=spans[np.argsort(spans["start"], kind="stable")], stages=tuple(STAGES), threads=("a", "b"), began=0,
        ended=t, wall=t, started_unix_ns=0,
    )  # fmt: skip
    return Run(raw=raw, summary=summarise(raw), device_ns=pipe.device_ms * MS, others=late - 1)


class MadeUp:
    """A bench whose runs are as late as it is told, one after the other, then in time."""

    def __init__(self, *late):
        self.late, self.ran, self.prepared = list(late), [], []

    def prepare(self, pipe):
        assert not self.ran
        self.prepared.append(pipe)

    def recorded(self, pipe):
        self.ran.append(pipe)
        return made_up(pipe, self.late.pop(0) if self.late else 1.0)


@pytest.fixture
def case():
    (made,) = cases(1, faults=["slow device"])
    pipe = Pipe(transform="sleep", transform_ms=4.0, device_ms=10.0)
    faster = dataclasses.replace(pipe, device_ms=5.0)
    return dataclasses.replace(made, pipe=pipe, fixes=((made.fixes[0][0], faster),))


def test_a_calm_machine_needs_one_round(case):
    """The pipe first and last, its fixes between; on one clock the predictions are exact, and so is the truth.

    All their datasets are made and read before.
    """
    bench = MadeUp()
    found = outcome_of(bench, case, lambda: True)
    assert set(bench.prepared) == set(bench.ran)
    assert bench.ran[0] == bench.ran[-1] == case.pipe
    assert len(bench.ran) == len(set(bench.ran)) + 1 == 5
    assert found.noise == 0
    assert max(asked.error for asked in found.asked) < 0.001
    assert (found.named, found.bottlenecks) == ("forward", {"forward"})


def test_a_late_run_is_repeated_and_the_fastest_counts(case):
    """The second run of the pipe is 20% late: another round, and nothing of the late one is left."""
    bench = MadeUp(1, 1, 1, 1, 1.2)
    found = outcome_of(bench, case, lambda: True)
    assert len(bench.ran) == 10
    assert found.noise == 0
    assert found.others == pytest.approx(0.2 / 10)


@pytest.mark.parametrize(("time", "rounds"), [(True, ROUNDS), (False, 1)])
def test_rounds_end_at_some_time(case, time, rounds):
    """A machine that is always late is given up after a number of rounds, or when there is no time."""
    bench = MadeUp(*[1, 1, 1, 1, 1.2] * ROUNDS)
    found = outcome_of(bench, case, lambda: time)
    assert len(bench.ran) == 5 * rounds
    assert found.noise == pytest.approx(0.2)


def test_what_decoding_is_worth_is_told_by_another_codec(case):
    """Decoded in half the time the step is 3 ms shorter: a bump, which takes 30% off and not 50%, would gain 1.8 ms."""
    cheaper = dataclasses.replace(case.pipe, device_ms=7.0)
    changes = [("fix 0", Change(kind="decode", factor=2.0))]
    runs = {"": made_up(case.pipe, 1.0), "fix 0": made_up(cheaper, 1.0)}
    assert _decoding(changes, runs) == {"decode": pytest.approx(1.8 * MS, rel=0.01)}
    assert _decoding([("fix 0", Change(kind="decode", factor=1.1))], runs) == {}
    assert _decoding([], runs) == {}


def test_every_fault_says_what_it_runs():
    """Whatever the fault: bumps for what is injected, and the delay's stage among them."""
    for case in cases(len(FAULTS)):
        stages = {stage for stage, _, _ in case.bumps()}
        assert case.delayed is None or case.delayed in stages
