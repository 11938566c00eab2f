"""safety_score: the user's own classifier, whatever it is made of; and nothing is unpickled."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, StepError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.text_classifier import kind_of

PYTHON = '''
def score(texts):
    """The share of exclamation marks."""
    return [text.count("!") / max(1, len(text)) for text in texts]

def short(texts):
    return [0.0]

def nothing(texts):
    return [float("nan")] * len(texts)
'''
TEXTS = ["calm", "hey!", "!!!!", ""]


@pytest.fixture
def file(tmp_path):
    """A classifier in Python."""
    path = tmp_path / "scores.py"
    path.write_text(PYTHON)
    return str(path)


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of whole words: a → 1, b → 2, anything else → 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def run(texts=TEXTS, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": texts})
    return run_steps(table, [bind("safety_score", options)], Keys())


def test_a_function_of_a_file(file):
    """The score is a column of every row, a signal of every row, and what the threshold looks at."""
    ran = run(model=file, threshold=0.5)
    assert ran.table["safety_score"].to_pylist() == [0, 0.25, 0]
    assert ran.signals["safety.score"].to_pylist() == [0, 0.25, 1, 0]
    assert ran.marked["reason"].to_pylist() == ["safety_score_too_high"]
    assert run(model=file).table.num_rows == 4, "without a threshold nothing is dropped"
    assert run(model=file, batch_rows=1).table.equals(run(model=file).table)


def test_a_copy_under_another_name(file, tmp_path):
    """A worker has the file without its ending."""
    copy = tmp_path / "0123.resource"
    shutil.copy(file, copy)
    assert run(model=str(copy)).table.equals(run(model=file).table)


def test_an_installed_function():
    """By its name alone."""
    assert run(["5", "0.25"], function="builtins:list").table["safety_score"].to_pylist() == [5, 0.25]
    with pytest.raises(ConfigError, match="package.module:function"):
        run(function="no.such.module:score")
    with pytest.raises(ConfigError, match="package.module:function"):
        run(function="score")


@pytest.mark.parametrize(
    ("function", "says"), [("short", "1 scores for 4 texts"), ("nothing", "not all of them finite")]
)
def test_something_else_than_a_number_each(file, function, says):
    """… is an error of the classifier's, by its name."""
    with pytest.raises(StepError, match=says):
        run(model=file, function=function)


@pytest.mark.parametrize("saved", ["jit", "export"])
def test_a_torch_model(tmp_path, tokenizer, saved):
    """Token ids, padded by 0; of several scores the column asked for."""
    torch = pytest.importorskip("torch")

    class Share(torch.nn.Module):
        def forward(self, ids):
            known = (ids > 0).double().sum(1).clamp(min=1)
            return torch.stack([(ids == 1).double().sum(1) / known, (ids == 2).double().sum(1) / known], 1)

    path = str(tmp_path / "model")
    if saved == "jit":
        torch.jit.save(torch.jit.script(Share()), path)
    else:
        pytest.importorskip("torch.export")
        shape = {0: torch.export.Dim("rows", min=1, max=4096), 1: torch.export.Dim("tokens", min=1, max=4096)}
        exported = torch.export.export(Share(), (torch.zeros(3, 5, dtype=torch.int64),), dynamic_shapes=(shape,))
        path += ".pt2"
        torch.export.save(exported, path)
    texts = ["a b b b", "a a", "c", "b"]
    ran = run(texts, model=path, tokenizer=tokenizer, threshold=0.9)
    assert ran.signals["safety.score"].to_pylist() == [0.75, 0, 0, 1]
    assert run(texts, model=path, tokenizer=tokenizer, label=0).signals["safety.score"].to_pylist() == [0.25, 1, 0, 0]
    with pytest.raises(ConfigError, match=r"safety_score\.tokenizer"):
        run(texts, model=path)


def test_an_onnx_model(tmp_path, tokenizer):
    """The same by onnxruntime, where it is installed."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the model")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs it")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["score"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "most",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    assert run(["a b", "a"], model=str(tmp_path / "model.onnx"), tokenizer=tokenizer).signals[
        "safety.score"
    ].to_pylist() == [2, 1]


def test_a_pickle_is_refused(tmp_path):
    """A module saved whole could run anything: it is not loaded, and the message says what to save instead."""
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 1), tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"is a pickle.*\n.*\n.*torch\.jit\.save"):
        run(model=str(tmp_path / "model.pt"))
    (tmp_path / "raw.pkl").write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(ConfigError, match="no model that is known"):
        kind_of(str(tmp_path / "raw.pkl"))


def test_through_a_whole_run(file, tmp_path):
    """The file travels with the run, and the scores are in the shards."""
    import datapipe

    (tmp_path / "in").mkdir()
    for i, text in enumerate(TEXTS[:3]):
        (tmp_path / "in" / f"{i}.txt").write_text(text)
    recipe = {"steps": ["decode", {"safety_score": {"model": file, "threshold": 0.5}}]}
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe, workers=0)
    assert summary.dropped == {"safety_score_too_high": 1}
    scores = datapipe.open_dataset(tmp_path / "out", columns=["safety_score"]).take([0, 1])
    assert scores["safety_score"].to_pylist() == [0, 0.25]
