"""Gradients that lie on several ranks: summed over some of them, measured over all.

What enters: gradients, plain or DTensors. What leaves: the same tensors, summed; or this rank's share of the square of
their norm. Invariant: over all ranks the shares add up to each element's square once, however often it is held.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BUCKET: Final = 32 << 20
"""Bytes reduced at once: DDP's buckets are of 25 MiB (torch.nn.parallel.DistributedDataParallel, bucket_cap_mb)."""


def local_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: itself, or a DTensor's part, sharing its memory."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def sum_over(group: Any, tensors: list[Tensor]) -> None:
    """Sum each tensor over the ranks of a group, in place; they have to be alike in number, shape and type there."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat, group=group)
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def square_of_norm(gradients: Iterable[tuple[Tensor, int]]) -> Tensor:
    """This rank's share of the squared norm of all gradients together, a float64 scalar.

    Args:
        gradients: each with the number of ranks that hold a gradient of that parameter, in whole or in part.
    """
    total: Tensor | None = None
    for grad, holders in gradients:
        placements = getattr(grad, "placements", ())
        mesh: Any = getattr(grad, "device_mesh", None)
        # Not `is_shard`: FSDP cuts what tensor parallelism has cut with a placement of its own kind.
        pieces = math.prod(mesh.size(at) for at, place in enumerate(placements) if not place.is_replicate())
        # An element lies on holders / pieces ranks, each of which adds it.
        norm = torch.linalg.vector_norm(local_part(grad), dtype=torch.float32).double()
        share = norm * norm * (pieces / holders)
        total = share if total is None else total + share
    return torch.zeros((), dtype=torch.float64) if total is None else total
