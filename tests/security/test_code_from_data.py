"""No data is ever run: whoever unpickles, evaluates or builds objects from text is named here, with the reason."""

import ast
import functools
import io
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datapipe.dataset import open_dataset
from datapipe.errors import ConfigError, DatapipeError, RecipeError
from datapipe.preprocess.recipe_file import load_recipe
from datapipe.profiling.span_file import NAME, load_spans
from datapipe.steps.text_classifier import _exported, load_classifier

PACKAGE = Path(__file__).parents[2] / "datapipe"

# Calls that turn bytes into code or objects, and the only functions that may make them.
RISKY = {
    "pickle.loads", "pickle.load", "pickle.Unpickler", "cloudpickle.loads", "cloudpickle.load", "marshal.loads",
    "marshal.load", "shelve.open", "joblib.load", "dill.loads", "torch.load", "numpy.load", "np.load", "np.fromfile",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "compile", "os.system",
    "os.popen", "subprocess.getoutput", "pd.read_pickle", "runpy.run_path",
}  # fmt: skip
ALLOWED = {
    ("preprocess/guard.py", "pickle.loads"): "what our own child said, through a pipe",
    ("preprocess/guarded_process.py", "pickle.loads"): "the task that our own parent sent, through a pipe",
    ("loader/worker.py", "pickle.loads"): "the transform that our own parent sent, through a pipe",
    ("loader/workers.py", "pickle.loads"): "what our own child said, through a pipe",
    ("loader/payload.py", "pickle.loads"): "what our own process sent, through memory without a name",
    ("preprocess/near/components.py", "np.fromfile"): "numbers, from a scratch file of the same task",
    ("preprocess/near/resolution.py", "np.fromfile"): "the same",
    ("integrations/script.py", "runpy.run_path"): "the script that the user asked to run",
    ("steps/text_classifier.py", "compile"): "whether the user's file is Python; it is not run",
}


def name_of(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""


WORDS = re.compile(
    r"pickle|marshal|shelve|joblib|dill|torch\.(load|export)|(np|numpy)\.load|fromfile|yaml\.|\b(eval|exec|compile)\("
    r"|os\.system|popen|getoutput|run_path|trust_remote_code|shell=|weights_only"
)
"""Without one of these a file is not parsed."""


@functools.cache
def calls():
    """(file, name, call) of the package's calls."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        if WORDS.search(text):
            tree = ast.parse(text)
            from_pickle = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
            assert all(node.module not in {"pickle", "marshal", "cloudpickle"} for node in from_pickle), path
            nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
            found += [(str(path.relative_to(PACKAGE)), name_of(node.func), node) for node in nodes]
    return found


def test_what_makes_objects_of_bytes_is_known():
    """Each such call is in a place that was looked at: what it reads comes from a process of our own."""
    found = {(path, name) for path, name, _ in calls() if name in RISKY}
    assert sorted(found - set(ALLOWED)) == []
    assert sorted(set(ALLOWED) - found) == [], "no longer there"


def test_numpy_is_never_allowed_pickles_and_shells_never_asked():
    """`allow_pickle` and `trust_remote_code` are never true, and no command is given to a shell."""
    for path, name, node in calls():
        if name == "torch.export.load":
            assert path == "steps/text_classifier.py", "where it may not unpickle"
        for given in node.keywords:
            if given.arg in {"allow_pickle", "trust_remote_code", "shell"}:
                assert isinstance(given.value, ast.Constant), (path, name)
                assert given.value.value is False, (path, name)
            if given.arg == "weights_only":
                assert getattr(given.value, "value", None) is True, (path, name)


class Bomb:
    """Unpickled, it would raise."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code in a file was run')",)


def test_pickles_in_the_place_of_files_are_refused(tmp_path):
    """A pickle as spans, an object array as spans, a pickled model, an Arrow file with a pickled extension type."""
    import pickle

    (tmp_path / NAME).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DatapipeError):
        load_spans(tmp_path)
    np.savez(tmp_path / NAME, spans=np.array([Bomb()], dtype=object), about=np.frombuffer(b"{}", np.uint8))
    with pytest.raises(DatapipeError):
        load_spans(tmp_path)
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError):
        load_classifier(str(tmp_path / "model.pt"), "", "", label=1, max_tokens=8)

    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb())}
    schema = pa.schema([pa.field("x", pa.int64(), metadata=metadata)])
    with pa.ipc.new_file(str(tmp_path / "data.arrow"), schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([1, 2])], schema=schema))
    assert open_dataset(tmp_path / "data.arrow").take([1])["x"].to_pylist() == [2]


def test_an_exported_model_is_tensors_alone(tmp_path, monkeypatch):
    """torch.export.load falls back to pickle for what is no tensor: not here."""
    import pickle
    import zipfile

    import torch

    def load(path):
        with zipfile.ZipFile(path) as archive:
            return torch.load(io.BytesIO(archive.read("a/models/m")), weights_only=False)

    monkeypatch.setattr(torch.export, "load", load)
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("a/models/m", pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        _exported(torch, str(tmp_path / "m.pt2"))
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize(
    "text",
    [
        "steps: [!!python/object/apply:os.system [ls]]",
        "steps: [!!python/name:os.system ]",
        "steps: [!ours decode]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nsteps: [*c, *c]",
        "<<: {steps: [decode]}\nsteps: &s [*s]",
        "steps: " + "[" * 200 + "]" * 200,
        "steps: [decode]\nsteps: [decode]",
        "steps: [decode]\n" + "#" * (1 << 20),
    ],
    ids=["call", "name", "own tag", "alias bomb", "itself", "deep", "twice", "long"],
)
def test_yaml_is_values_and_nothing_else(tmp_path, text):
    """Tags, aliases, depth, keys given twice and size are refused in words."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError):
        load_recipe(path)
