"""Arguments that other loaders have and this one has not: what stands for each here.

What enters: the names that a call was given. What leaves: a ConfigError that translates them. Invariant: no name is
taken and left without effect.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

_OPENING: Final = "it belongs to datapipe.open_dataset"
_ORDER: Final = "shuffle= and seed= make the order, each rank's part too; datapipe.mix and balance weigh it"
_LEFT_OUT: Final = "leave it out: there is nothing to set"
FOREIGN: Final = {
    "num_workers": 'num_threads=, or nothing; workers="process" for a transform that holds the interpreter lock',
    "collate_fn": "collate= gets a dict of whole columns, not a list of rows; transform= gets the finished batch",
    "drop_last": 'tail="drop" (the default), "partial" for drop_last=False, or "pad"',
    "sampler": _ORDER,
    "batch_sampler": f"{_ORDER}; bucket= makes batches of near lengths",
    "generator": "seed=",
    "shuffle_seed": "seed=",
    "prefetch_factor": "prefetch=, batches made ahead in all",
    "persistent_workers": "leave it out: threads and processes are kept from epoch to epoch",
    "pin_memory_device": 'device="cuda"',
    "num_replicas": "world_size=",
    "num_canonical_nodes": "leave it out: the order is the same on any number of nodes",
    "timeout": _LEFT_OUT,
    "worker_init_fn": _LEFT_OUT,
    "multiprocessing_context": _LEFT_OUT,
    "in_order": "leave it out: batches always come in order",
    "columns": _OPENING,
    "filters": _OPENING,
    "cache": _OPENING,
    "storage_options": _OPENING,
}
"""Of torch.utils.data.DataLoader and DistributedSampler (2.13), streaming's StreamingDataset, and `open_dataset`."""


def translated(init: Callable[P, None]) -> Callable[P, None]:
    """Decorate a constructor: names of `FOREIGN` are refused with what to write instead.

    Any other name that it has not is Python's own TypeError.
    """

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        _refuse(kwargs)
        init(*args, **kwargs)

    return checked


def _refuse(given: dict[str, Any]) -> None:
    found = [name for name in given if name in FOREIGN]
    if found:
        raise ConfigError(
            f"DataLoader takes no {', '.join(found)}",
            expected="the arguments of datapipe.DataLoader",
            fix="; ".join(f"{name}: {FOREIGN[name]}" for name in found),
        )
