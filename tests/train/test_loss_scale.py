"""The scale of float16's losses."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import CheckpointError
from datapipe.train.loss_scale import LossScale


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_it_follows_torch_s_rule(overflows, interval):
    """Step for step the scale is the one that torch.amp.GradScaler's own kernel computes."""
    ours = LossScale(enabled=True, growth_interval=interval)
    ours.begin(1)
    scale, tracker = torch.tensor(65536.0), torch.tensor(0, dtype=torch.int32)
    for overflowed in overflows:
        torch._amp_update_scale_(scale, tracker, torch.tensor(float(overflowed)), 2.0, 0.5, interval)
        ours.update(overflowed=overflowed)
        assert ours.scale == scale.item()
    assert ours.skipped == sum(overflows)


@given(st.lists(st.booleans(), max_size=20), st.lists(st.booleans(), max_size=20))
def test_a_state_goes_on_exactly(before, after):
    """Through JSON, at any step: the scale afterwards is that of one never stopped."""
    whole = LossScale(enabled=True, growth_interval=3)
    whole.begin(100)
    for overflowed in before:
        whole.update(overflowed=overflowed)
    resumed = LossScale(enabled=True, growth_interval=3)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    resumed.begin(5)  # begun before: says nothing
    for overflowed in after:
        whole.update(overflowed=overflowed)
        resumed.update(overflowed=overflowed)
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.exhausted == whole.exhausted


def test_overflows_in_a_row_are_counted_across_a_stop():
    """A run that was stopped among them ends at the same step as one that was not."""
    whole = LossScale(enabled=True)
    for _ in range(23):
        whole.update(overflowed=True)
    resumed = LossScale(enabled=True)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    resumed.update(overflowed=True)
    assert resumed.exhausted


def test_a_sum_over_many_targets_begins_lower():
    """The first scale is torch's for a mean, divided by the next power of 2 of the targets that ours sums over."""
    scale = LossScale(enabled=True)
    scale.begin(1000)
    assert scale.scale == 65536 / 1024


def test_where_it_is_not_needed_it_is_one():
    """Without float16 nothing is scaled, saved or restored; a run that changes to float16 begins its own scale."""
    off = LossScale(enabled=False)
    off.begin(1000)
    off.update(overflowed=True)
    assert (off.scale, off.skipped, off.state_dict()) == (1.0, 0, {})
    on = LossScale(enabled=True)
    on.load_state_dict({})
    on.begin(1)
    assert on.scale == 65536


def test_overflow_without_end_is_no_matter_of_scale():
    scale = LossScale(enabled=True)
    scale.begin(1)
    for _ in range(23):
        scale.update(overflowed=True)
    assert not scale.exhausted
    scale.update(overflowed=True)
    assert scale.exhausted
    scale.update(overflowed=False)
    assert not scale.exhausted


@pytest.mark.parametrize(
    "state",
    [{"_growth_tracker": None}, {"scale": "x"}, {"scale": 0}, {"scale": float("nan")}, {"_growth_tracker": -1}],
)
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(CheckpointError, match="loss scale"):
        LossScale(enabled=True).load_state_dict({"scale": 2.0, "_growth_tracker": 0, "skipped": 0} | state)
