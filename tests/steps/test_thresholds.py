"""first_broken: order, off switches, exact shares."""

from __future__ import annotations

import pyarrow as pa

from datapipe.steps.thresholds import Rule, first_broken


def test_first_rule_wins():
    """The reason is the first broken rule's in the order given; none broken is null."""
    signals = pa.table({"a": [1, 5, 5, 1], "b": [0, 0, 9, 9]})
    rules = [Rule("high_a", "a", ">", 4), Rule("high_b", "b", ">", 8), Rule("low_a", "a", "<", 1)]
    assert first_broken(signals, rules).to_pylist() == [None, "high_a", "high_a", "high_b"]
    assert first_broken(signals, []).to_pylist() == [None] * 4
    assert first_broken(signals.slice(0, 0), rules).type == pa.string()


def test_off():
    """None is off; so is 0, unless the rule says that it is a threshold."""
    signals = pa.table({"a": [0, 1]})
    assert first_broken(signals, [Rule("x", "a", ">", None)]).to_pylist() == [None, None]
    assert first_broken(signals, [Rule("x", "a", ">", 0)]).to_pylist() == [None, None]
    assert first_broken(signals, [Rule("x", "a", ">", 0, zero_is_off=False)]).to_pylist() == [None, "x"]
    exempt = Rule("x", "a", ">", 0, zero_is_off=False, unless=[False, True])
    assert first_broken(signals, [exempt]).to_pylist() == [None, None]


def test_shares():
    """A share on the threshold breaks nothing, whatever the numbers; nothing to divide by breaks nothing."""
    n = list(range(5, 5000, 5))
    signals = pa.table({"part": [k * 4 // 5 for k in n], "whole": n})
    for sign in ("<", ">"):
        assert first_broken(signals, [Rule("x", "part", sign, 0.8, "whole")]).null_count == len(n)
    assert first_broken(pa.table({"part": [3], "whole": [0]}), [Rule("x", "part", ">", 0.1, "whole")]).null_count == 1
    assert (
        first_broken(pa.table({"part": [81], "whole": [100]}), [Rule("x", "part", ">", 0.8, "whole")]).null_count == 0
    )
