"""The gates: each can be missed, and by the fault that it is there for."""

from __future__ import annotations

import pytest

from datapipe.cli.selftest.grading import Asked, Outcome, delay_error, grade, noise_floor, recovered, worst

MS = 1e6


def asked(error=0.0, inside=True):
    low, high = (9 * MS, 11 * MS) if inside else (20 * MS, 30 * MS)
    return Asked(
        change="x", kind="faster", predicted=10 * MS * (1 + error), low=low, high=high, true=10 * MS, extrapolated=False
    )  # fmt: skip


def outcome(**more):
    facts = {
        "name": "0", "fault": "none", "healthy": False, "step_ns": 10 * MS, "kind": "input-bound",
        "named": "transform", "gains": {"transform": 3 * MS, "forward": 0.1 * MS}, "remainder": 0.0001,
        "delay": (5 * MS, 5.1 * MS), "asked": (asked(), asked(), asked(), asked(), asked(0.01, inside=False)),
    }  # fmt: skip
    return Outcome(**{**facts, **more})


GOOD = {"recording": [0.001, 0.002], "with trace": [0.01]}
HEALTHY = {"healthy": True, "kind": "not input-bound", "named": "forward", "gains": {"forward": 3 * MS}}


def missed(*outcomes, overhead=GOOD):
    return [gate.measure for gate in grade(outcomes, overhead) if not gate.passed]


def test_a_profiler_that_is_right_passes():
    assert missed(outcome(), outcome(**HEALTHY)) == []


@pytest.mark.parametrize(
    ("wrong", "measure"),
    [
        ({"remainder": -0.02}, "ledger remainder"),
        ({"delay": (5 * MS, 8 * MS)}, "injected delay"),
        ({"named": "forward"}, "bottleneck named"),
        ({"healthy": True, "kind": "moderately input-bound"}, "healthy runs"),
        ({"asked": (asked(0.07), asked(0.07), asked(0.07), asked(0.07), asked(0.07, inside=False))}, "median"),
        ({"asked": (asked(), asked(), asked(), asked(), asked(0.5, inside=False))}, "95th percentile"),
        ({"asked": (asked(inside=False),) * 5}, "80% intervals"),
        ({"asked": (asked(),) * 5}, "80% intervals"),
    ],
)
def test_each_gate_can_be_missed(wrong, measure):
    """What is wrong misses the gate it is there for and no other; intervals too wide are as wrong as too narrow."""
    first = outcome(**{**HEALTHY, **wrong}) if wrong.get("healthy") else outcome(**wrong)
    others = [] if wrong.get("healthy") else [outcome(**HEALTHY, asked=(), delay=None)]
    found = missed(first, *others)
    assert len(found) == 1
    assert measure in found[0]


def test_overhead_is_graded_by_its_median():
    assert missed(outcome(), outcome(**HEALTHY), overhead={**GOOD, "recording": [0.5, 0.001, 0.002]}) == []
    found = missed(outcome(), outcome(**HEALTHY), overhead={"recording": [0.02], "with trace": [0.04]})
    assert len(found) == 2


def test_nothing_graded_is_nothing_passed():
    assert len(missed(overhead={})) == len(grade([], {}))


def test_stages_worth_the_same_are_both_the_bottleneck():
    """Within 5% of the step of the best; what gains nothing is none."""
    tied = outcome(gains={"transform": 3 * MS, "fetch": 2.6 * MS, "forward": 2.4 * MS, "decode": 0.0})
    assert tied.bottlenecks == {"transform", "fetch"}
    assert outcome(gains={"fetch": -1.0}).bottlenecks == set()


def test_a_delay_is_recovered_within_a_share_or_a_millisecond():
    assert recovered(100 * MS, 105 * MS)
    assert not recovered(100 * MS, 106 * MS)
    assert recovered(2 * MS, 3 * MS)
    assert not recovered(2 * MS, 3.1 * MS)


def test_a_control_that_was_input_bound_in_truth_is_none():
    """Where the executed fixes say that the loader was the bottleneck, calling it input-bound is right."""
    starved = outcome(healthy=True, kind="input-bound")
    assert missed(starved, outcome(**HEALTHY)) == []


def test_a_control_whose_device_stood_still_is_none():
    """By its own clock: at work for 94% of the step it did wait for something; for 96%, saying so is wrong."""
    said = {**HEALTHY, "kind": "moderately input-bound"}
    assert missed(outcome(**said, device_ns=9.4 * MS), outcome(**HEALTHY)) == []
    assert missed(outcome(**said, device_ns=9.6 * MS), outcome(**HEALTHY)) == ["healthy runs called input-bound"]


def test_a_slow_rank_that_is_not_named_misses():
    named = grade([], {}, [(1, 1)] * 19 + [(2, 0)])[-1]
    assert (named.measure, named.passed, named.count) == ("slow rank named", True, 20)
    assert not grade([], {}, [(1, 1), (0, None)])[-1].passed


def test_leaks_that_are_not_told_from_none_miss():
    """A leak that is missed, a cache that is called one, and readings that do not suffice: each is wrong."""
    for wrong in ((True, False), (False, True), (True, None)):
        gate = grade([], {}, leaks=[(True, True), (False, False), wrong])[-1]
        assert (gate.measure, gate.passed) == ("memory leaks told from none", False)
    assert grade([], {}, leaks=[(True, True), (False, False)])[-1].passed


def test_the_noise_of_the_truth_is_what_the_same_pipe_differs_by():
    """The median over the cases that ran twice; a case knows whether the machine was its own."""
    cases = [outcome(again_ns=10 * MS * (1 + noise), others=others) for noise, others in ((0.01, 0), (-0.03, 1.5))]
    assert noise_floor(cases)["median"] == pytest.approx(0.02)
    assert [case.quiet for case in cases] == [True, False]
    assert noise_floor([outcome()]) == {}


def test_the_worst_come_first():
    cases = [outcome(name=str(i), asked=(asked(error), asked())) for i, error in enumerate((0.1, -0.3, 0.2))]
    assert [name for name, _ in worst(cases, 2)] == ["1", "2"]


def test_the_error_of_delays_is_relative():
    """What the gate lets pass for being under a millisecond still shows."""
    found = delay_error([outcome(delay=(1 * MS, 1.5 * MS)), outcome(delay=(2 * MS, 2.2 * MS)), outcome(delay=None)])
    assert found == pytest.approx(0.3)
    assert delay_error([outcome(delay=None)]) is None
