"""The parts of a run, made from its file: the config, the loaders, the model.

What enters: a `TrainFile`. What leaves: a `TrainConfig`, a `DataLoader`, one to evaluate on if there is one, and what
makes the model. Invariant: this is all that stands between the file and `datapipe.train.train`; each part is what the
same arguments would make in Python.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.cli.train_file import TrainFile
    from datapipe.dataset import Dataset
    from datapipe.loader import DataLoader
    from datapipe.loader.mixture import Mixture
    from datapipe.train import GPTConfig, TrainConfig
    from datapipe.train.model_source import ModelSource


@final
@dataclass(frozen=True, kw_only=True)
class TrainParts:
    """What `train` is called with. `model`: None where `config.model` is the GPT to make."""

    config: TrainConfig
    loader: DataLoader
    evaluation: DataLoader | None
    model: ModelSource | None

    def close(self) -> None:
        """Close the loaders."""
        self.loader.close()
        if self.evaluation is not None:
            self.evaluation.close()


def open_parts(told: TrainFile) -> TrainParts:
    """Open the datasets and make the parts. Under torchrun each process reads its layout's share of the batches.

    Raises:
        RecipeError: an option is wrong; the message has its line. What `open_dataset` raises passes through.
    """
    from datapipe.train import TrainConfig
    from datapipe.train.model_source import ModelSource

    dataset = _dataset(told, told.dataset)
    own = "call" in told.model
    try:
        model = ModelSource(**told.model) if own else None
        shape = None if own else gpt_shape(told.model, dataset, told.loader)
    except ConfigError as error:
        raise told.located(error, "model") from None
    try:
        config = TrainConfig(model=shape, **told.train)
        layout = config.layout
        placed: dict[str, Any] = {
            "rank": layout.data_rank(),
            "world_size": layout.data_size(),
            "device": _loader_device(config),
        }
    except ConfigError as error:
        raise told.located(error, "train") from None
    except TypeError as error:
        raise told.located(ConfigError(f"train: {error}", expected="steps, at least"), "train") from None
    loader = _loader(told, "loader", dataset, told.loader, placed)
    if told.evaluation is None:
        return TrainParts(config=config, loader=loader, evaluation=None, model=model)
    held_out = _dataset(told, told.evaluation[0])
    if not own:
        _check_vocabularies(told, dataset, held_out)
    # Every row counts. Of several processes some may have none of the last batch, and not every model takes an empty
    # one: those that heed `mask` get it padded.
    heeds = not own or (model is not None and model.loss is not None)
    options = {"tail": "pad" if heeds and placed["world_size"] > 1 else "partial", **told.evaluation[1]}
    evaluation = _loader(told, "evaluation.loader", held_out, options, placed)
    return TrainParts(config=config, loader=loader, evaluation=evaluation, model=model)


def _loader_device(config: TrainConfig) -> str | None:
    """Where the loader's batches go: the accelerator of this process; None: they stay."""
    from datapipe.train.precision import choose_device

    device = choose_device(config.device)
    if device.type == "cpu":
        return None
    local = os.environ.get("LOCAL_RANK")
    several = math.prod(config.layout.sizes().values()) > 1
    return f"{device.type}:{int(local)}" if several and local is not None else str(device)


def gpt_shape(told: Mapping[str, Any], dataset: Dataset | Mixture, loader: Mapping[str, Any]) -> GPTConfig:
    """The built-in GPT; its vocabulary and row length are the dataset's where the file says nothing.

    Raises:
        ConfigError: they are neither told nor known.
    """
    from datapipe.train import GPTConfig

    found = dict(told)
    if "vocab_size" not in found:
        found["vocab_size"] = _vocabulary(dataset)
    if "seq_len" not in found:
        found["seq_len"] = _row_length(dataset, loader)
    missing = [name for name in ("vocab_size", "seq_len") if found.get(name) is None]
    if missing:
        raise ConfigError(
            f"model: no {' and no '.join(missing)}, and the dataset does not say",
            expected="a dataset of packed tokens with a vocabulary, or the numbers",
            fix=f"model: {{{', '.join(f'{name}: …' for name in missing)}}}; or your own: {{call: module:callable}}",
        )
    return GPTConfig(**found)


def _row_length(dataset: Dataset | Mixture, loader: Mapping[str, Any]) -> int | None:
    pack = loader.get("pack")
    if isinstance(pack, dict) and "seq_len" in pack:
        return int(pack["seq_len"])
    if "tokens" not in dataset.schema.names:
        return None
    size = getattr(dataset.schema.field("tokens").type, "list_size", -1)
    return int(size) if size > 0 else None


def _dataset(told: TrainFile, arguments: Mapping[str, Any]) -> Dataset | Mixture:
    from datapipe.cli.dataset import named
    from datapipe.dataset import open_dataset
    from datapipe.loader import mix

    if "mix" not in arguments:
        with named(arguments["url"]):
            return open_dataset(**_opened(arguments))
    sources = {name: _dataset(told, each) for name, each in arguments["mix"].items()}
    try:
        return mix(sources, **{name: value for name, value in arguments.items() if name != "mix"})
    except ConfigError as error:
        raise told.located(error, "dataset") from None


def _vocabulary(dataset: Dataset | Mixture) -> int | None:
    """The number of tokens, where every source says the same."""
    sources = list(getattr(dataset, "sources", [dataset]))
    manifests = [getattr(source, "manifest", None) for source in sources]
    sizes = {None if each is None or each.vocabulary is None else each.vocabulary.size for each in manifests}
    return sizes.pop() if len(sizes) == 1 else None


def _check_vocabularies(told: TrainFile, dataset: Dataset | Mixture, held_out: Dataset | Mixture) -> None:
    """A token must mean the same in both: a loss on another vocabulary's tokens is a number without a meaning.

    Raises:
        RecipeError: both say what their vocabularies are, and they are not the same.
    """
    trained, evaluated = _vocabulary_files(dataset), _vocabulary_files(held_out)
    if trained and evaluated and not evaluated <= trained:
        error = ConfigError(
            f"the tokens to evaluate on are of another vocabulary: {', '.join(sorted(evaluated - trained))}",
            expected=f"that of the dataset to train on: {', '.join(sorted(trained))}",
            fix="preprocess it by a recipe without the step vocabulary, with"
            f" --set tokenize.tokenizer=DATASET/{min(trained)}",
        )
        raise told.located(error, "evaluation")


def _vocabulary_files(dataset: Dataset | Mixture) -> set[str]:
    """The files of its vocabularies, whose names carry their checksums; none where a source does not say."""
    manifests = [getattr(source, "manifest", None) for source in getattr(dataset, "sources", [dataset])]
    told = [None if each is None or each.vocabulary is None else each.vocabulary.path for each in manifests]
    return set() if None in told else {str(path) for path in told}


def _opened(told: Mapping[str, Any]) -> dict[str, Any]:
    """Filters come as lists; Arrow's are tuples."""
    filters = told.get("filters")
    if not isinstance(filters, list):
        return dict(told)
    deep = bool(filters) and isinstance(filters[0], list) and bool(filters[0]) and isinstance(filters[0][0], list)
    return {**told, "filters": [[tuple(t) for t in all_of] for all_of in filters] if deep else [*map(tuple, filters)]}


def _loader(
    told: TrainFile, section: str, dataset: Dataset | Mixture, options: Mapping[str, Any], placed: Mapping[str, Any]
) -> DataLoader:
    from datapipe.loader import Bucket, DataLoader, Pack
    from datapipe.train.model_source import load_callable

    made = dict(options)
    try:
        for name, kind in (("pack", Pack), ("bucket", Bucket)):
            if isinstance(made.get(name), dict):
                made[name] = kind(**made[name])
        if isinstance(made.get("transform"), str):
            made["transform"] = load_callable(made["transform"], what="loader.transform")
        return DataLoader(dataset, **made, **placed)
    except ConfigError as error:
        raise told.located(error, section) from None
    except TypeError as error:
        raise told.located(ConfigError(f"{section}: {error}"), section) from None
