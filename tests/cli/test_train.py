"""`datapipe train`: from a file to a trained model, for packed tokens and for a table."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer

from datapipe.cli import train as command
from datapipe.cli import train_parts
from datapipe.errors import ConfigError, RecipeError
from datapipe.train import evaluate, load_checkpoint

LENGTH = 16
GPT = """
dataset: tokens
loader: {{batch_size: 4, seed: 0, num_threads: 1}}
evaluation: {{dataset: held-out}}
model: {{vocab_size: 31, layers: 1, heads: 2, width: 16}}
train: {{steps: 8, lr: 1e-2, warmup: 2, eval_every: 4, device: cpu, precision: fp32, {more}}}
out: run
"""
TABLE = """
dataset: {url: table, columns: [a, b, label]}
loader: {batch_size: 16, seed: 0, num_threads: 1, tail: pad}
evaluation: {dataset: {url: table, filters: [[a, '>', 0]]}, loader: {transform: 'nets_of_the_test:keep'}}
model:
  call: nets_of_the_test:mlp
  arguments: {inputs: 2, classes: 2}
  loss: cross_entropy
  inputs: [a, b]
  targets: label
train:
  steps: 60
  optimizer: sgd
  optimizer_options: {momentum: 0.9}
  schedule: wsd
  lr: 0.1
  weight_decay: 0
  device: cpu
  precision: fp32
out: run
"""
IMAGES = """
dataset: pictures
loader: {batch_size: 8, seed: 0, num_threads: 1, dtypes: stored}
model: {call: "nets_of_the_test:conv", loss: cross_entropy, inputs: image, targets: label, scale: 0.00392156862745098}
train: {steps: 12, optimizer: adam, lr: 1e-2, device: cpu, precision: fp32}
out: run
"""
NETS = """
import torch
def conv():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Flatten(),
        torch.nn.Linear(64, 2),
    )
def mlp(inputs, classes):
    return torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
def keep(batch):
    return batch
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with datasets, a module of nets and room for a run."""

    def tokens(name, rows, seed):
        rng = np.random.default_rng(seed)
        made = (rng.integers(0, 31, (rows, 1)) + rng.integers(1, 4, (rows, 1)) * np.arange(LENGTH)) % 31
        flat = pa.array(made.ravel().astype(np.int32))
        (tmp_path / name).mkdir()
        table = pa.table({"tokens": pa.FixedSizeListArray.from_arrays(flat, LENGTH)})
        pq.write_table(table, tmp_path / name / "a.parquet", row_group_size=8)

    tokens("tokens", 24, 0)
    tokens("held-out", 9, 1)
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 200))
    (tmp_path / "table").mkdir()
    pq.write_table(pa.table({"a": a, "b": b, "label": (a > b).astype(np.int64)}), tmp_path / "table" / "a.parquet")
    (tmp_path / "nets_of_the_test.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("RANK", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture
def run(here, capfd):
    """Run the command here; its JSON object, and what it said."""

    def run(text, *sets, **told):
        (here / "run.yaml").write_text(text)
        command.train("run.yaml", set_=list(sets), json=True, **told)
        said = capfd.readouterr()
        return json.loads(said.out), said.err

    return run


def test_packed_tokens_from_a_file_to_a_model(run, here):
    """The row length is the dataset's; evaluated twice; the best is there; the same command has nothing left to do."""
    facts, said = run(GPT.format(more=""), tensorboard=True)
    assert (facts["ok"], facts["step"], facts["stopped"]) == (True, 8, None)
    lines = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    evaluated = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    assert evaluated.keys() == {4, 8}
    assert facts["best_loss"] == min(evaluated.values())
    assert load_checkpoint(facts["best"]).step == min(evaluated, key=evaluated.get)
    assert load_checkpoint(facts["checkpoint"]).state["config"]["model"]["seq_len"] == LENGTH
    assert said.count("evaluated") == 2
    assert list((here / "run" / "tensorboard").iterdir())
    again, _ = run(GPT.format(more=""))
    assert (again["resumed_from"], again["step"], again["loss"]) == (8, 8, None)


def test_a_table_and_a_module_of_ones_own(run):
    """It learns; padding rows count in no mean; a filter's lists and a transform by name are understood."""
    facts, _ = run(TABLE)
    assert facts["loss"] < 0.3
    assert facts["best_loss"] < 0.3
    assert facts["parameters"] == 2 * 8 + 8 + 8 * 2 + 2


def test_images_go_on_with_their_running_statistics_and_dropout(run, here):
    """Bytes [B, 3, H, W] through a convolution; stopped in between, the losses are those of one run."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 40)
    image = np.clip(rng.normal(80 + 90 * label[:, None, None, None], 40, (40, 3, 6, 6)), 0, 255).astype(np.uint8)
    (here / "pictures").mkdir()
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(image), "label": label})
    pq.write_table(table, here / "pictures" / "a.parquet", row_group_size=16)
    whole, _ = run(IMAGES, out="whole")
    run(IMAGES, out="parts", until=5)
    run(IMAGES, out="parts")
    told = [[json.loads(line)["loss"] for line in (here / out / "metrics.jsonl").open()] for out in ("whole", "parts")]
    assert told[0] == told[1]
    assert whole["loss"] < 0.3


def test_several_datasets_in_proportion(run, here):
    """`mix` in place of a place: the checkpoint's loader state knows of it, and so do its errors."""
    mixed = "dataset: {mix: {a: tokens, b: {url: held-out}}, weights: {a: 3, b: 1}}"
    text = GPT.format(more="").replace("dataset: tokens", mixed)
    facts, _ = run(text, until=2)
    assert load_checkpoint(facts["checkpoint"]).state["loader"]["settings"]["mix"]
    with pytest.raises(RecipeError, match=r"run.yaml:2: weights name 'c'"):
        run(text, "dataset.weights.c=1", out="other")
    with pytest.raises(RecipeError, match=r"'dataset.mix.b.ulr'"):
        run(text.replace("url", "ulr"), out="other")


@pytest.mark.slow
def test_two_processes_compute_what_one_does(here, run):
    """Under torchrun, each with half of every batch; the first one alone says the result."""
    import subprocess
    import sys

    one, _ = run(GPT.format(more=""), out="one")
    (here / "run.yaml").write_text(GPT.format(more="").replace("batch_size: 4", "batch_size: 2"))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "datapipe",
         "train", "run.yaml", "--out", "two", "--json"],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:1500]
    two = json.loads(done.stdout)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["best_loss"] == pytest.approx(one["best_loss"], rel=1e-4)
    assert two["targets"] == one["targets"]


def test_stopped_anywhere_and_gone_on_it_is_the_same_run(run, here):
    """Overrides, another folder, and a resumed run with an evaluation: the same losses, to the bit."""
    whole, _ = run(GPT.format(more=""), out="whole")
    part, _ = run(GPT.format(more=""), "out=parts", until=5)
    assert (part["stopped"], part["step"]) == ("until", 5)
    rest, _ = run(GPT.format(more=""), out="parts", resume="must")
    assert rest["resumed_from"] == 5
    told = [[json.loads(line)["loss"] for line in (here / out / "metrics.jsonl").open()] for out in ("whole", "parts")]
    assert told[0] == told[1]
    assert rest["best_loss"] == whole["best_loss"]


def test_a_signal_leaves_a_checkpoint_and_its_exit_code(run, monkeypatch):
    """130, as after Ctrl-C anywhere; the JSON object is there all the same."""
    from datapipe.train.stop_signal import StopSignal

    monkeypatch.setattr(StopSignal, "__enter__", lambda self: setattr(self, "name", "SIGTERM") or self)
    with pytest.raises(typer.Exit) as left:
        run(GPT.format(more=""))
    assert left.value.exit_code == 130


@pytest.mark.parametrize(
    ("sets", "match"),
    [(["train.lr=-1"], r"run.yaml: TrainConfig\(lr=-1"), (["train.optimizer=adamm"], "adamm"),
     (["train.schedule=cosinus"], "cosinus"), (["loader.batch_size=0"], "batch_size"), (["loader.pack.seq=8"], "seq"),
     (["train.precision=fp7"], "fp7"), (["train.device=gpu"], "device"), (["model.width=15"], "width"),
     (["dataset.columns=[tokenz]"], "tokenz"), (["train.steps=null"], "steps"), (["train.patience=a"], "patience")],
)  # fmt: skip
def test_a_wrong_value_is_wrong_usage_in_words(run, here, sets, match):
    """A ConfigError or another of ours, before a step is done; never a traceback of Python's."""
    from datapipe.errors import DatapipeError

    with pytest.raises(DatapipeError, match=match):
        run(GPT.format(more=""), *sets)
    assert not list(here.glob("run/checkpoints/*"))


def test_the_line_of_a_wrong_value_is_told(run):
    with pytest.raises(RecipeError, match=r"run.yaml:6: TrainConfig\(clip=0"):
        run(GPT.format(more="clip: 0"))


def test_evaluations_need_a_dataset(run):
    with pytest.raises(RecipeError, match=r"run.yaml:5: eval_every=4, and nothing to evaluate on"):
        run(GPT.format(more="").replace("evaluation: {dataset: held-out}\n", ""))


def test_evaluation_on_tokens_of_another_vocabulary_is_refused():
    """Their ids mean other texts: the loss would be a number without a meaning. Who does not say is believed."""

    def dataset(name):
        entry = None if name is None else SimpleNamespace(path=name)
        return SimpleNamespace(manifest=SimpleNamespace(vocabulary=entry))

    told = SimpleNamespace(located=lambda error, _: error)
    for ours, theirs in (("a.json", "a.json"), (None, "b.json"), ("a.json", None)):
        train_parts._check_vocabularies(told, dataset(ours), dataset(theirs))
    both = SimpleNamespace(sources=[dataset("a.json"), dataset("b.json")])
    train_parts._check_vocabularies(told, both, dataset("b.json"))
    with pytest.raises(ConfigError, match=r"another vocabulary: c\.json"):
        train_parts._check_vocabularies(told, both, dataset("c.json"))


def test_without_a_folder_it_asks_for_one(run):
    with pytest.raises(ConfigError, match="no folder"):
        run(GPT.format(more="").replace("out: run", ""))


def test_a_dataset_without_tokens_needs_a_model_of_ones_own(run):
    with pytest.raises(RecipeError, match="no vocab_size and no seq_len"):
        run(TABLE.replace(TABLE[TABLE.index("model:") : TABLE.index("train:")], ""))


def test_the_best_checkpoint_is_that_of_its_loss(run, here):
    """Loaded into a fresh model and evaluated again it gives the loss that was told, to the bit."""
    import datapipe
    from datapipe.train import GPT as Model
    from datapipe.train import GPTConfig

    facts, _ = run(GPT.format(more=""), "train.lr=0.5", "train.clip=null")
    point = load_checkpoint(facts["best"])
    model = Model(GPTConfig(**point.state["config"]["model"]))
    point.load_model(model)
    with datapipe.DataLoader(datapipe.open_dataset("held-out"), 4, shuffle=False, tail="partial") as loader:
        assert evaluate(model, loader, device=torch.device("cpu")).loss == facts["best_loss"]
