"""`datapipe what-if`: counts of threads become factors, every option its change; what cannot be answered says so."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.events import FIELDS, STAGES
from datapipe.profiling.advisor import advise
from datapipe.profiling.analysis import RawRun
from datapipe.profiling.span_file import save_spans

MS = 1_000_000


@pytest.fixture
def run(tmp_path):
    """40 steps: one thread transforms 4 ms a batch, sleeping; the loop computes 2 ms."""
    import numpy as np

    rows, t = [], 0
    number = STAGES.index
    for i in range(40):
        made = t + 4 * MS
        rows.append((i, -1, t, t, made, made, 0, 0, number("transform"), 1, 0))
        rows.append((i, i, t, t, made, made, 0, 0, number("wait"), 0, 0))
        rows.append((-1, -1, made, made, made + 2 * MS, made + 2 * MS, 0, 0, number("forward"), 0, 0))
        rows.append((i, -1, t, t, made + 2 * MS, made + 2 * MS, 0, 0, number("step"), 0, 0))
        t = made + 2 * MS
    spans = np.array(rows, dtype=np.dtype(list(FIELDS)))
    spans = spans[np.argsort(spans["start"], kind="stable")]
    raw = RawRun(
        spans=spans, stages=STAGES, threads=("loop", "loader"), began=0, ended=t, wall=t, started_unix_ns=0,
        environment={"cpus usable": 2},
    )  # fmt: skip
    save_spans(raw, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def torch_run(tmp_path_factory):
    """A function: so many workers of torch's DataLoader; 40 steps whose batch sleeps 8 ms, in the loop where 0."""
    import numpy as np

    from datapipe.profiling.loader_facts import TORCH

    def make(workers):
        rows, t = [], 0
        names = (*STAGES, "dataset")
        number = names.index
        for i in range(40):
            made = t + 8 * MS
            thread = 1 + i % workers if workers else 0
            rows.append((i, -1, t, t, made, made, 0, 0, number("dataset"), thread, 0))
            rows.append((i, i, t, t, made, made, 0, 0, number("wait"), 0, 0))
            rows.append((i, -1, t, t, made + 2 * MS, made + 2 * MS, 0, 0, number("step"), 0, 0))
            t = made + 2 * MS
        spans = np.array(rows, dtype=np.dtype(list(FIELDS)))
        facts = {"loader": TORCH, "loader.num_workers": workers, "loader.prefetch_factor": 2 if workers else None}
        raw = RawRun(
            spans=spans[np.argsort(spans["start"], kind="stable")], stages=names, threads=("loop", "a"), began=0,
            ended=t, wall=t, started_unix_ns=0, environment={"cpus usable": 2}, notes=facts,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("torch")
        save_spans(raw, folder)
        return raw, folder

    return make


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_report_advises_can_be_asked_and_is_listed(torch_run, workers):
    """Of torch's loader, in the loop or in a worker: the count that advice names, with its prediction, in its words."""
    raw, folder = torch_run(workers)
    fix = next(fix for fix in advise(raw).fixes if "num_workers" in fix.options)
    count = fix.options["num_workers"]
    (answer,) = asked(folder, "--workers", count)["predictions"]
    assert answer["what"] == fix.title
    assert answer["step_ns"] == pytest.approx(fix.step_ns)
    listed = {each["what"]: each["step_ns"] for each in asked(folder)["predictions"]}
    assert listed[fix.title] == pytest.approx(fix.step_ns)
    assert not [words for words in listed if "threads" in words]
    refused = CliRunner().invoke(app, ["what-if", str(folder), "--threads", "2"])
    assert refused.exit_code == 2


def test_threads_are_those_that_do_the_work(tmp_path):
    """One thread sleeps 20 ms a batch in the transform, four read a footer once: two threads take half the step.

    Asked of what-if, and advised: the four were taken for the loader's, so 2 threads were fewer and gained nothing.
    """
    import numpy as np

    rows, number = (
        [(-1, -1, i, i, 9 * MS, 9 * MS, 0, 0, STAGES.index("footer"), 2 + i, 0) for i in range(4)],
        STAGES.index,
    )
    t = 10 * MS
    for i in range(40):
        made = t + 20 * MS
        rows.append((i, -1, t, t, made, made, 0, 0, number("transform"), 1, 0))
        rows.append((i, i, t, t, made, made, 0, 0, number("wait"), 0, 0))
        rows.append((i, -1, t, t, made + MS // 10, made + MS // 10, 0, 0, number("step"), 0, 0))
        t = made + MS // 10
    spans = np.array(rows, dtype=np.dtype(list(FIELDS)))
    raw = RawRun(
        spans=spans[np.argsort(spans["start"], kind="stable")], stages=STAGES, threads=("loop", "loader", *"abcd"),
        began=0, ended=t, wall=t, started_unix_ns=0, environment={"cpus usable": 2},
        notes={"loader": "datapipe.DataLoader", "loader.num_threads": 1, "loader.prefetch": 4},
    )  # fmt: skip
    save_spans(raw, tmp_path)
    (answer,) = asked(tmp_path, "--threads", 2)["predictions"]
    assert answer["gain"] == pytest.approx(0.5, abs=0.03)
    assert "2 threads" in [each["what"] for each in asked(tmp_path)["predictions"]]
    assert any("num_threads" in fix.options for fix in advise(raw).fixes)


def test_what_was_not_recorded_is_said_in_words(run):
    """Groups of stages are no words of a user's."""
    done = CliRunner().invoke(app, ["what-if", str(run), "--storage", "2", "--json"])
    assert "reads from storage" in done.stdout
    assert "fetch, footer, list" not in done.stdout


def asked(*args):
    done = CliRunner().invoke(app, ["what-if", *map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_option_is_its_change(run):
    """Each option asks for one change; the predictions come best first, each inside its interval."""
    found = asked(
        run, "--workers", 2, "--threads", 4, "--stage", "transform", "--prefetch", 2, "--offline", "transform",
        "--device", 2, "--relaxed-order",
    )  # fmt: skip
    changes = {(p["change"]["kind"], p["change"]["factor"]) for p in found["predictions"]}
    assert {("threads", 4.0), ("workers", 2.0), ("prefetch", 2.0), ("device", 2.0)} <= changes
    assert {kind for kind, _ in changes} >= {"offline", "order"}
    steps = [p["step_ns"] for p in found["predictions"]]
    assert steps == sorted(steps)
    assert all(p["low"] <= p["step_ns"] <= p["high"] for p in found["predictions"])


def test_without_a_change_all_that_apply_are_predicted(run):
    """Only what this run has the stages for; and for a person each is a line."""
    kinds = {p["change"]["kind"] for p in asked(run)["predictions"]}
    assert {"threads", "offline", "device"} <= kinds
    assert "storage" not in kinds
    shown = CliRunner().invoke(app, ["what-if", str(run)])
    assert "ms a step" in shown.output


def test_what_cannot_be_answered_says_so(run, tmp_path_factory):
    """A stage that no thread ran is wrong usage, and so is a folder without spans: an input that is not there."""
    runner = CliRunner()
    assert runner.invoke(app, ["what-if", str(run), "--threads", "2", "--stage", "decode"]).exit_code == 2
    assert runner.invoke(app, ["what-if", str(tmp_path_factory.mktemp("none"))]).exit_code == 2
