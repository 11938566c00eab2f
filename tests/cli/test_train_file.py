"""A run's file: what it says, and what is said of a wrong one."""

import pytest

from datapipe.cli.train_file import read_train_file
from datapipe.errors import ConfigError, RecipeError

GOOD = """
dataset: corpus
loader:
  batch_size: 4
  seed: 3
evaluation:
  dataset: {url: held-out, columns: [tokens]}
  loader: {batch_size: 2}
model: {layers: 1}
train:
  steps: 10
  lr: 3e-3
  optimizer_options: {eps: 1e-6}
out: runs/a
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_it_says_what_is_opened_and_made(write):
    """`3e-3` is a number; the evaluation reads in order, but for what it says itself."""
    told = read_train_file(write(GOOD))
    assert told.dataset == {"url": "corpus"}
    assert told.train == {"steps": 10, "lr": 3e-3, "optimizer_options": {"eps": 1e-6}}
    assert told.evaluation == (
        {"url": "held-out", "columns": ["tokens"]},
        {"batch_size": 2, "seed": 3, "shuffle": False},
    )
    assert (told.out, told.tensorboard, told.model) == ("runs/a", False, {"layers": 1})


def test_overrides_come_before_the_file(write):
    """Beside what is there, in sections that are not there, and inside a dataset that was only named."""
    told = read_train_file(
        write(GOOD),
        {
            "train.lr": "1e-2",
            "train.skip": {"3": 1},
            "dataset.columns": ["tokens"],
            "loader.pack.seq_len": 8,
            "out": "b",
        },
    )
    assert (told.train["lr"], told.train["skip"], told.train["steps"]) == (1e-2, {"3": 1}, 10)
    assert told.dataset == {"url": "corpus", "columns": ["tokens"]}
    assert told.loader == {"batch_size": 4, "seed": 3, "pack": {"seq_len": 8}}
    assert told.out == "b"
    with pytest.raises(ConfigError, match="lr is '3e-3'"):
        read_train_file(write(GOOD), {"train.lr.x": 1})


@pytest.mark.parametrize(
    ("old", "new", "line", "match", "fix"),
    [("  lr:", "  lrr:", 12, "'train.lrr'", "'lr'"), ("seed: 3", "sede: 3", 5, "'loader.sede'", "'seed'"),
     ("layers: 1", "layer: 1", 9, "'model.layer'", "'layers'"), ("out:", "outs:", 14, "'outs'", "'out'"),
     ("columns:", "colums:", 7, "'evaluation.dataset.colums'", "'columns'"),
     ("out: runs/a", "out: []", 14, "out", None), ("dataset: corpus", "dataset: []", 2, "dataset", None),
     ("model: {layers: 1}", "model: 3", 9, "model", None),
     ("  batch_size: 4\n", "", 4, "no batch_size", "32"), ("loader:", "xloader:", 4, "xloader", "loader"),
     ("model: {layers: 1}", "model: {call: 'a:b', layer: 1}", 9, "'model.layer'", None),
     ("out: runs/a", "tensorboard: maybe", 14, "tensorboard", None),
     ("  dataset: {url: held-out, columns: [tokens]}\n", "", 7, "no dataset", None)],
)  # fmt: skip
def test_a_wrong_key_is_named_with_its_line_and_the_nearest(write, old, new, line, match, fix):
    assert old in GOOD
    with pytest.raises(RecipeError, match=match) as fault:
        read_train_file(write(GOOD.replace(old, new, 1)))
    assert f"run.yaml:{line}:" in fault.value.got
    assert fix is None or fix in fault.value.fix


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "empty"), ("- a\n", "not a mapping"), ("dataset: a\nloader: {batch_size: 1}\n", "no train"),
     ("a: &x [*x]", "alias|not a"), ("dataset: !!python/object/apply:os.system [ls]", "not allowed"),
     ("train: {steps: 1, steps: 2}", "twice"), ("x: [", "not YAML"), ("\tx: 1", "not YAML"),
     ("a: {" * 40 + "}" * 40, "deep")],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_words(write, text, match):
    with pytest.raises(RecipeError, match=match):
        read_train_file(write(text))


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    with pytest.raises(RecipeError, match="no file"):
        read_train_file(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_train_file(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_train_file(tmp_path / "b")


def test_an_error_of_a_value_gets_the_line_of_its_option(write):
    told = read_train_file(write(GOOD))
    assert told.located(ConfigError("TrainConfig(lr=-1)"), "train").got.endswith("run.yaml:12: TrainConfig(lr=-1)")
    assert "run.yaml:11:" in told.located(ConfigError("something else"), "train").got
