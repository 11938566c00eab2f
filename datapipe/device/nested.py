"""Batches within batches: the tensors of any nesting, each replaced, everything else as it was.

What enters: tensors in dicts, mappings, lists, tuples, named tuples and dataclasses, nested at will. What leaves: the
same structure, of the same types, with other tensors; what was given is not changed. Invariant: a tensor that stands in
several places is replaced once, and stands in all of them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence

if TYPE_CHECKING:
    from collections.abc import Callable

    Replace = Callable[[torch.Tensor, str | None], Any]


def replaced(batch: Any, replace: Replace) -> Any:
    """The batch with `replace(tensor, name)` for each tensor; `name` is the nearest key of a mapping around it, if any.

    A loader's own batch, a dict of tensors and lists of strings, takes one pass; what is deeper is walked.
    """
    if type(batch) is dict:
        return {
            name: replace(value, name) if isinstance(value, torch.Tensor) else _walk(value, name, replace)
            for name, value in batch.items()
        }
    return _walk(batch, None, replace)


def _walk(value: Any, name: str | None, replace: Replace) -> Any:
    if isinstance(value, torch.Tensor):
        return replace(value, name)
    if isinstance(value, (str, bytes, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return _mapping(value, name, replace)
    if isinstance(value, PackedSequence):  # torch wants its batch_sizes on the host
        data, sizes, *orders = value
        return PackedSequence(replace(data, name), sizes, *(_walk(each, name, replace) for each in orders))
    # A list of strings is a column of text: looked at once, not walked.
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (str, bytes)):
        parts = [_walk(each, name, replace) for each in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        clone = copy.copy(value)
        for field in dataclasses.fields(value):
            # Frozen ones too: it is a copy of our own that is being made.
            object.__setattr__(clone, field.name, _walk(getattr(value, field.name), field.name, replace))
        return clone
    return value


def _mapping(value: Mapping[Any, Any], name: str | None, replace: Replace) -> Any:
    parts = {key: _walk(each, key if isinstance(key, str) else name, replace) for key, each in value.items()}
    if type(value) is dict:
        return parts
    # Its type may hold more than its items (a default, an encoding): a copy of it with other items keeps that.
    if isinstance(value, MutableMapping):
        clone = copy.copy(value)
        for key, part in parts.items():
            clone[key] = part
        return clone
    try:
        return type(value)(parts)  # type: ignore[call-arg]  # most take a mapping
    except TypeError:
        return parts
