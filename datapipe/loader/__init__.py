"""The loader: a dataset → batches, in an order that is a pure function, with exact resume.

DataLoader     what a user holds
order          (fingerprint, seed, epoch, lanes, window, batch geometry) → the global sequence of batches
mixture        several datasets in the place of one
sequence       the contract of an order; `units` and `graded` are orders of packed and bucketed rows
schedule       one rank's share of it, and the reads it takes
stages         load → prepare → assemble, run by `inline` or by `executor`'s threads
state          which batch comes next, in a few numbers
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.loader.balanced import balance
    from datapipe.loader.bucket import Bucket
    from datapipe.loader.dataloader import DataLoader
    from datapipe.loader.epoch_plan import EpochPlan, plan_epoch
    from datapipe.loader.geometry import Geometry
    from datapipe.loader.mixture import Mixture, mix
    from datapipe.loader.order import Order
    from datapipe.loader.pack import Pack
    from datapipe.loader.transform import RowKeys

_HOME: Final = {
    "Bucket": "bucket",
    "DataLoader": "dataloader",
    "EpochPlan": "epoch_plan",
    "Geometry": "geometry",
    "Mixture": "mixture",
    "Order": "order",
    "Pack": "pack",
    "RowKeys": "transform",
    "balance": "balanced",
    "mix": "mixture",
    "plan_epoch": "epoch_plan",
}

__all__ = [
    "Bucket",
    "DataLoader",
    "EpochPlan",
    "Geometry",
    "Mixture",
    "Order",
    "Pack",
    "RowKeys",
    "balance",
    "mix",
    "plan_epoch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'datapipe.loader' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"datapipe.loader.{_HOME[name]}"), name)
    globals()[name] = value
    return value
