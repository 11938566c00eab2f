"""One trial: how far it is by its log, and how it reaches its rung."""

import json
import math
from types import SimpleNamespace

import pytest

from datapipe.errors import ConfigError
from datapipe.train.tuning import Contender, trial_run
from datapipe.train.tuning.options import Plan
from datapipe.train.tuning.trial_run import check_contender, read_progress, run_rung, seconds_of_rung


def line(step, loss, tokens=10, seconds=1.0):
    return json.dumps({"step": step, "loss": loss, "tokens": tokens, "tokens_per_s": tokens / seconds}) + "\n"


def test_the_log_says_how_far_a_trial_is(tmp_path):
    """Steps, time and targets are summed, the loss is of the last fifth, per target; other lines tell nothing."""
    assert read_progress(tmp_path).steps == 0
    assert math.isnan(read_progress(tmp_path).loss)
    text = "".join(line(n, 9.0, seconds=5.0) for n in range(1, 9)) + line(9, 1.0, tokens=30) + line(10, 2.0)
    (tmp_path / trial_run.METRICS).write_text('{"event": "evaluation", "loss": 3}\n' + text + '{"step": 11, "lo')
    got = read_progress(tmp_path)
    assert (got.steps, got.tokens, got.pace) == (10, 120, 5.0)
    assert got.seconds == pytest.approx(42)
    assert got.loss == pytest.approx((30 * 1.0 + 10 * 2.0) / 40)


@pytest.mark.parametrize(("pace", "amount"), [(0.1, 7.0), (2.0, 7.0), (30.0, 7.0)])
def test_a_rung_of_seconds_is_filled_by_the_trials_own_pace(
    tmp_path, monkeypatch, make_config, make_loader, pace, amount
):
    """It ends within a step of its amount, after few starts, and what was done before counts."""
    starts = []

    def fake_train(config, loader, *, out, model, until):
        path = out / trial_run.METRICS
        done = read_progress(out).steps
        starts.append((done, until))
        with path.open("a") as log:
            log.writelines(line(n + 1, 1.0, seconds=pace) for n in range(done, until))
        return SimpleNamespace(stopped="until" if until < config.steps else None, model=None)

    monkeypatch.setattr(trial_run, "train", fake_train)
    contender = Contender(config=make_config(steps=1000), loader=make_loader())
    plan = Plan(resource="seconds", amounts=(amount, 3 * amount), factors=(1, 3))
    for rung in (0, 1):
        got = run_rung(contender, tmp_path, plan, rung).progress
        assert 0.98 * plan.amounts[rung] <= got.seconds <= max(plan.amounts[rung] + pace, 3 * pace) + 1e-6
    assert len(starts) <= 4
    short = Contender(config=make_config(steps=5), loader=make_loader())
    (tmp_path / "short").mkdir()
    assert run_rung(short, tmp_path / "short", plan, 1).progress.steps <= 5


def test_what_a_rung_will_take():
    """In seconds the part that it adds; in steps that part at the pace, nothing where none is known."""
    seconds = Plan(resource="seconds", amounts=(10.0, 30.0), factors=(1, 3))
    assert [seconds_of_rung(seconds, rung, 99.0) for rung in (0, 1)] == [10.0, 20.0]
    steps = Plan(resource="steps", amounts=(10.0, 30.0), factors=(1, 3))
    assert [seconds_of_rung(steps, rung, 0.5) for rung in (0, 1)] == [5.0, 10.0]
    assert seconds_of_rung(steps, 1, 0.0) == 0.0


def test_something_else_to_train():
    """What a search was given in place of a contender is named."""
    with pytest.raises(ConfigError, match="a dict to train"):
        check_contender({})
