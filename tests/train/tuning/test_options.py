"""What a search is told, and its plan."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train.tuning import Range, TuneOptions

SPACE = {"lr": Range(low=1e-4, high=1e-2, log=True)}


def options(**told):
    return TuneOptions(**{"space": SPACE} | told)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 5), st.integers(2, 4), st.floats(1, 1e5))
def test_as_many_trials_as_planned_fill_the_budget(trials, rungs, eta, budget):
    """The average trial, which goes on to rung k with a chance of eta**-k, times the trials, is the budget."""
    plan = options(trials=trials, rungs=rungs, eta=eta, budget_s=budget).plan(1000)
    parts = [after - before for before, after in zip((0.0, *plan.amounts), plan.amounts, strict=False)]
    mean = sum(part / eta**rung for rung, part in enumerate(parts))
    assert trials * mean == pytest.approx(budget, rel=0.02, abs=0.002 * trials * eta**rungs)


def test_rungs_in_steps_end_with_the_run():
    """Without a first rung the last one is the whole run, as far as whole steps allow."""
    assert options(resource="steps").plan(900).amounts == (100.0, 300.0, 900.0)
    assert options(resource="steps").plan(1000).amounts == (111.0, 333.0, 999.0)
    assert options(resource="steps", first_rung=5, rungs=2, eta=4).plan(20).amounts == (5.0, 20.0)
    with pytest.raises(ConfigError, match="first_rung: 100"):
        options(resource="steps", first_rung=101).plan(900)
    with pytest.raises(ConfigError, match="fewer rungs"):
        options(resource="steps").plan(8)


def test_what_makes_another_search():
    """Another space, seed, resource or number of rungs does; more budget and more trials do not."""
    same = options().identity()
    assert options(budget_s=9999, trials=99).identity() == same
    assert options(seed=1).identity() != same
    assert options(resource="steps").identity() != same
    assert options(rungs=4).identity() != same
    assert options(space={"lr": Range(low=1e-4, high=2e-2, log=True)}).identity() != same


@pytest.mark.parametrize(
    "told",
    [{"budget_s": 0}, {"budget_s": math.inf}, {"budget_s": "10"}, {"trials": 0}, {"trials": True}, {"rungs": 11},
     {"eta": 1}, {"seed": -1}, {"resource": "tokens"}, {"pruner": "median"}, {"first_rung": 0}, {"first_rung": -1},
     {"space": {}}],
)  # fmt: skip
def test_options_out_of_range(told):
    """Refused by name, with what is allowed."""
    with pytest.raises(ConfigError, match=next(iter(told))) as caught:
        options(**told)
    assert caught.value.expected
