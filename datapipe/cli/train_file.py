"""A training run as a YAML file: which data, how batches are made, which model, how it is trained.

    dataset: corpus/                     or {url: …, columns: […], filters: …, storage_options: …, cache: …}
                                         or {mix: {web: web/, code: {url: …}}, weights: {web: 0.7, code: 0.3}}
    loader: {batch_size: 32, seed: 0}    arguments of DataLoader; pack: {seq_len: 512}; transform: "module:callable"
    evaluation: {dataset: corpus-valid/, loader: {…}}
    model: {layers: 4, width: 128}       the built-in GPT; or {call: "module:callable", arguments: {…}, loss: …}
    train: {steps: 1000, lr: 3e-3}       options of TrainConfig
    tune: {budget: 10m, space: {…}}      what `datapipe tune` varies; `datapipe train` leaves it unread
    out: runs/a

What enters: the file and `--set a.b=value` overrides. What leaves: a `TrainFile`, its names checked. Invariant: every
fault is a RecipeError that names the file, the line and the nearest known key; nothing is made or opened here. Paths
are as on the command line, from the working folder.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, RecipeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from datapipe.preprocess.yaml_nodes import Node

SECTIONS: Final = ("dataset", "loader", "evaluation", "model", "train", "out", "tensorboard", "tune")
_MADE_HERE: Final = ("self", "dataset", "rank", "world_size", "device", "collate")
_WITH_NUMBERS: Final = ("loader", "model", "train", "tune")
_NUMBER: Final = re.compile(r"[+-]?\d+[eE][+-]?\d+")
"""`3e-3` is a number to people and to YAML 1.2, and a text to YAML 1.1, which is what is read."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFile:
    """A run as it was written down.

    Attributes:
        dataset: arguments of `open_dataset`, or of `mix` with such under `mix`. loader: of `DataLoader`.
        evaluation: None, or the same two for the loader that is evaluated on.
        model: keys of GPTConfig (what the dataset knows may be left out), or of `ModelSource`.
        train: options of TrainConfig. out: the run's folder, or None. tensorboard: write scalars to OUT/tensorboard.
        tune: of `datapipe tune`. where: the file's name. lines: "train.lr" → its line, 0 for an override.
    """

    dataset: Mapping[str, Any]
    loader: Mapping[str, Any]
    evaluation: tuple[Mapping[str, Any], Mapping[str, Any]] | None
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    out: str | None
    tensorboard: bool
    tune: Mapping[str, Any]
    where: str
    lines: Mapping[str, int]

    def located(self, error: ConfigError, section: str) -> RecipeError:
        """The error with the line of the option that it names, of those in a section."""
        said = re.search(r"\(?\b(\w+)(?:=|\[|: )", error.got)
        key = f"{section}.{said[1]}" if said else section
        line = self.lines.get(key, self.lines.get(section, 0))
        found = RecipeError(f"{_at(self.where, line)}: {error.got}", expected=error.expected, fix=error.fix)
        for note in getattr(error, "__notes__", []):
            found.add_note(note)
        return found


def read_train_file(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> TrainFile:
    """Read and check a run's file.

    Args:
        overrides: "train.lr" → value, in place of or beside what the file says.

    Raises:
        RecipeError: the file is not there, no YAML, or has a key that nothing knows.
        ConfigError: an override names nothing.
    """
    from datapipe.preprocess.yaml_nodes import Node

    where = str(path)
    root = _root(path, where)
    for key, value in (overrides or {}).items():
        _override(root, key.split("."), value, key)
    lines: dict[str, int] = {}
    _keep_lines(root, "", lines)
    told = {
        name: Node(_numbers(node.plain()) if name in _WITH_NUMBERS else node.plain(), node.line)
        for name, node in root.value.items()
    }
    check = _Checker(where, lines)
    check.keys("", told, SECTIONS)
    for name in ("dataset", "loader", "train"):
        if name not in told:
            raise RecipeError(f"{where}: no {name}", expected="dataset, loader, model and train", fix=f"{name}: …")
    values = {name: node.value for name, node in told.items()}
    loader = check.loader("loader", values["loader"])
    return TrainFile(
        evaluation=check.evaluation(values.get("evaluation"), loader),
        loader=loader,
        model=check.model(values.get("model", {})),
        train=check.train(values["train"]),
        out=check.out(values.get("out")),
        tensorboard=check.tensorboard(values.get("tensorboard", False)),
        dataset=check.dataset("dataset", values["dataset"]),
        tune=check.mapping("tune", values.get("tune", {})),
        where=where,
        lines=lines,
    )


def _root(path: str | os.PathLike[str], where: str) -> Node:
    from datapipe.preprocess.yaml_nodes import parse_yaml

    try:
        root = parse_yaml(Path(path).read_bytes().decode("utf-8"), where=where)
    except FileNotFoundError:
        raise RecipeError(f"there is no file {where!r}", expected="a YAML file", fix="check the path") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{where}: cannot be read ({error})", expected="a YAML file") from None
    if not isinstance(root.value, dict):
        raise RecipeError(f"{where}: not a mapping", expected=f"keys {', '.join(SECTIONS)}")
    return root


@final
class _Checker:
    """Looks at keys, and says where a wrong one stands."""

    def __init__(self, where: str, lines: Mapping[str, int]) -> None:
        self._where = where
        self._lines = lines

    def at(self, key: str) -> str:
        return _at(self._where, self._lines.get(key, 0))

    def keys(self, section: str, told: Mapping[str, Any], known: tuple[str, ...]) -> None:
        from datapipe.steps.options import nearest

        for name in told:
            if name not in known:
                path = f"{section}.{name}" if section else name
                raise RecipeError(
                    f"{self.at(path)}: {path!r}", expected=f"one of {', '.join(known)}", fix=nearest(name, known)
                )

    def mapping(self, section: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise RecipeError(f"{self.at(section)}: {section}: {value!r}", expected="a mapping of options")
        return value

    def dataset(self, section: str, value: Any) -> dict[str, Any]:
        from datapipe.dataset import open_dataset

        told = {"url": value} if isinstance(value, str) else self.mapping(section, value)
        if "mix" in told:
            from datapipe.loader import mix

            self.keys(section, told, ("mix", *(name for name in _arguments(mix) if name != "sources")))
            sources = self.mapping(f"{section}.mix", told["mix"])
            return told | {"mix": {name: self.dataset(f"{section}.mix.{name}", each) for name, each in sources.items()}}
        self.keys(section, told, _arguments(open_dataset))
        if not isinstance(told.get("url"), str) or not told["url"]:
            raise RecipeError(f"{self.at(section)}: {section} without a place", expected="a folder or URL, or {url: …}")
        return told

    def loader(self, section: str, value: Any, *, whole: bool = True) -> dict[str, Any]:
        from datapipe.loader import DataLoader

        told = self.mapping(section, value)
        self.keys(section, told, _arguments(DataLoader.__init__))
        if whole and "batch_size" not in told:
            raise RecipeError(f"{self.at(section)}: no batch_size", expected="rows of a step", fix="batch_size: 32")
        return told

    def evaluation(self, value: Any, loader: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Dataset and loader; `loader` is that of training, whose options hold where nothing else is said."""
        if value is None:
            return None
        told = self.mapping("evaluation", value)
        self.keys("evaluation", told, ("dataset", "loader"))
        if "dataset" not in told:
            raise RecipeError(f"{self.at('evaluation')}: no dataset", expected="evaluation.dataset")
        # In the order of the file; how its last batch is cut is the parts' to say.
        own = {name: option for name, option in loader.items() if name != "tail"} | {"shuffle": False}
        return (
            self.dataset("evaluation.dataset", told["dataset"]),
            own | self.loader("evaluation.loader", told.get("loader", {}), whole=False),
        )

    def model(self, value: Any) -> dict[str, Any]:
        from datapipe.train import GPTConfig
        from datapipe.train.model_source import ModelSource

        told = self.mapping("model", value)
        kind: Any = ModelSource if "call" in told else GPTConfig
        self.keys("model", told, tuple(field.name for field in dataclasses.fields(kind)))
        return told

    def train(self, value: Any) -> dict[str, Any]:
        from datapipe.train import TrainConfig

        told = self.mapping("train", value)
        self.keys(
            "train", told, tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name != "model")
        )
        return told

    def out(self, value: Any) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            raise RecipeError(f"{self.at('out')}: out = {value!r}", expected="a folder")
        return value

    def tensorboard(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise RecipeError(f"{self.at('tensorboard')}: tensorboard = {value!r}", expected="true or false")
        return value


def _arguments(call: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(call).parameters if name not in _MADE_HERE)


def _override(root: Node, path: list[str], value: Any, key: str) -> None:
    """Put a plain value at a path of mappings; those that are not there are made."""
    from datapipe.preprocess.yaml_nodes import Node

    at = root
    for name in path[:-1]:
        inner = at.value.get(name)
        if inner is None or inner.value is None:
            inner = Node({}, 0)
        elif name == "dataset" and isinstance(inner.value, str):
            inner = Node({"url": inner}, inner.line)
        if not isinstance(inner.value, dict):
            raise ConfigError(f"--set {key}: {name} is {inner.plain()!r}", expected="a section", fix="section.option=…")
        at.value[name] = inner
        at = inner
    at.value[path[-1]] = _node(value)


def _node(value: Any) -> Node:
    from datapipe.preprocess.yaml_nodes import Node

    if isinstance(value, dict):
        return Node({str(name): _node(each) for name, each in value.items()}, 0)
    return Node([_node(each) for each in value] if isinstance(value, list) else value, 0)


def _keep_lines(node: Node, path: str, lines: dict[str, int]) -> None:
    lines[path] = node.line
    if isinstance(node.value, dict):
        for name, inner in node.value.items():
            _keep_lines(inner, f"{path}.{name}" if path else name, lines)


def _numbers(value: Any) -> Any:
    """The value with `3e-3` as the number it is."""
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _at(where: str, line: int) -> str:
    return f"{where}:{line}" if line else where
