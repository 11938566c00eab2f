"""A user's classifier, whatever it is made of, as a function from texts to scores.

What enters: a file (Python, ONNX, TorchScript, torch.export) or the name of an installed function. What leaves: a
callable, list of n texts → float64[n]. Invariant: the kind is told by the file's content, because a worker's copy has
another name; nothing is unpickled: a bare pickle, `torch.save` of a module among them, is refused.
"""

from __future__ import annotations

import importlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, StepError, in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

Classifier = Callable[[list[str]], Any]

_TENSORS_ALONE: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_EXPECTED: Final = "a .py file, an ONNX model, or one saved by torch.jit.save or torch.export.save"


def load_classifier(model: str, function: str, tokenizer: str, *, label: int, max_tokens: int) -> Classifier:
    """The classifier.

    Args:
        model: path of a file, or "" for an installed function. function: its name in the .py file, or
            "package.module:function".
        tokenizer: a tokenizer.json, for models that take token ids.
        label: which column of a matrix of scores. max_tokens: longer texts are cut.

    Raises:
        ConfigError: there is no such thing, it is of no known kind, or a library that it needs is not installed.
    """
    if not model:
        return _named(function)
    kind = kind_of(model)
    if kind == "python":
        from datapipe.steps.user_steps import load_function

        return load_function(model, function or "score")
    if kind == "onnx":
        return _onnx(model, tokenizer, label, max_tokens)
    return _torch(model, kind, tokenizer, label, max_tokens)


def kind_of(path: str) -> str:
    """What a file is, by content: "python", "onnx", "torchscript" or "export".

    Raises:
        ConfigError: it is none of them.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
        if any(name.startswith("code/") for name in names):
            return "torchscript"
        if any(name.startswith("models/") or name == "archive_format" for name in names):
            return "export"
        raise ConfigError(
            f"{Path(path).name} is a pickle: loading it could run anything",
            expected=_EXPECTED,
            fix="save the model by torch.jit.save(torch.jit.script(model), path)",
        )
    data = Path(path).read_bytes()
    try:
        compile(data.decode(), path, "exec")
    except (UnicodeDecodeError, SyntaxError, ValueError):
        if data[:1] == b"\x08":  # an ONNX model begins with its IR version, field 1 of the protocol buffer
            return "onnx"
        raise ConfigError(f"{Path(path).name} is no model that is known", expected=_EXPECTED) from None
    return "python"


def _named(function: str) -> Classifier:
    place, _, name = function.rpartition(":")
    try:
        found = getattr(importlib.import_module(place), name) if place else None
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"safety_score.function = {function!r} ({error})", expected="package.module:function"
        ) from None
    if not callable(found):
        raise ConfigError(
            f"safety_score.function = {function!r}",
            expected="package.module:function, or a file in safety_score.model",
            fix="name your classifier: --set safety_score.model=my_scores.py",
        )
    return found  # type: ignore[no-any-return]


def _onnx(path: str, tokenizer: str, label: int, max_tokens: int) -> Classifier:
    """An ONNX model: one string tensor [n], or token ids int64 [n, T] (and a mask of the same shape)."""
    import numpy as np

    runtime = _library("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    encode = None if inputs[0].type == "tensor(string)" else _encoder(tokenizer, max_tokens)

    def classify(texts: list[str]) -> npt.NDArray[np.float64]:
        arrays = (np.array(texts, object),) if encode is None else encode(texts)
        feeds = {each.name: array for each, array in zip(inputs, arrays, strict=False)}
        return column_of(session.run(None, feeds)[0], label)

    return classify


def _torch(path: str, kind: str, tokenizer: str, label: int, max_tokens: int) -> Classifier:
    """A torch model: token ids int64 [n, T] → scores [n] or [n, k]."""
    torch = _library("torch", "datapipe-toolkit[train]")
    encode = _encoder(tokenizer, max_tokens)
    model = torch.jit.load(path, map_location="cpu") if kind == "torchscript" else _exported(torch, path)

    def classify(texts: list[str]) -> npt.NDArray[np.float64]:
        with torch.inference_mode():
            return column_of(model(torch.from_numpy(encode(texts)[0])).double().numpy(), label)

    return classify


def _exported(torch: Any, path: str) -> Any:
    """The model of a `torch.export.save`, nothing unpickled but tensors.

    Raises:
        ConfigError: it holds more than those, or is damaged.
    """
    # Where a part is more than tensors, torch 2.13 loads it once more, with pickle (`deserialize_torch_artifact`): this
    # variable, which it reads at each load, has it refuse.
    before = os.environ.get(_TENSORS_ALONE)
    os.environ[_TENSORS_ALONE] = "1"
    try:
        return torch.export.load(path).module()
    except Exception as error:
        raise ConfigError(
            f"{Path(path).name} cannot be loaded: {in_words(error)}",
            expected="what torch.export.save wrote of a model whose parts are tensors",
            fix="save the model by torch.jit.save(torch.jit.script(model), path)",
        ) from error
    finally:
        if before is None:
            del os.environ[_TENSORS_ALONE]
        else:
            os.environ[_TENSORS_ALONE] = before


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"the model needs {name}, which is not installed", expected=name, fix=f"pip install '{package}'"
        ) from None


def _encoder(path: str, max_tokens: int) -> Callable[[list[str]], tuple[Any, Any]]:
    """Texts → (ids int64 [n, T], mask int64 [n, T]), padded by 0."""
    import numpy as np
    from tokenizers import Tokenizer

    from datapipe.steps.tokenize_text import check_ids

    if not path:
        raise ConfigError(
            "the model takes token ids, and safety_score.tokenizer is not set",
            expected="the tokenizer.json that it was trained with",
            fix="--set safety_score.tokenizer=tokenizer.json",
        )
    try:
        check_ids(path)
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library's only kind, and those of what is no JSON
        raise ConfigError(f"{path} is no tokenizer: {error}", expected="a Hugging Face tokenizer.json") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)

    def encode(texts: list[str]) -> tuple[Any, Any]:
        found = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        ids = np.zeros((len(found), max(1, max(map(len, found), default=1))), np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(found):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        return ids, mask

    return encode


def column_of(scores: Any, label: int) -> npt.NDArray[np.float64]:
    """float64[n] from [n], [n, 1] or [n, k]."""
    import numpy as np

    found = np.asarray(scores, np.float64)
    return found[:, label] if found.ndim == 2 else found.reshape(-1)


def scores_of(classify: Classifier, texts: Sequence[str], rows: int, name: str) -> npt.NDArray[np.float64]:
    """Scores of all texts, `rows` at a time: float64[n].

    Raises:
        StepError: the classifier gives another number of scores, or one that is no finite number.
    """
    import numpy as np

    found = [np.zeros(0)]
    for start in range(0, len(texts), rows):
        some = list(texts[start : start + rows])
        scores = np.asarray(classify(some), np.float64).reshape(-1)
        if len(scores) != len(some) or not np.isfinite(scores).all():
            raise StepError(
                f"{name} gave {len(scores)} scores for {len(some)} texts"
                + ("" if np.isfinite(scores).all() else ", not all of them finite"),
                expected="one finite number for each text",
                fix="correct the classifier",
            )
        found.append(scores)
    return np.concatenate(found)
