"""The generated cases: every fault, the same for a seed, each with fixes that differ from what they fix."""

from __future__ import annotations

import dataclasses
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from datapipe.cli.selftest.cases import FAULTS, cases
from datapipe.cli.selftest.command import FULL, QUICK
from datapipe.profiling.changes import Kind

TAKES = {"fetch": {"fetch_ms", "throttle_ms"}, "transform": {"transform_ms", "heavy_ms"}, "forward": {"device_ms"}}


@given(seed=st.integers(0, 1000))
def test_every_fault_is_in_every_round_of_cases(seed):
    """As many cases as there are faults have each once, with its pairs and healthy controls; a seed repeats them."""
    found = list(cases(len(FAULTS), seed))
    assert {case.fault for case in found} == set(FAULTS)
    assert found == list(cases(len(FAULTS), seed))
    assert any(case.healthy for case in found)
    assert any(len(set(case.pipe.injected) - {"forward"}) > 1 for case in found)


@given(seed=st.integers(0, 1000))
def test_a_fix_changes_something(seed):
    """Each fix, and each bump, is another pipe than the one profiled; a bump takes time off one stage alone."""
    for case in cases(len(FAULTS), seed):
        assert all(pipe != case.pipe for _, pipe in case.fixes)
        for stage, _, pipe in case.bumps():
            changed = {f.name for f in dataclasses.fields(pipe) if getattr(pipe, f.name) != getattr(case.pipe, f.name)}
            assert changed
            assert changed <= TAKES[stage]


def test_every_kind_of_change_that_this_loader_can_make_is_executed():
    """All but an order that this loader never relaxes, and what only a device's copies show."""
    kinds = {change.kind for case in cases(len(FAULTS)) for change, _ in case.fixes}
    kinds |= {change.kind for case in cases(len(FAULTS)) for _, change, _ in case.bumps()}
    assert set(get_args(Kind)) - kinds == {"order", "dtypes", "pinned"}


def test_the_full_form_has_a_hundred_cases():
    assert FULL >= 100
    assert len(FAULTS) <= QUICK
    assert len({case.name for case in cases(FULL)}) == FULL
