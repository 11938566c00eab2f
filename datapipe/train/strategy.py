"""How one run's processes learn together: one object that a step asks, whatever the layout.

    data                     DistributedDataParallel: gradients are summed while the backward pass goes on
    shard, data x shard      FSDP2 (`fully_shard`): parameters gathered layer by layer, gradients scattered
    tensor                   `tensor_parallel`
    pipeline                 `pipeline`
    data x tensor, data x pipeline (x tensor)      gradients are summed once a step, after the last batch
    shard x tensor           FSDP2 over what tensor parallelism left on each rank

What enters: a model, alike on every rank after `Strategy` made it so. What leaves: the loss and gradients of all ranks'
batches. Invariant: after `measure` each parameter's gradient is, up to `unit`, that of the loss summed over every
target of the step on every rank, so that one division by their number gives the exact mean, however unevenly
batches, micro-batches and ranks hold them; every rank is told the same numbers.

`model` is the module on this rank. Its `state_dict()` and `named_parameters()` have the names of the single-process
model on every layout, and values with its (global) shapes: tensors, or DTensors where they are sharded; stages of a
pipeline have their part of the names. `torch.distributed.checkpoint` saves and loads those as they are, from any layout
into any other, and so it does what an optimizer made from `model.parameters()` keeps.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn

from datapipe.train.digests import batch_digest
from datapipe.train.gradients import local_part, square_of_norm, sum_over
from datapipe.train.layers import compile_layers, compiling, recompute, repeated_layers
from datapipe.train.loss_scale import LossScale
from datapipe.train.micro_batch import copied, first_rows, rows_of
from datapipe.train.precision import autocast, half

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from datapipe.train.config import TrainConfig
    from datapipe.train.pipeline import Pipeline
    from datapipe.train.precision import Precision
    from datapipe.train.ranks import Ranks


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """A step before its update, the same on every rank.

    Attributes:
        loss_sum: over the targets of all ranks, nats. targets: their number. rows: of all ranks' batches.
        norm_of_sum: of the gradient of `loss_sum`. stop: whether any rank was asked to stop.
    """

    loss_sum: float
    targets: float
    norm_of_sum: float
    rows: int
    stop: bool


@final
class _Loss(nn.Module):
    """A model whose forward is its loss: what DDP and FSDP wrap."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = cast("Any", self.model).loss_sum(batch)
        return found


@final
class Strategy:
    """A model laid out over the ranks, in place and on the device.

    Args:
        model: with `loss_sum(batch)`; after `Strategy` use `self.model`.

    Attributes:
        model: this rank's part. parameters: the number of all ranks' together.
        scaler: of float16; save its `state_dict()`.
        unit: what the numbers in `grad` have to be multiplied by.

    Raises:
        ConfigError: the layout does not fit the model.
    """

    def __init__(
        self, model: nn.Module, config: TrainConfig, ranks: Ranks, *, device: torch.device, precision: Precision
    ) -> None:
        self.ranks = ranks
        self.device = device
        self.precision = precision
        self.scaler = LossScale(enabled=precision == "fp16")
        self.parameters = sum(weight.numel() for weight in model.parameters())
        self.pipeline: Pipeline | None = None
        self._averaged = 1
        self._checked = False
        self._row: Any = None
        sizes = ranks.sizes
        ranks.alike([value.data for value in (*model.parameters(), *model.buffers())])
        if sizes["pipeline"] > 1:
            from datapipe.train.pipeline import take_stage

            take_stage(model, ranks.place["pipeline"], sizes["pipeline"])
        if sizes["shard"] == 1:  # FSDP moves layer by layer: a model that fits no device whole must not be moved whole
            model.to(device)
        if sizes["tensor"] > 1:
            from datapipe.train.tensor_parallel import cut

            cut(model, cast("Any", ranks.mesh)["tensor"])
        if config.recompute:
            recompute(model)
        if config.compile:
            compile_layers(model)
        self.model = model.train()
        self._loss: Any = _Loss(model)
        self._wrapped: Any = self._loss
        self._sums_late = False
        if sizes["shard"] > 1:
            self._shard()
        elif sizes["data"] > 1 and sizes["tensor"] == sizes["pipeline"] == 1:
            self._replicate()
        else:
            self._sums_late = sizes["data"] > 1
        self._weights = list(self.model.named_parameters())  # asked for several times a step
        if sizes["pipeline"] > 1:
            from datapipe.train.pipeline import Pipeline

            self.pipeline = Pipeline(model, config.layout, ranks, device=device, precision=precision)

    def _replicate(self) -> None:
        weights = {name for name, _ in self.model.named_parameters()}
        taken = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        # Only what is saved: the GPT's tables of angles are the same everywhere and for ever. Newer torch renamed it.
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in taken else "broadcast_buffers"
        options: dict[str, Any] = {buffers: bool(set(self.model.state_dict()) - weights)}
        self._wrapped = nn.parallel.DistributedDataParallel(
            self._loss,
            process_group=self.ranks.group("data"),
            gradient_as_bucket_view=True,
            init_sync=False,  # `alike` did
            **options,
        )
        self._wrapped.register_comm_hook(self.ranks.group("data"), _summed_bucket)

    def _shard(self) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        axes = tuple(axis for axis in ("data", "shard") if self.ranks.sizes[axis] > 1)
        mesh = cast("Any", self.ranks.mesh)[axes if len(axes) > 1 else axes[0]]
        # 16-bit parameters are gathered, float32 gradients reduced: weights and optimizer state stay float32.
        policy = MixedPrecisionPolicy(param_dtype=half(self.precision), reduce_dtype=torch.float32)
        for layer in repeated_layers(self.model):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        self._loss = self._wrapped = fully_shard(self._loss, mesh=mesh, mp_policy=policy)
        self.model.to(self.device)
        self._averaged = self.ranks.data_size  # FSDP divides by the ranks that it reduces over

    @property
    def unit(self) -> float:
        """What a number in `grad` has to be multiplied by to be that of the summed loss."""
        return self._averaged / self.scaler.scale

    def learn(
        self, batch: Any, phases: Callable[[str], AbstractContextManager[None]], *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Forward and backward of one micro-batch; gradients add up.

        Args:
            batch: on the device; the same on ranks that differ in `tensor` or `pipeline` alone.
            phases: "forward", "backward" → the context that clocks it; see `datapipe.train.phases`.
            last: of this step: gradients are summed over the ranks from here on.

        Returns:
            The loss summed over this rank's targets (a scalar, detached), and their number (int64 scalar); zeros on
            the stages of a pipeline but the last.

        Raises:
            ConfigError: the first batch shows that ranks of one replica read different ones.
            TrainError: the model refuses the batch, or torch.compile failed.
        """
        if not self._checked:
            self._checked = True
            self.ranks.check_same_batch(batch_digest(batch) if self.ranks.world > self.ranks.data_size else "0")
        if self.pipeline is not None:
            with phases("backward"), compiling():  # micro-batches go forward and back in turn
                return self.pipeline.learn(batch, self._scale_for)
        batch, real = self._with_rows(batch)
        with self._syncing(last=last):
            with phases("forward"), self._numbers(), compiling():
                loss, targets = self._wrapped(batch)
                if not real:
                    loss, targets = loss * 0, targets * 0
            with phases("backward"), compiling():
                (loss * self._scale_for(targets) if self.scaler.enabled else loss).backward()
        return loss.detach(), targets

    def evaluate(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The same without gradients; every rank has to take part, as often as the others.

        The model's mode (`train`, `eval`) is the caller's.
        """
        with torch.no_grad(), compiling():
            if self.pipeline is not None:
                return self.pipeline.evaluate(batch)
            with self._numbers():
                found: tuple[Tensor, Tensor] = self._loss(batch)
                return found

    def totals(self, sums: Tensor) -> Tensor:
        """Sums [n] of what `learn` or `evaluate` gave this rank → those of every rank's batches, each counted once."""
        return self.ranks.summed(sums.double()) / self.ranks.sizes["tensor"]

    def measure(self, loss: Tensor, targets: Tensor, *, rows: int, stop: bool) -> Measured:
        """After a step's last `learn`: gradients are complete, and the host learns what they came to. Waits once.

        Args:
            loss, targets: summed over this rank's micro-batches.
            rows: of those. stop: whether this rank was asked to.
        """
        if self.pipeline is not None:
            self.pipeline.finish()
        weights = [(name, weight) for name, weight in self._weights if weight.grad is not None]
        if self._sums_late:
            sum_over(self.ranks.group("data"), [local_part(cast("Tensor", weight.grad)) for _, weight in weights])
        sizes = self.ranks.sizes
        alike = sizes["tensor"] * sizes["pipeline"]
        if self.ranks.world == 1:
            norm = nn.utils.get_total_norm([cast("Tensor", weight.grad) for _, weight in weights])
            loss_sum, seen, whole = torch.stack([loss.double(), targets.double(), norm.double()]).tolist()
            return Measured(loss_sum=loss_sum, targets=seen, rows=rows, stop=stop, norm_of_sum=whole * self.unit)
        told = torch.tensor([rows / alike, float(stop)], dtype=torch.float64, device=self.device)
        if sizes["shard"] == alike == 1:
            # Every rank has the whole gradient: its norm as torch takes it, and nothing to add up.
            norm = nn.utils.get_total_norm([cast("Tensor", weight.grad) for _, weight in weights])
            square = torch.zeros_like(norm)
        else:
            holders = self.ranks.world // sizes["pipeline"]
            copies = self.pipeline.copies if self.pipeline is not None else lambda _: 1
            square = square_of_norm([(cast("Tensor", w.grad), holders * copies(name)) for name, w in weights])
            square = square.to(self.device)  # of no gradient at all it is on the CPU
            norm = torch.zeros_like(square)
        sums = torch.stack([loss.double() / sizes["tensor"], targets.double() / sizes["tensor"], square.double()])
        sums = self.ranks.summed(torch.cat([sums, told]))
        loss_sum, seen, of_all, all_rows, stops, whole = torch.cat([sums, norm.double().reshape(1)]).tolist()
        return Measured(
            loss_sum=loss_sum, targets=round(seen), rows=round(all_rows), stop=stops > 0,
            norm_of_sum=(whole or of_all**0.5) * self.unit,
        )  # fmt: skip

    def overflowed(self, found: Measured) -> bool:
        """Whether a gradient is not finite because float16's loss scale is too high: to be dropped, and no fault."""
        scaler, of_scale = self.scaler, math.isfinite(found.loss_sum) and not math.isfinite(found.norm_of_sum)
        return scaler.enabled and of_scale and not scaler.exhausted

    def gradients(self) -> list[Tensor]:
        """This rank's gradients, to be scaled in place."""
        return [local_part(weight.grad) for _, weight in self._weights if weight.grad is not None]

    def _with_rows(self, batch: Any) -> tuple[Any, bool]:
        """The batch, or where it has no row (an epoch's end leaves some rank none) one row seen before; and which.

        A rank has to take part in what the others do with theirs, and DTensors choose other layouts for what is empty:
        its share is computed on a row that it knows, and counts nothing.
        """
        if self.ranks.world == 1:
            return batch, True
        if rows_of(batch):
            if self._row is None:
                self._row = copied(first_rows(batch, 1))  # the loader may use its memory again
            return batch, True
        return (batch, True) if self._row is None else (self._row, False)

    def _scale_for(self, targets: Tensor) -> float:
        if not self.scaler.begun:
            # The most of any rank's first micro-batch would do; the sum is what `ranks` can give.
            self.scaler.begin(int(self.ranks.summed(targets.clone()).item()) // self.ranks.world)
        return self.scaler.scale

    def _numbers(self) -> AbstractContextManager[Any]:
        """Autocast; FSDP's policy takes its place."""
        return contextlib.nullcontext() if self.ranks.sizes["shard"] > 1 else autocast(self.device, self.precision)

    def _syncing(self, *, last: bool) -> AbstractContextManager[Any]:
        """Whether this micro-batch's backward pass reduces gradients over the ranks."""
        if self.ranks.sizes["shard"] > 1:
            self._wrapped.set_requires_gradient_sync(last)
        elif self._wrapped is not self._loss and not last:
            waiting: AbstractContextManager[Any] = self._wrapped.no_sync()
            return waiting
        return contextlib.nullcontext()


def _summed_bucket(group: Any, bucket: Any) -> Any:
    """DDP's hook: the plain sum over the ranks; its own divides by their number, and so rounds."""
    work: Any = torch.distributed.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


# DDP compares the annotations with the classes themselves, and here they are texts.
_summed_bucket.__annotations__ = {}
