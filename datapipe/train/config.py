"""What a run is told, checked once.

What enters: keyword arguments. What leaves: a frozen `TrainConfig`. Invariant: two runs with the same `TrainConfig`,
model and loader on the same device compute the same numbers, however often either was stopped; and every option that
came later has a default that computes what was computed without it.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.train.config_checks import one_of, plain_mapping, whole, within
from datapipe.train.layout import Layout, layout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.train.model import GPTConfig

RESUME: Final = ("auto", "must", "fallback", "fresh")
PRECISIONS: Final = ("auto", "bf16", "fp16", "tf32", "fp32")
ON_SPIKE: Final = ("raise", "skip", "record")
FREE: Final = frozenset(
    {"steps", "device", "checkpoint_every", "checkpoint_lag", "keep", "keep_best", "eval_every", "patience", "skip",
     "peak_flops", "layout", "recompute", "compile"}
)  # fmt: skip
"""May differ when a run goes on: a run may be extended, moved, also to another number of processes, saved more or less
often, and led past a batch."""


@final
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run.

    Attributes:
        steps: optimizer steps of the whole run, across as many epochs as that takes.
        model: the GPT to make; None where `train` is given a model.
        lr: the highest learning rate. warmup: steps of its linear rise. lr_floor: its last value, as a share of `lr`.
        schedule, schedule_options: what it does after the rise: "cosine", "linear", "constant", "wsd", "step", or a
            scheduler of torch ("OneCycleLR"); see `datapipe.train.schedule`.
        optimizer, optimizer_options: a class of torch.optim, in any case of letters, and its own arguments ("sgd" and
            {"momentum": 0.9}); see `datapipe.train.optimizer`.
        weight_decay: of matrices; norms, biases and other vectors have none.
        decay_groups: pattern of parameter names (as of a shell: "blocks.*.norm.*") → its own weight decay; the first
            that matches counts, before the rule above.
        betas, eps: of AdamW (arXiv:1711.05101) and those optimizers of torch that have betas; others keep torch's own.
        clip: the gradient's largest norm; None: not clipped.
        label_smoothing: share of each target that is spread over all classes (arXiv:1512.00567, section 7), while
            training; evaluation has none.
        accumulate: batches per step; the gradient is the mean over all their targets, however unevenly spread.
        micro_batch: rows of a batch that go through the model at once, forward and back; the gradient is still that of
            all. "auto": as many as fit the device, found at the first step by bisection; if memory runs out later, the
            step begins anew with half. None: whole batches, and out of memory ends the run.
        seed: of the weights and of everything random in the model.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        precision: of the matrix products: "auto" (bf16 where the device has it), "bf16", "fp16" (with a loss scale),
            "tf32" (CUDA), "fp32"; see `datapipe.train.precision`.
        layout: the processes that train together, a `Layout` or a mapping of its numbers ({"data": 2, "tensor": 2});
            by default as many replicas as torchrun started. The loader has to be placed accordingly:
            rank=layout.data_rank(), world_size=layout.data_size().
        recompute: activation checkpointing: keep the inputs of the model's layers alone, and compute them again.
        compile: torch.compile the model's layers.
        checkpoint_every: steps between checkpoints; 0: only when the run ends or is stopped.
        checkpoint_lag: steps that may be done while a checkpoint is being written beside them. 1: the next step is
            computed meanwhile and counts once the checkpoint is whole, so that a kill loses an interval at most; each
            more may lose one more. 0: the run waits.
        keep: checkpoints kept, the newest. keep_best: and the one of the lowest loss: the evaluation's where there is
            one (it is then kept always), else the mean of the steps since the checkpoint before.
        eval_every: steps between evaluations on `train(evaluation=…)`; 0: one, after the last step.
        patience: evaluations in a row that may be no better than the best before the run stops; None: it goes on.
        on_spike: what a loss or gradient norm far above those before does, see `datapipe.train.spikes`: "record": a
            line in `spikes.jsonl`, and the step is done; "skip": its update is left out; "raise": the run ends before
            it. One that is no finite number is never applied: "record" raises then too.
        spike_sigma: how far above, in standard deviations. spike_window: steps that these are of.
        skip: step → batches to pass over once that many steps are done: {103: 1} leaves out the first batch of step
            104 (in YAML, whose names are texts: {"103": 1}). Kept in the loader's state.
        peak_flops: of the device, floating point operations a second, for MFU; None: known by the device's name.

    Raises:
        ConfigError: a value is out of its range.
    """

    steps: int
    model: GPTConfig | None = None
    lr: float = 3e-3
    warmup: int = 10
    lr_floor: float = 0.1
    schedule: str = "cosine"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "adamw"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    weight_decay: float = 0.1
    decay_groups: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip: float | None = 1.0
    label_smoothing: float = 0.0
    accumulate: int = 1
    micro_batch: int | Literal["auto"] | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = "auto"
    layout: Layout = field(default_factory=Layout)
    recompute: bool = False
    compile: bool = False
    checkpoint_every: int = 50
    checkpoint_lag: int = 1
    keep: int = 2
    keep_best: bool = False
    eval_every: int = 0
    patience: int | None = None
    on_spike: Literal["raise", "skip", "record"] = "record"
    spike_sigma: float = 6.0
    spike_window: int = 128
    skip: Mapping[int, int] = field(default_factory=dict)
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("warmup", 0), ("accumulate", 1), ("checkpoint_every", 0),
                          ("checkpoint_lag", 0), ("keep", 1), ("eval_every", 0)):  # fmt: skip
            whole(name, getattr(self, name), low)
        whole("spike_window", self.spike_window, 20, 1 << 20)  # it is in each checkpoint, as text
        rows = self.micro_batch
        if rows is not None and rows != "auto" and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise ConfigError(
                f"TrainConfig(micro_batch={rows!r})",
                expected='a whole number from 1, "auto", or None for whole batches',
            )
        whole("seed", self.seed, 0, 1 << 63)
        within("lr", self.lr, above=0.0)
        within("eps", self.eps, above=0.0)
        within("lr_floor", self.lr_floor, above=-1e-300, upto=1.0)
        within("weight_decay", self.weight_decay, above=-1e-300)
        within("label_smoothing", self.label_smoothing, above=-1e-300, upto=1.0)
        within("spike_sigma", self.spike_sigma, above=0.0)
        for name in ("clip", "peak_flops"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), above=0.0)
        if self.patience is not None:
            whole("patience", self.patience, 1)
        one_of("on_spike", self.on_spike, ON_SPIKE)
        if not isinstance(self.keep_best, bool):
            raise ConfigError(f"TrainConfig(keep_best={self.keep_best!r})", expected="true or false")
        one_of("precision", self.precision, PRECISIONS)
        for name in ("recompute", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"TrainConfig({name}={getattr(self, name)!r})", expected="True or False")
        object.__setattr__(self, "layout", layout_of(self.layout))
        self._check_betas()
        self._check_names()

    def _check_betas(self) -> None:
        pair = tuple(self.betas) if isinstance(self.betas, (list, tuple)) else ()
        if len(pair) != 2 or not all(isinstance(b, float) and 0 <= b < 1 for b in pair):
            raise ConfigError(f"TrainConfig(betas={self.betas!r})", expected="two numbers from 0 to below 1")
        object.__setattr__(self, "betas", pair)

    def _check_names(self) -> None:
        """Names and their options; what torch says of them is found out when they are made."""
        for name in ("optimizer", "schedule"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigError(f"TrainConfig({name}={getattr(self, name)!r})", expected="a name")
        for name in ("optimizer_options", "schedule_options", "decay_groups"):
            object.__setattr__(self, name, plain_mapping(name, getattr(self, name)))
        for pattern, decay in self.decay_groups.items():
            within(f"decay_groups[{pattern!r}]", decay, above=-1e-300)
        object.__setattr__(self, "skip", _skips(self.skip))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = asdict(self)
        plain["betas"] = list(self.betas)
        plain["skip"] = {str(step): batches for step, batches in self.skip.items()}
        return plain

    @property
    def fingerprint(self) -> str:
        """xxh3_128 of all that the run's numbers depend on; what is at its default adds nothing, so that it stays."""
        import xxhash

        told = {name: value for name, value in _flat(self.as_dict()).items() if value != _DEFAULTS.get(name)}
        return xxhash.xxh3_128_hexdigest(json.dumps(told, sort_keys=True).encode())

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """What a saved run was told otherwise, of all that its numbers depend on."""
        here, there = _DEFAULTS | _flat(self.as_dict()), _DEFAULTS | _flat(saved)
        return [
            f"{name} {there.get(name)!r}, here {here.get(name)!r}"
            for name in dict.fromkeys((*_flat(self.as_dict()), *there, *here))
            if there.get(name) != here.get(name)
        ]


def _skips(told: Any) -> dict[int, int]:
    """Step → batches, in order of the steps; JSON and YAML may have made the steps texts."""
    try:
        found = {int(step) if isinstance(step, str) else step: batches for step, batches in dict(told).items()}
    except (TypeError, ValueError):
        raise ConfigError(
            f"TrainConfig(skip={told!r})", expected="a mapping of steps to numbers of batches", fix="skip={103: 1}"
        ) from None
    for step, batches in found.items():
        whole("skip: a step", step, 0)
        whole(f"skip[{step}]", batches, 1)
    return dict(sorted(found.items()))


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Without the free fields; the model's shape as `model.width` and so on."""
    kept = {name: value for name, value in plain.items() if name not in FREE}
    shape = kept.pop("model", None)
    return kept | {f"model.{name}": value for name, value in (shape or {}).items()}


def _default(each: Any) -> Any:
    value = each.default_factory() if each.default_factory is not MISSING else each.default
    return list(value) if isinstance(value, tuple) else value


_DEFAULTS: Final = {
    each.name: _default(each) for each in fields(TrainConfig) if each.name not in FREE and each.name != "model"
}
