"""Three of PyTorch's own training examples, profiled unmodified; in the slow suite their verdicts are acted upon.

The scripts are typed anew after the tutorials (quickstart, transfer learning, a character-level network), with data
that they draw themselves.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.profiling import load_profile

pytest.importorskip("torch")
pytest.importorskip("PIL")

SCRIPTS = Path(__file__).parent / "scripts"


def profiled(folder, text):
    """The profile of a script in a process of its own, with one compute thread: cores are shared with other tests."""
    folder.mkdir()
    (folder / "train.py").write_text(text)
    command = [Path(sys.executable).with_name("datapipe"), "profile", "-o", "out", "train.py"]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=280)
    assert ran.returncode == 0, ran.stderr[-2000:]
    summary = load_profile(folder / "out")
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns
    return summary


def held_up(summary):
    """How much longer the mean step is than the typical one: a machine that stands still for seconds tells nothing."""
    return summary.step.mean / summary.step.p50


@pytest.mark.parametrize(
    ("name", "steps", "evaluates", "bound"),
    [("quickstart", 60, True, ("dataset",)),
     pytest.param("transfer_learning", 40, True, ("dataset",), marks=pytest.mark.slow),
     pytest.param("char_rnn", 40, False, ("forward", "backward"), marks=pytest.mark.slow)],
)  # fmt: skip
def test_an_example_is_profiled_unmodified(tmp_path, name, steps, evaluates, bound):
    """Every training step, the validation passes and the saving are found, and what bounds the step is named."""
    runs = []
    for number in range(4):
        runs.append(profiled(tmp_path / str(number), (SCRIPTS / f"{name}.py").read_text()))
        if held_up(runs[-1]) < 1.5:
            break
    summary = min(runs, key=held_up)
    assert (summary.series.count, summary.epochs) == (steps, 2)
    assert {"wait", "forward", "backward", "optimizer"} <= {part.name for part in summary.parts}
    assert any(part.name.startswith("evaluate") and part.total > 0 for part in summary.run) is evaluates
    assert summary.verdict.bottleneck in bound
    assert ("not" in summary.verdict.kind) is ("dataset" not in bound)


FIXES = {
    # The images decoded once, before training.
    "quickstart": {
        "train_dataloader = DataLoader(training_data, batch_size=64)":
            "train_dataloader = DataLoader([training_data[i] for i in range(len(training_data))], batch_size=64)",
    },
    # The photographs stored small: less to decode.
    "transfer_learning": {"photo.save(": "photo.resize((160, 120)).save("},
    # One layer in place of two: about half of the network.
    "char_rnn": {"for size in (input_size, hidden_size))": "for size in (input_size,))"},
}  # fmt: skip


def step_cost(folder, text):
    """The profile of a script, and the seconds of CPU from one of its optimizer's steps to the next: the median.

    The scripts load and compute in one thread, so that on a machine of their own its CPU time is the step. On a shared
    one a wall clock counts what the neighbours do as well.
    """
    line = "optimizer.zero_grad()\n"
    assert text.count(line) == 1
    text = "import json, pathlib, time\ncpu = []\n" + text.replace(line, f"cpu.append(time.thread_time()); {line}")
    summary = profiled(folder, text + "pathlib.Path('cpu.json').write_text(json.dumps(cpu))\n")
    moments = json.loads((folder / "cpu.json").read_text())
    return summary, statistics.median(after - before for before, after in itertools.pairwise(moments))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIXES))
def test_doing_what_the_verdict_says_makes_the_step_faster(tmp_path, name):
    """With less work in the stage that was named, the step is shorter by a third or more of what that stage took."""
    text = fixed = (SCRIPTS / f"{name}.py").read_text()
    for line, instead in FIXES[name].items():
        assert line in text
        fixed = fixed.replace(line, instead)
    before, cost = step_cost(tmp_path / "as it was", text)
    after, less = step_cost(tmp_path / "fixed", fixed)
    if name == "char_rnn":
        share = sum(before.part(part).p50 for part in ("forward", "backward")) / before.step.p50
    else:
        share = before.verdict.input_share
        assert after.verdict.input_share < before.verdict.input_share
    print(f"{name}: {share:.0%} named; {cost * 1e3:.1f} ms before, {less * 1e3:.1f} ms after")
    assert less <= (1 - share / 3) * cost


@pytest.mark.slow
def test_a_healthy_loader_is_not_worth_replacing(tmp_path):
    """Where the verdict says that the loader keeps up, batches made in advance leave the step as it was."""
    text = (SCRIPTS / "char_rnn.py").read_text()
    line = "        for lines, labels in loader:\n"
    assert line in text
    ahead = text.replace(line, "        for lines, labels in DataLoader(list(loader), batch_size=None):\n")
    summary, cost = step_cost(tmp_path / "as it was", text)
    assert "not" in summary.verdict.kind
    _, less = step_cost(tmp_path / "ahead", ahead)
    print(f"{cost * 1e3:.1f} ms before, {less * 1e3:.1f} ms with batches made in advance")
    assert less >= 0.8 * cost
