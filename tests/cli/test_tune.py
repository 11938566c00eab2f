"""`datapipe tune`: from a run's file to the best one's, which `datapipe train` takes."""

import pytest
import typer
import yaml

from datapipe.cli import console
from datapipe.cli import train as train_command
from datapipe.cli import tune as command
from datapipe.cli.train_file import read_train_file
from datapipe.cli.tune_file import (
    current_values,
    default_space,
    path_of,
    plain_file,
    seconds,
    tune_options,
    with_values,
)
from datapipe.errors import ConfigError, RecipeError
from datapipe.train import TrainConfig
from datapipe.train.tuning import Choice

RUN = """
dataset: tokens
loader: {batch_size: 4, seed: 0, num_threads: 1}
evaluation: {dataset: tokens, loader: {batch_size: 8}}
model: {vocab_size: 31, layers: 1, heads: 2, width: 16}
train: {steps: 4, lr: 1e-2, warmup: 1, device: cpu, precision: fp32}
tune:
  space:
    lr: {low: 1e-3, high: 1e-1, log: true}
    batch_size: [4, 8]
  budget: 1h
  trials: 3
  resource: steps
  rungs: 2
  lr_range: {low: 1e-4, high: 1, steps: 10}
out: runs/a
"""


@pytest.fixture
def here(token_folder):
    """A folder with a dataset of packed tokens and a run's file."""
    return token_folder(RUN)


@pytest.fixture
def said(monkeypatch):
    """What was emitted as JSON, and shown."""
    told = []
    monkeypatch.setattr(console, "emit", told.append)
    monkeypatch.setattr(console, "show", told.append)
    return told


def test_the_best_is_a_file_that_train_takes(here, said):
    """Three trials, the file's own values first; the best one's file trains; a second start runs nothing anew."""
    command.tune("run.yaml", json=True)
    found = said.pop()
    assert found["ok"]
    assert len(found["trials"]) == 3
    first = next(row for row in found["trials"] if row["number"] == 0)
    assert first["values"] == {"lr": 0.01, "batch_size": 4}
    assert (here / "runs/a-tune/search.html").read_text().count("<svg") == 3
    best = yaml.safe_load((here / found["best_config"]).read_text())
    assert best == found["config"]
    assert best["train"]["lr"] == found["best"]["values"]["lr"]
    assert best["loader"]["batch_size"] == found["best"]["values"]["batch_size"]
    assert "tune" not in best

    command.tune("run.yaml", json=True)
    again = said.pop()
    assert (again["trials"], again["spent_s"]) == (found["trials"], found["spent_s"])
    train_command.train(found["best_config"], out="runs/b", json=True)
    assert said.pop()["step"] == 4

    with pytest.raises(ConfigError, match="another search: its about"):
        command.tune("run.yaml", set_=["train.betas=[0.9, 0.99]"])


def test_people_get_a_table(here, said):
    """One line a trial, what varied, and the command to go on with."""
    command.tune("run.yaml", trials=1, out="found")
    table, spent, page, best = said
    assert table.splitlines()[0].split()[:4] == ["trial", "batch_size", "lr", "rung"]
    assert table.splitlines()[1].split()[:4] == ["0", "4", "0.01", "2"]
    assert "of 3600 s spent" in spent
    assert page.strip() == "found/search.html"
    assert best == "best: datapipe train found/best.yaml"


def test_the_range_test(here, said):
    """Its rates and losses, a page, and nothing of a run in the folder."""
    command.tune("run.yaml", lr_range=True, json=True)
    found = said.pop()
    assert found["ok"]
    assert len(found["rates"]) == len(found["losses"]) == 10
    assert "<polyline" in (here / found["page"]).read_text()
    assert sorted(path.name for path in (here / "runs/a-tune").iterdir()) == ["lr-range.html"]
    command.tune("run.yaml", lr_range=True)
    assert any("suggest" in line for line in said)
    with pytest.raises(ConfigError, match="--lr-range with"):
        command.tune("run.yaml", lr_range=True, trials=3)


def test_a_signal_is_exit_code_130(here, said, monkeypatch):
    """What was done is told all the same."""
    from datapipe.train import tuning

    real = tuning.tune

    def stopped(*args, **kwargs):
        from dataclasses import replace

        return replace(real(*args, **kwargs), stopped="SIGTERM")

    monkeypatch.setattr(tuning, "tune", stopped)
    with pytest.raises(typer.Exit) as caught:
        command.tune("run.yaml", trials=1, json=True)
    assert caught.value.exit_code == 130
    assert said.pop()["stopped"] == "SIGTERM"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("tune.trails=3", "trails"),
        ("tune.trials=x", "trials"),
        ("tune.budget=soon", "budget"),
        ("tune.budget=0", "budget"),
        ("tune.space.lr=3", "space.lr"),
        ("tune.space={rate: [1, 2]}", "rate"),
        ("tune.space={train.a.b: [1, 2]}", "train.a.b"),
        ("tune.space={out.x: [1, 2]}", "out.x"),
        ("tune.resource=tokens", "resource"),
        ("tune=3", "tune"),
        ("tune.first_rung=3", "first_rung"),
    ],
)
def test_options_that_are_wrong(here, told, named):
    """Refused by name before anything runs."""
    with pytest.raises((ConfigError, RecipeError), match=named):
        command.tune("run.yaml", set_=[told])
    assert not list((here / "runs/a-tune").glob("trials/*"))


def test_a_file_without_the_section(here):
    """The space is around the file's own values and holds them; the file is otherwise as it was."""
    told = read_train_file("run.yaml", {"tune": {}})
    config = TrainConfig(steps=4, lr=0.01, device="cpu")
    space = default_space(told, config)
    now = current_values(told, config, space)
    assert set(space) == set(now) == {"lr", "weight_decay", "batch_size", "threads", "precision"}
    assert space["batch_size"] == Choice(values=(2, 4, 8))
    assert (space["lr"].low, space["lr"].high) == pytest.approx((1e-3, 1e-1))
    assert tune_options(told, config, budget="90s", trials=7).budget_s == 90
    changed = with_values(told, {"lr": 0.5, "loader.prefetch": 3})
    assert changed.train["lr"] == 0.5
    assert changed.loader["prefetch"] == 3
    assert plain_file(with_values(changed, {"lr": 0.01}))["train"] == plain_file(told)["train"]


@pytest.mark.parametrize(("text", "found"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (30, 30), ("0.5", 0.5)])
def test_times(text, found):
    """With a unit or without."""
    assert seconds(text) == found
    with pytest.raises(ConfigError, match="budget"):
        seconds(f"{text}x")


def test_short_names():
    """A short name is an option of a section; other names are that themselves."""
    assert path_of("threads") == ("loader", "num_threads")
    assert path_of("model.layers") == ("model", "layers")
