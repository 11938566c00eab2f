"""From a trained GPT to smaller or cheaper ones: each method with its share of training, exported.

    OUT/structured-0.5-of-100/      the run that follows the method: checkpoints and log, gone on with if it was stopped
       /structured.safetensors      what came of it, as `datapipe export` writes: for `datapipe sample`

What enters: the model, the config it was trained with, a loader. What leaves: a `Variant` for each method. Invariant:
the model that was given is left as it is; each method begins at the same batch; the same call trains nothing twice.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ConfigError
from datapipe.train.loop import train
from datapipe.train.smaller.distilled import Distilled, student_of
from datapipe.train.smaller.int8 import int8_weights
from datapipe.train.smaller.lora import with_adapters
from datapipe.train.smaller.price import Variant
from datapipe.train.smaller.pruned import narrower, sparse
from datapipe.train.trained import save_gpt

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from torch import nn

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.config import TrainConfig
    from datapipe.train.model import GPT

METHODS: Final = ("continued", "lora", "distil", "magnitude", "structured", "int8")


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done, and how far.

    Attributes:
        methods: of METHODS, each once.
        steps: of training that follow each method but int8: fine-tuning (lora), learning from the teacher (distil),
            recovery (magnitude, structured). "continued" is the original trained as much longer: what the others'
            losses are to be compared with where the original had not converged.
        lr: their highest learning rate; None: the run's for distil and lora, and what the run's schedule ended at for
            the others: the model has converged, and is to be mended, not moved.
        share: of weights (magnitude) or feed-forward channels (structured) that go.
        layers: of the student; None: half. rank: of LoRA's adapters.

    Raises:
        ConfigError: a value is out of its range.
    """

    methods: tuple[str, ...] = METHODS
    steps: int = 100
    lr: float | None = None
    share: float = 0.5
    layers: int | None = None
    rank: int = 8

    def __post_init__(self) -> None:
        wrong = [name for name in self.methods if name not in METHODS]
        if wrong or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"methods={list(self.methods)!r}", expected=f"of {', '.join(METHODS)}, each once")
        for name in ("steps", "rank"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r}", expected="a whole number from 1")
        if not 0 < self.share < 1:
            raise ConfigError(f"share={self.share!r}", expected="a number between 0 and 1")


def shrink(
    model: GPT,
    config: TrainConfig,
    loader: ResumableLoader,
    recipe: Recipe,
    *,
    out: str | os.PathLike[str],
    step: int = 0,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Variant]:
    """The original and what each method makes of it.

    Args:
        model: trained, on any device; it is copied.
        config: it was trained with.
        loader: of rows to train on; left where it stood.
        step: of the model's checkpoint: another one's runs are not gone on with.
        say: told what is being done.

    Raises:
        ConfigError: a method does not fit the model, or its library is not installed.
        KeyboardInterrupt: SIGTERM or Ctrl-C ended a method's training; the same call goes on with it.
        What `train` raises passes through.
    """
    work = _Work(model, config, loader, recipe, Path(out), step)
    made = [Variant(name="original", model=model, trainee=lambda: copy.deepcopy(model))]
    for method in recipe.methods:
        say(f"{method} …")
        made.append(getattr(work, method)())
    return made


@final
class _Work:
    """The methods, each a method of this."""

    def __init__(
        self, model: GPT, config: TrainConfig, loader: ResumableLoader, recipe: Recipe, out: Path, step: int
    ) -> None:
        self.model = model
        self.config = config
        self.loader = loader
        self.recipe = recipe
        self.out = out
        self.step = step
        self.begin = loader.state_dict()

    def continued(self) -> Variant:
        """The original, trained on."""
        found = copy.deepcopy(self.model).requires_grad_()
        self._train("continued", 1, found, self._last_rate())
        return self._exported("continued", found.eval(), lambda: copy.deepcopy(found))

    def lora(self) -> Variant:
        """Adapters, trained and merged."""
        adapted, merged = with_adapters(self.model, rank=self.recipe.rank)
        self._train("lora", self.recipe.rank, adapted, self.config.lr)
        return self._exported("lora", merged(), lambda: with_adapters(self.model, rank=self.recipe.rank)[0])

    def distil(self) -> Variant:
        """A shallower student."""
        layers = self.recipe.layers if self.recipe.layers is not None else max(1, self.model.config.layers // 2)
        student = student_of(self.model, layers=layers)
        self._train("distil", layers, Distilled(student, self.model), self.config.lr)
        return self._exported("distil", student.eval(), lambda: Distilled(student, self.model))

    def magnitude(self) -> Variant:
        """Zeros, held while the rest recovers."""
        found, plain = sparse(self.model, self.recipe.share)
        self._train("magnitude", self.recipe.share, found, self._last_rate())
        return self._exported("magnitude", plain(), lambda: sparse(self.model, self.recipe.share)[0])

    def structured(self) -> Variant:
        """Fewer channels."""
        found = narrower(self.model, self.recipe.share)
        self._train("structured", self.recipe.share, found, self._last_rate())
        return self._exported("structured", found.eval(), lambda: copy.deepcopy(found))

    def int8(self) -> Variant:
        """Weights in one byte: made from the whole model in a moment, so there is no file of them."""
        return Variant(name="int8", model=int8_weights(self.model), trainee=None)

    def _last_rate(self) -> float:
        return self.config.lr * (self.config.lr_floor or 0.1)

    def _train(self, method: str, option: float, trainee: nn.Module, rate: float) -> None:
        steps = self.recipe.steps
        told = replace(
            self.config, model=None, steps=steps, lr=self.recipe.lr or rate,
            warmup=min(self.config.warmup, steps // 10), keep=1, keep_best=False, patience=None, eval_every=0, skip={},
        )  # fmt: skip
        folder = self.out / f"{method}-{option:g}-of-{self.step}"
        self.loader.load_state_dict(self.begin)
        try:
            result = train(told, self.loader, out=folder, model=trainee)
        finally:
            self.loader.load_state_dict(self.begin)
        if result.stopped is not None:
            raise KeyboardInterrupt

    def _exported(self, method: str, model: GPT, trainee: Callable[[], nn.Module]) -> Variant:
        path = save_gpt(model, self.out / f"{method}.safetensors", step=self.step + self.recipe.steps)
        return Variant(name=method, model=model, trainee=trainee, file=str(path))
