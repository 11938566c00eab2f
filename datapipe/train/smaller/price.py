"""What each model costs and what it is worth: size, step time, latency and loss, side by side.

What enters: variants of one model, and batches. What leaves: a `Price` each. Invariant: all are measured in turns, in
the same rounds and on the same batches, so that a busy machine makes none look better; weights are left as they were.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast, final

import torch

from datapipe.train.batches import moved
from datapipe.train.evaluation import evaluate
from datapipe.train.kv_cache import KVCache
from datapipe.train.optimizer import make_optimizer
from datapipe.train.precision import autocast, choose_device, choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from datapipe.train.config import TrainConfig
    from datapipe.train.evaluation import EvaluationLoader
    from datapipe.train.model import GPT
    from datapipe.train.precision import Precision
    from datapipe.train.step import Learner

_TOKENS: Final = 16
"""Drawn one by one for the latency of each."""


@final
@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model and where it comes from.

    Attributes:
        model: for inference. trainee: makes what is trained, None where nothing can be.
        file: its export, if there is one.
    """

    name: str
    model: GPT
    trainee: Callable[[], nn.Module] | None
    file: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Price:
    """What a variant costs.

    Attributes:
        parameters: numbers in it. zeros: share of them. bytes: of its tensors.
        trained: numbers with a gradient in training, each with two more in AdamW; 0: it cannot be trained.
        step_ms: forward, backward and update of one batch; None: it cannot be trained.
        first_ms: from a prompt of half a row to the first token. token_ms: each further one, with a cache.
        loss: mean over the evaluated targets, nats.
    """

    name: str
    parameters: int
    zeros: float
    bytes: int
    trained: int
    step_ms: float | None
    first_ms: float
    token_ms: float
    loss: float
    file: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def prices(
    variants: Sequence[Variant],
    config: TrainConfig,
    *,
    batch: Any,
    evaluation: EvaluationLoader,
    rounds: int = 9,
) -> list[Price]:
    """Measure each; times are the lowest of the rounds, after one that is not counted.

    The lowest is what the machine can do: what else runs on it makes a time longer, never shorter (as the standard
    library's `timeit` has it).

    Args:
        config: device, precision and optimizer are its.
        batch: of training. evaluation: rows that the loss is of.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    batch = moved(batch, device)
    steps = [
        None if v.trainee is None else _stepper(v.trainee().to(device), config, batch, precision) for v in variants
    ]
    models = [v.model.to(device).eval() for v in variants]
    times: list[dict[str, list[float]]] = [{"step": [], "first": [], "token": []} for _ in variants]
    for _ in range(rounds + 1):
        for model, step, seen in zip(models, steps, times, strict=True):
            if step is not None:
                seen["step"].append(_ms(step[0], device))
            first, token = _latency(model, batch, device)
            seen["first"].append(first)
            seen["token"].append(token)
    found = []
    for variant, model, step, seen in zip(variants, models, steps, times, strict=True):
        numbers, zeros = _count(model)
        found.append(
            Price(
                name=variant.name, parameters=numbers, zeros=zeros / numbers, bytes=model_bytes(model),
                trained=0 if step is None else step[1],
                step_ms=min(seen["step"][1:]) if step is not None else None,
                first_ms=min(seen["first"][1:]), token_ms=min(seen["token"][1:]),
                loss=evaluate(model, evaluation, device=device, precision=precision).loss, file=variant.file,
            )
        )  # fmt: skip
    return found


def _stepper(
    trainee: nn.Module, config: TrainConfig, batch: Any, precision: Precision
) -> tuple[Callable[[], None], int]:
    """(one training step at rate 0, numbers trained): AdamW at rate 0 does all its work and moves nothing."""
    trainee.train()
    optimizer = make_optimizer(trainee, config)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    learner = cast("Learner", trainee)
    device = next(trainee.parameters()).device

    def step() -> None:
        with autocast(device, precision):
            loss, count = learner.loss_sum(batch)
        (loss / count).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, sum(weight.numel() for weight in trainee.parameters() if weight.requires_grad)


@torch.no_grad()
def _latency(model: GPT, batch: Any, device: torch.device) -> tuple[float, float]:
    """(ms to the first token after a prompt of half a row, ms of each further one), in float32."""
    model.eval()
    row = batch["tokens"][:1].long()
    prompt = row[:, : max(1, row.shape[1] // 2)]
    past = KVCache(model)
    first = _ms(lambda: model(prompt, past=past), device)
    more = max(1, min(_TOKENS, model.config.seq_len - past.length))

    def further() -> None:
        for _ in range(min(more, model.config.seq_len - past.length)):
            model(prompt[:, -1:], past=past)

    return first, _ms(further, device) / more


def _ms(call: Callable[[], Any], device: torch.device) -> float:
    _settle(device)
    began = time.perf_counter_ns()
    call()
    _settle(device)
    return (time.perf_counter_ns() - began) / 1e6


def _settle(device: torch.device) -> None:
    """Wait for what the device was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _count(model: nn.Module) -> tuple[int, int]:
    """(numbers, those that are zero)."""
    weights = list(model.parameters())
    zeros = sum(int((_stored(weight)[0] == 0).sum()) for weight in weights)
    return sum(weight.numel() for weight in weights), zeros


def model_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights as they are held: of int8 ones the bytes and the scales."""
    return sum(part.nbytes for weight in model.parameters() for part in _stored(weight))


def _stored(weight: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors that a weight is made of, its numbers first."""
    flatten = getattr(weight, "__tensor_flatten__", None)
    if flatten is None:
        return [weight.detach()]
    names, _ = flatten()
    parts = [getattr(weight, name) for name in names]
    return [part for part in parts if isinstance(part, torch.Tensor)]
