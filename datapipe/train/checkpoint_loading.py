"""Out of a checkpoint into a model and its optimizer, on however many ranks.

What enters: a checked `Checkpoint`, and a model laid out in any way. What leaves: the same model and optimizer, filled.
Invariant: every rank reads the part of each tensor that it holds and no more, whatever layout wrote it; names, shapes
and dtypes are compared before a number is changed.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import load

from datapipe.errors import CheckpointError, DatapipeError
from datapipe.train.checkpoint_index import DTYPES
from datapipe.train.checkpoint_storage import SafetensorsReader
from datapipe.train.model import GPT, group_rows
from datapipe.train.model_state import empty_optimizer_state, model_state, put_optimizer_state, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from datapipe.train.checkpoint import Checkpoint

T = TypeVar("T")


def load_model(point: Checkpoint, model: nn.Module) -> None:
    """Put the weights into a model of the same shape.

    Raises:
        CheckpointError: it is of another shape.
    """
    saved = {name: entry for name, entry in point.state["tensors"].items() if name.startswith("model/")}
    into = model_state(model, known=saved)
    faults = [f"no {name}" for name in into if name not in saved]
    # Of a pipeline, a rank has a part of the model.
    faults += [] if dist.is_initialized() else [f"{name} is unknown" for name in saved if name not in into]
    there = {name: (saved[name]["dtype"], tuple(saved[name]["shape"])) for name in into if name in saved}
    here = {name: (str(value.dtype).removeprefix("torch."), tuple(value.shape)) for name, value in into.items()}
    faults += [
        f"{name} {told[0]} {told[1]}, here {here[name][0]} {here[name][1]}"
        for name, told in there.items()
        if told != here[name]
    ]
    if faults:
        raise CheckpointError(
            f"{point.path} is of another model: {'; '.join(faults[:4]).replace('model/', '')}",
            expected="the model that was saved",
            fix="make the model as state.json's config says, or train into another folder",
        )
    _fill(point, into)
    _group_rows(point, model, into)


def load_optimizer(point: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the optimizer's state back; the model has been loaded, so its names are the checkpoint's.

    A parameter of which the checkpoint has no state begins without, as one does that no gradient has reached.

    Raises:
        CheckpointError: it has the state of a parameter that is not trained here.
    """
    room = empty_optimizer_state(model, optimizer, point.state["tensors"], DTYPES)
    strange = {name for name in point.state["tensors"] if name.startswith("optimizer/")} - room.keys()
    if strange and not dist.is_initialized():
        raise CheckpointError(
            f"{point.path} holds the optimizer's state of {', '.join(sorted(strange)[:3])}, which is not trained here",
            expected="the same trainable parameters",
            fix='requires_grad as it was, or begin anew with resume="fresh"',
        )
    _fill(point, room)
    _group_rows(point, model, room)
    put_optimizer_state(model, optimizer, room)


@contextlib.contextmanager
def as_saved(point: Checkpoint) -> Iterator[None]:
    """While what a checkpoint says beside its tensors is read: what is not there, or no such thing, is its fault."""
    try:
        yield
    except DatapipeError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{point.path}: its state is none of a run ({error!r})",
            expected="what a run saves",
            fix='resume="fallback" to go on from the checkpoint before',
        ) from error


def on_first(group: dist.ProcessGroup | None, work: Callable[[], T]) -> T:
    """Do it on the first rank alone; every rank gets what it returned, or raises what it raised.

    Args:
        group: of all ranks, on the CPU; None: there is one process.
    """
    if group is None:
        return work()
    box: list[Any] = [None]
    if dist.get_rank(group) == 0:
        try:
            box = [(True, work())]
        except DatapipeError as error:
            box = [(False, error)]
    dist.broadcast_object_list(box, src=dist.get_global_rank(group, 0), group=group)
    done, value = box[0]
    if not done:
        raise value
    found: T = value
    return found


def in_our_words(error: BaseException, doing: str) -> DatapipeError:
    """What torch raises for the ranks' faults, as ours: the first rank's that is one of ours, else of any."""
    faults = (
        [fault for _, (fault, _) in sorted(error.failures.items())] if isinstance(error, CheckpointException) else []
    )
    ours = next((fault for fault in faults if isinstance(fault, DatapipeError)), None)
    if ours is not None:
        return ours
    said = "; ".join(f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}" for fault in faults or [error])
    return CheckpointError(f"{doing}: {said}", fix="see the rank's own error above; earlier checkpoints are intact")


def quiet_without_ranks() -> None:
    """Have torch not warn that there is one process; for good: the thread that writes could not take a filter back."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _fill(point: Checkpoint, into: Mapping[str, Tensor]) -> None:
    # Each rank by itself: a rank's fault would otherwise be told to all in pickles, and none needs another.
    quiet_without_ranks()
    try:
        load(
            dict(into),
            storage_reader=SafetensorsReader(point.path, point.state["tensors"]),
            planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            no_dist=True,
        )
    except CheckpointException as error:
        raise in_our_words(error, f"{point.path} cannot be loaded") from error


def _group_rows(point: Checkpoint, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Version 1 had the rows of the GPT's fused layers part by part; they lie group by group since."""
    inner = unwrapped(model)
    if point.state["version"] != 1 or not isinstance(inner, GPT):
        return
    fused = {".attention.qkv.weight": (3, inner.config.heads), ".ffn.up.weight": (2, inner.config.ffn_groups)}
    for name, value in tensors.items():
        for layer, (parts, groups) in fused.items():
            if layer not in name or value.ndim < 2:
                continue
            if hasattr(value, "to_local"):
                raise CheckpointError(
                    f"{point.path}: version 1, for a model cut over several ranks",
                    expected="version 2",
                    fix="go on in one process until its next checkpoint",
                )
            with torch.no_grad():
                value.copy_(group_rows(value, parts, groups))
