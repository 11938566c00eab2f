"""Which rank of how many this process is.

What enters: what the user said, an initialised torch.distributed, or the variables that torchrun sets. What leaves:
(rank, world size). Invariant: 0 ≤ rank < world size; torch is looked at only where the program has imported it.
"""

from __future__ import annotations

import os
import sys
import warnings

from datapipe.errors import ConfigError


def resolve_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size): those given, else torch.distributed's, else RANK and WORLD_SIZE, else (0, 1).

    Raises:
        ConfigError: one is given without the other, or they do not go together.
    """
    if (rank is None) != (world_size is None):
        raise ConfigError(
            f"rank={rank}, world_size={world_size}", expected="both or neither", fix="pass both, or leave both None"
        )
    if rank is None or world_size is None:
        rank, world_size = _surroundings()
    if isinstance(rank, bool) or isinstance(world_size, bool) or not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank}, world_size={world_size}", expected="0 ≤ rank < world_size")
    return rank, world_size


def _surroundings() -> tuple[int, int]:
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size is None:
        return 0, 1
    try:
        return int(rank or ""), int(world_size or "")
    except ValueError:
        raise ConfigError(
            f"RANK={rank!r}, WORLD_SIZE={world_size!r} in the environment",
            expected="two whole numbers, or neither",
            fix="pass rank= and world_size=, or unset both",
        ) from None


def warn_of_repeats(*, placed: bool) -> None:
    """Say so where this is one of several workers of a torch DataLoader: each of them has its own copy of the loader.

    Args:
        placed: the loader was told its rank, and so may well be another in each worker.
    """
    data = getattr(getattr(sys.modules.get("torch"), "utils", None), "data", None)
    worker = None if data is None or placed else data.get_worker_info()
    if worker is not None and worker.num_workers > 1:
        warnings.warn(
            f"this loader is iterated over in each of {worker.num_workers} workers of a torch DataLoader: every batch"
            f" comes {worker.num_workers} times. Iterate over it directly, or give the torch DataLoader num_workers=0.",
            stacklevel=3,
        )
