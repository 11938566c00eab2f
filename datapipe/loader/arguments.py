"""Checking the arguments of a loader, once, at the edge.

What enters: what the user wrote. What leaves: values of one type each, or a ConfigError. Invariant: nothing is guessed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.loader.column_collate import column_collate
from datapipe.loader.resources import cpus
from datapipe.loader.stages import MASK
from datapipe.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.sequence import Sequence

TAILS: Final = ("drop", "pad", "partial")
_MOST_THREADS: Final = 4
"""By default: decoding row groups of one loader beyond four cores has yet to be seen to pay."""


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, `least` or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or (least is not None and value < least):
        raise ConfigError(f"{name}={value!r}", expected="a whole number" + ("" if least is None else f" from {least}"))
    return int(value)


def opened(dataset: Any) -> Any:
    """`dataset`, refused where it is still a path, or nothing that was opened at all."""
    if isinstance(dataset, (str, bytes, os.PathLike)):
        raise ConfigError(
            f"the dataset is a path: {mask(os.fsdecode(dataset))}",
            expected="an opened dataset",
            fix="DataLoader(datapipe.open_dataset(path), ...)",
        )
    if not all(hasattr(dataset, name) for name in ("fetch", "index", "fingerprint", "schema")):
        raise ConfigError(
            f"the dataset is a {type(dataset).__module__}.{type(dataset).__qualname__}",
            expected="a dataset of Parquet or Arrow files, opened with datapipe.open_dataset(folder)",
            fix="write it to a folder first: " + _written(dataset),
        )
    return dataset


def _written(dataset: Any) -> str:
    """How a dataset of another library, or a table, becomes Parquet."""
    if hasattr(dataset, "to_parquet"):  # Hugging Face, pandas
        return 'data.to_parquet("folder/part-0.parquet")'
    if hasattr(dataset, "write_parquet"):  # Polars
        return 'data.write_parquet("folder/part-0.parquet")'
    return 'pyarrow.parquet.write_table(table, "folder/part-0.parquet")'


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse anything but the values allowed (True is not 1 here)."""
    if not any(value is each or (isinstance(value, str) and value == each) for each in allowed):
        raise ConfigError(f"{name}={value!r}", expected=", ".join(repr(each) for each in allowed))


def thread_count(value: Any, *, remote: bool = False) -> int:
    """Threads for "auto" or a number; to begin with, where they are tuned. Remote reads wait: they need no CPU each."""
    if isinstance(value, str) and value == "auto":
        return _MOST_THREADS if remote else min(_MOST_THREADS, int(cpus()))
    return whole_number("num_threads", value, 1)


def collate_function(collate: Any, *, padded: bool = False) -> Callable[[dict[str, Any]], Any] | None:
    """The function that finishes a batch: dict of arrays and lists → batch. None: batches are Arrow tables.

    Args:
        padded: whether batches have a mask of the rows that fill up the last one.
    """
    if callable(collate):
        return collate  # type: ignore[no-any-return]  # just checked
    if isinstance(collate, Mapping):
        return column_collate(collate, _to_tensors, (MASK,) if padded else ())
    one_of("collate", collate, ("torch", "numpy", "arrow"))
    if collate == "arrow":
        return None
    return dict if collate == "numpy" else _to_tensors()


def _to_tensors() -> Callable[[dict[str, Any]], dict[str, Any]]:
    try:
        from datapipe.loader.torch_collate import to_tensors
    except ImportError:
        raise ConfigError(
            'collate="torch", and torch is not installed',
            fix='pip install "datapipe-toolkit[train]", or collate="numpy" or "arrow"',
        ) from None
    return to_tensors


def warn_of_no_batch(order: Sequence, rows: int, filter_: object = None) -> None:
    """Say so where a dataset is smaller than one step (one whose filter lets nothing pass has said so)."""
    if not rows and filter_ is None:
        warnings.warn("the dataset has no rows: there will be no batch.", stacklevel=4)
    if rows and order.steady and not order.steps:
        short = "an epoch of the mix has fewer" if order.geometry.parts else "fewer"
        warnings.warn(
            f"the dataset has {rows} rows, {short} than one global batch of {order.global_batch}:"
            f' there will be no batch. Use a smaller batch_size, or tail="pad" or "partial".',
            stacklevel=4,
        )
