"""Pipeline parallelism: each rank holds some of the layers, and a batch's rows go through them in micro-batches.

    embedding, layers 0 …  →  layers …  →  layers …, norm, logits, loss      one stage a rank

What enters: a `GPT`, the ranks of one replica, and batches that are the same on all of them: so only activations go
from rank to rank. What leaves: gradients of the summed loss on each stage's own parameters. Invariant: micro-batches
and stages change rounding alone; the embedding, which is the output layer too, is held by the first stage and by the
last, and has the sum of both gradients on both.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast, final

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  (the name that every PyTorch file gives it)
from torch import Tensor, nn

from datapipe.errors import ConfigError
from datapipe.train.model import GPT, IGNORED, attention_mask, positions, targets
from datapipe.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datapipe.train.layout import Layout
    from datapipe.train.precision import Precision
    from datapipe.train.ranks import Ranks


def take_stage(model: nn.Module, stage: int, stages: int) -> None:
    """Leave a GPT the layers of one stage, under their names; in place.

    Raises:
        ConfigError: it is no GPT, or has fewer layers than there are stages.
    """
    if not isinstance(model, GPT):
        raise ConfigError(
            f"Layout(pipeline={stages}) for a {type(model).__name__}",
            expected="the built-in GPT: it is not known where another model may be cut",
            fix="Layout(shard=…), which takes any model",
        )
    layers = model.config.layers
    if layers < stages:
        raise ConfigError(
            f"{layers} layers over Layout(pipeline={stages})", expected="a layer a stage at least",
            fix=f"pipeline={layers}, or GPTConfig(layers={stages})",
        )  # fmt: skip
    mine = range(stage * layers // stages, (stage + 1) * layers // stages)
    parts = cast("Any", model)
    parts.blocks = nn.ModuleDict({str(layer): model.blocks[layer] for layer in mine})
    if stage not in {0, stages - 1}:
        del parts.embedding
    if stage != stages - 1:
        del parts.norm


@final
class _Stage(nn.Module):
    """What one micro-batch goes through on this rank."""

    def __init__(self, model: GPT, *, first: bool, last: bool, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.first = first
        self.last = last
        self.device = device
        self.precision = precision

    def forward(self, x: Tensor, position_ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Tokens [b, T] on the first stage, else activations [b, T, width] → activations, or float32 logits."""
        with autocast(self.device, self.precision):
            mask = None if segment_ids is None else attention_mask(segment_ids)
            rotation = self.model.rotation(position_ids)
            if self.first:
                x = self.model.embedding(x)
            for block in cast("nn.ModuleDict", self.model.blocks).values():
                x = block(x, rotation, mask)
            if self.last:
                x = F.linear(self.model.norm(x), self.model.embedding.weight)
        # Float32 between the stages, as the residual stream is under autocast.
        return x.float()


@final
class Pipeline:
    """A GPT's stage on this rank, and the schedule that runs it.

    Args:
        model: after `take_stage`, on the device.
    """

    def __init__(
        self, model: nn.Module, layout: Layout, ranks: Ranks, *, device: torch.device, precision: Precision
    ) -> None:
        self._model = cast("GPT", model)
        self._layout = layout
        self._ranks = ranks
        self._device = device
        self._stage, self._stages = ranks.place["pipeline"], ranks.sizes["pipeline"]
        self.first, self.last = self._stage == 0, self._stage == self._stages - 1
        self._group = ranks.group("pipeline")
        self._module = _Stage(self._model, first=self.first, last=self.last, device=device, precision=precision)
        self._ends = self._group_of_ends()
        self._scale = 1.0
        self._shape: tuple[int, ...] = ()
        self._schedule: Any = None

    def learn(self, batch: Mapping[str, Any], scale: Callable[[Tensor], float]) -> tuple[Tensor, Tensor]:
        """Forward and backward of a batch, on every rank of the replica alike.

        Args:
            scale: given the number of targets, what the loss is multiplied by before the backward pass.

        Returns:
            The loss summed over the targets (a scalar, without the factor), and their number (int64); zeros on all
            stages but the last.
        """
        tokens, wanted, inputs = self._cut(batch)
        count = (wanted != IGNORED).sum()
        self._scale = scale(count)
        losses: list[Tensor] = []
        told: dict[str, Any] = {"target": wanted, "losses": losses} if self.last else {}
        schedule = self._schedule_for(tokens)
        if "return_outputs" in inspect.signature(schedule.step).parameters:
            told["return_outputs"] = False  # the logits of all micro-batches at once: nobody wants them
        schedule.step(*([tokens] if self.first else []), **told, **inputs)
        if not self.last:
            return torch.zeros((), device=self._device), torch.zeros_like(count)
        return torch.stack(losses).sum().detach() / self._scale, count

    @torch.no_grad()
    def evaluate(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The same without gradients; the whole batch goes from stage to stage."""
        tokens, wanted, inputs = self._cut(batch)
        x = tokens
        if not self.first:
            x = torch.empty(*tokens.shape, self._model.config.width, device=self._device)
            dist.recv(x, self._neighbour(-1), group=self._group)
        x = self._module(x, **inputs)
        if not self.last:
            dist.send(x, self._neighbour(1), group=self._group)
            return torch.zeros((), device=self._device), torch.zeros((), dtype=torch.int64, device=self._device)
        return self._model.summed_loss(x, wanted), (wanted != IGNORED).sum()

    def finish(self) -> None:
        """After a step's last batch: the first and the last stage add up their gradients of the shared embedding."""
        if self._ends is None:
            return
        weight = self._model.embedding.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        dist.all_reduce(weight.grad, group=self._ends)

    def copies(self, name: str) -> int:
        """Stages that hold the parameter of that name."""
        return 2 if name == "embedding.weight" else 1

    def _cut(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Tokens, targets and what else every stage needs, filled up with rows of padding to whole micro-batches."""
        tokens, segments = self._model.checked(batch)
        wanted = targets(tokens, segments, batch.get("mask"))
        places = batch.get("position_ids") if segments is not None else None
        if places is None:
            places = positions(tokens if segments is None else segments, whole=segments is None)
        rows = len(tokens)
        count = self._microbatches(rows)
        more = count * max(1, -(-rows // count)) - rows
        if more:
            tokens, places = F.pad(tokens, (0, 0, 0, more)), F.pad(places, (0, 0, 0, more))
            wanted = F.pad(wanted, (0, 0, 0, more), value=IGNORED)
            segments = None if segments is None else F.pad(segments, (0, 0, 0, more))
        inputs = {"position_ids": places} | ({} if segments is None else {"segment_ids": segments})
        return tokens, wanted, inputs

    def _microbatches(self, rows: int) -> int:
        if self._layout.microbatches is not None:
            return self._layout.microbatches
        return max(self._stages, min(2 * self._stages, rows))

    def _schedule_for(self, tokens: Tensor) -> Any:
        """The schedule for batches of this shape: the buffers between stages are of fixed shapes."""
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        if self._shape == tokens.shape:
            return self._schedule
        count = self._microbatches(len(tokens))
        rows, length = len(tokens) // count, tokens.shape[1]
        config = self._model.config
        # Examples: shapes, types, and that gradients come back through them.
        between = torch.empty(rows, length, config.width, device="meta", requires_grad=True)
        logits = torch.empty(rows, length, config.vocab_size, device="meta", requires_grad=True)
        stage = PipelineStage(
            self._module, self._stage, self._stages, self._device, group=self._group,
            input_args=torch.empty(rows, length, dtype=torch.int64, device="meta") if self.first else between,
            output_args=logits if self.last else between,
        )  # fmt: skip
        kind = ScheduleGPipe if self._layout.schedule == "gpipe" else Schedule1F1B
        # Not scaled by the micro-batches: the loss is a sum.
        self._schedule = kind(stage, count, loss_fn=self._scaled_loss, scale_grads=False)
        self._shape = tokens.shape
        return self._schedule

    def _scaled_loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        return self._model.summed_loss(logits, wanted) * self._scale

    def _neighbour(self, step: int) -> int:
        return dist.get_global_rank(self._group, self._stage + step)

    def _group_of_ends(self) -> Any:
        """The process group of this replica's first and last stage; None on the stages between."""
        mine = None
        # Every rank takes part in making every group, in one order.
        ranks = torch.zeros(self._ranks.world, dtype=torch.int64)
        ranks[self._ranks.rank] = dist.get_global_rank(self._group, 0) * self._ranks.world + dist.get_global_rank(
            self._group, self._stages - 1
        )
        for pair in sorted(set(self._ranks.summed(ranks).tolist())):
            ends = list(divmod(pair, self._ranks.world))
            group = dist.new_group(ends)
            if self._ranks.rank in ends:
                mine = group
        return mine
