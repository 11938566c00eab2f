"""What a training step will hold, before it does.

    parameters      elements x bytes of their dtype (float32 here, whatever the products are computed in)
    gradients       as many bytes again for what is trained: they are kept in the parameter's dtype
    optimizer       what one step of the same optimizer leaves on parameters without memory (the meta device);
                    for Adam two moments, 8 bytes a float32 parameter: 16 with weight and gradient
                    (ZeRO, arXiv:1910.02054, section 3.1, whose mixed precision keeps 16-bit copies besides)
    activations     what autograd saves in a forward pass of two rows and of four (torch.autograd.graph.
                    saved_tensors_hooks), a line through both; 16-bit copies of the weights are in its constant part
    workspace       the largest of these twice: backward begins with the logits' gradient, made from another one

What enters: a model on its device, its optimizer, a batch. What leaves: bytes by kind. Invariant: nothing is changed:
generators and buffers are put back, no gradient is made; six rows are all that is computed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn

from datapipe.train import random_state
from datapipe.train.layers import repeated_layers
from datapipe.train.micro_batch import first_rows, rows_of
from datapipe.train.precision import autocast

if TYPE_CHECKING:
    from datapipe.train.precision import Precision


@final
@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes of a step.

    Attributes:
        rows: at once. parameters, buffers, gradients, optimizer: whatever the rows.
        activations_fixed, activations_row: saved for backward: once, and for each row.
        largest_row: of the largest single tensor saved, for each row.
    """

    rows: int
    parameters: int
    buffers: int
    gradients: int
    optimizer: int
    activations_fixed: int
    activations_row: int
    largest_row: int

    @property
    def activations(self) -> int:
        """Saved for backward, all rows."""
        return self.activations_fixed + self.rows * self.activations_row

    @property
    def workspace(self) -> int:
        """Of the backward pass, beside what is saved."""
        return 2 * self.rows * self.largest_row

    @property
    def fixed(self) -> int:
        """Whatever the rows."""
        return self.parameters + self.buffers + self.gradients + self.optimizer + self.activations_fixed

    @property
    def total(self) -> int:
        """All of it at once, as when a step's second micro-batch begins its backward pass."""
        return self.fixed + self.rows * (self.activations_row + 2 * self.largest_row)

    def rows_within(self, budget: int) -> int:
        """The most rows at once whose total is within so many bytes; 0: none."""
        of_row = self.activations_row + 2 * self.largest_row
        return max(0, (budget - self.fixed) // of_row) if of_row else self.rows

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        sums = {"activations": self.activations, "workspace": self.workspace, "total": self.total}
        return asdict(self) | sums


def memory_estimate(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    rows: int | None = None,
) -> MemoryEstimate:
    """Estimate a training step; a forward pass of two rows and one of four are computed.

    Args:
        model: with `loss_sum(batch)`, on the device; of a sharded one this rank's part is counted.
        batch: one that it takes, on the device; rows of others have to be like its first four.
        precision: of the products.
        rows: at once; None: the batch's.

    Raises:
        torch.OutOfMemoryError: not even those few rows fit.
    """
    before = random_state.capture(device)
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    total = rows_of(batch)
    few, more = min(2, total), min(4, total)  # one row alone has no variance that BatchNorm could divide by
    low = saved_bytes(model, first_rows(batch, few), device, precision)
    high = saved_bytes(model, first_rows(batch, more), device, precision) if more > few else (0, 0)
    random_state.restore(before, device)
    with torch.no_grad():
        for live, kept in buffers:
            live.copy_(kept)
    if more > few:
        of_row, largest = (max(high[at] - low[at], 0) // (more - few) for at in (0, 1))
    else:  # without a second point all of it is the rows'
        of_row, largest = (low[at] // max(1, few) for at in (0, 1))
    weights = list(model.parameters())
    return MemoryEstimate(
        rows=total if rows is None else rows,
        parameters=sum(_bytes(each) for each in weights),
        buffers=sum(_bytes(each) for each in model.buffers()),
        gradients=sum(_bytes(each) for each in weights if each.requires_grad),
        optimizer=optimizer_bytes(optimizer),
        activations_fixed=max(low[0] - few * of_row, 0),
        activations_row=of_row,
        largest_row=largest,
    )


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What its state takes, or will take after its first step; on this rank.

    What it has is counted. Else one of its kind steps parameters of the same shapes on the meta device, which computes
    shapes alone; where its arithmetic looks at values (ASGD, Adafactor), one parameter after another on the CPU.
    """
    if optimizer.state:
        return _state_bytes(optimizer)
    try:
        return _stepped_bytes(optimizer, [group["params"] for group in optimizer.param_groups], "meta")
    except (RuntimeError, NotImplementedError):
        return sum(
            _stepped_bytes(
                optimizer, [[weight] if at == place else [] for at in range(len(optimizer.param_groups))], "cpu"
            )
            for place, group in enumerate(optimizer.param_groups)
            for weight in group["params"]
        )


def _stepped_bytes(optimizer: torch.optim.Optimizer, weights: list[list[Tensor]], where: str) -> int:
    """Of the state of such an optimizer after one step of these parameters, group by group, with gradients of zero."""
    groups = []
    for group, members in zip(optimizer.param_groups, weights, strict=True):
        twins = [nn.Parameter(torch.zeros_like(_local(weight.detach()), device=where)) for weight in members]
        for twin in twins:
            twin.grad = torch.zeros_like(twin)
        if twins:
            plain = dict.fromkeys({"fused", "foreach", "capturable"} & group.keys(), False)
            groups.append({**group, **plain, "params": twins})
    twin_optimizer: torch.optim.Optimizer = cast("Any", type(optimizer))(groups)
    twin_optimizer.step()
    return _state_bytes(twin_optimizer)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    kept = [value for state in optimizer.state.values() for value in state.values()]
    return sum(_bytes(value) for value in kept if isinstance(value, Tensor))


def saved_bytes(model: nn.Module, batch: Any, device: torch.device, precision: Precision) -> tuple[int, int]:
    """Bytes that a forward pass saves for backward, and of the largest tensor; the model and the batch apart.

    The inputs of the model's repeated layers are among them: with activation checkpointing they are all that stays of a
    layer, and autograd does not see them. The layer that is just computed again comes on top.
    """
    given = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers(), *_tensors(batch))
             if not hasattr(each, "to_local")}  # fmt: skip
    sizes: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = _local(value).untyped_storage()
        if storage.data_ptr() not in given:
            sizes[storage.data_ptr()] = storage.nbytes()
        return value

    held: list[Tensor] = []

    def keep(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        held.extend(pack(value) for value in inputs if isinstance(value, Tensor) and value.requires_grad)

    hooks = [layer.register_forward_pre_hook(keep) for layer in repeated_layers(model)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), autocast(device, precision):
            loss, _ = model.loss_sum(batch)  # type: ignore[operator]  # every Learner has it
    finally:
        for hook in hooks:
            hook.remove()
    del loss
    held.clear()  # until here the graph and the list held them all, so that no two had one address
    return sum(sizes.values()), max(sizes.values(), default=0)


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    return [each for value in batch.values() for each in _tensors(value)] if isinstance(batch, dict) else []


def _local(value: Tensor) -> Tensor:
    local: Tensor = value.to_local() if hasattr(value, "to_local") else value
    return local


def _bytes(value: Tensor) -> int:
    local = _local(value.detach())
    return local.numel() * local.element_size()
