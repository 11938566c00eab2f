"""What a run is told, checked once.

What enters: keyword arguments. What leaves: a frozen `TrainConfig`. Invariant: two runs with the same `TrainConfig`,
model and loader on the same device compute the same numbers, however often either was stopped.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.train.model import GPTConfig

RESUME: Final = ("auto", "must", "fallback", "fresh")
FREE: Final = frozenset({"steps", "device", "checkpoint_every", "keep"})
"""May differ when a run goes on: a run may be extended, moved, and saved more or less often."""


@final
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run.

    Attributes:
        steps: optimizer steps of the whole run, across as many epochs as that takes.
        model: the GPT to make; None where `train` is given a model.
        lr: the highest learning rate. warmup: steps of its linear rise. lr_floor: its last value, as a share of `lr`.
        weight_decay: of matrices; norms, biases and other vectors have none.
        betas, eps: AdamW's (arXiv:1711.05101).
        clip: the gradient's largest norm; None: not clipped.
        accumulate: batches per step; the gradient is the mean over all their targets, however unevenly spread.
        seed: of the weights and of everything random in the model.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        precision: of the matrix products: "auto" (bf16 where the device has it), "bf16", "fp32".
        checkpoint_every: steps between checkpoints; 0: only when the run ends or is stopped.
        keep: checkpoints kept, the newest.

    Raises:
        ConfigError: a value is out of its range.
    """

    steps: int
    model: GPTConfig | None = None
    lr: float = 3e-3
    warmup: int = 10
    lr_floor: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip: float | None = 1.0
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    checkpoint_every: int = 50
    keep: int = 2

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("warmup", 0), ("accumulate", 1), ("seed", 0), ("checkpoint_every", 0),
                          ("keep", 1)):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"TrainConfig({name}={value!r})", expected=f"a whole number from {low}")
        if self.seed >= 1 << 63:
            raise ConfigError(f"TrainConfig(seed={self.seed})", expected="a number below 2**63")
        _within("lr", self.lr, above=0.0)
        _within("eps", self.eps, above=0.0)
        _within("lr_floor", self.lr_floor, above=-1e-300, upto=1.0)
        _within("weight_decay", self.weight_decay, above=-1e-300)
        if self.clip is not None:
            _within("clip", self.clip, above=0.0)
        if len(self.betas) != 2 or not all(isinstance(b, float) and 0 <= b < 1 for b in self.betas):
            raise ConfigError(f"TrainConfig(betas={self.betas!r})", expected="two numbers from 0 to below 1")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = asdict(self)
        plain["betas"] = list(self.betas)
        return plain

    @property
    def fingerprint(self) -> str:
        """xxh3_128 of all that the run's numbers depend on."""
        import xxhash

        return xxhash.xxh3_128_hexdigest(json.dumps(_flat(self.as_dict()), sort_keys=True).encode())

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """What a saved run was told otherwise, of all that its numbers depend on."""
        here, there = _flat(self.as_dict()), _flat(saved)
        return [
            f"{name} {there.get(name)!r}, here {here.get(name)!r}"
            for name in dict.fromkeys((*here, *there))
            if there.get(name) != here.get(name)
        ]


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Without the free fields; the model's shape as `model.width` and so on."""
    kept = {name: value for name, value in plain.items() if name not in FREE}
    shape = kept.pop("model", None)
    return kept | {f"model.{name}": value for name, value in (shape or {}).items()}


def _within(name: str, value: Any, *, above: float, upto: float = math.inf) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not above < value <= upto:
        kind = "above 0" if above == 0.0 else "from 0"
        raise ConfigError(
            f"TrainConfig({name}={value!r})",
            expected=f"a finite number {kind}" + ("" if math.isinf(upto) else f" to {upto:g}"),
        )
