"""The loader's state: a few numbers that say which batch comes next, and whether they fit this loader.

What enters: the order's settings and (epoch, position). What leaves: a plain JSON dict, or a StateError that names each
difference. Invariant: nothing of ranks, threads or prefetching is in it, so any rank's state loads on any rank of
any world size with the same global batch; it costs microseconds and does not grow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
"""Raised whenever the same settings would give another order."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that the order depends on, the dataset apart."""

    global_batch: int
    seed: int
    shuffle: bool
    lanes: int
    window: int
    tail: str


def make_state(fingerprint: str, settings: Settings, epoch: int, position: int) -> dict[str, Any]:
    """`position` counts the batches of `epoch` that were delivered."""
    return {
        "version": VERSION,
        "fingerprint": fingerprint,
        "settings": asdict(settings),
        "epoch": epoch,
        "position": position,
    }


def read_state(
    state: Mapping[str, Any], fingerprint: str, settings: Settings, *, world_size: int, steps: int
) -> tuple[int, int]:
    """(epoch, position) of a state that fits.

    Args:
        steps: batches per epoch of this loader.

    Raises:
        StateError: it is no state, of another version, of another dataset, or of other settings.
    """
    saved = _checked(state)
    faults = []
    fixes = []
    if state["fingerprint"] != fingerprint:
        faults.append(f"dataset {state['fingerprint']}, here {fingerprint}")
        fixes.append("open the dataset that the state was saved with (an appended or rewritten one has another order)")
    for name, here in asdict(settings).items():
        if saved[name] == here:
            continue
        faults.append(f"{name} {saved[name]!r}, here {here!r}")
        fixes.append(_fix(name, saved[name], world_size))
    if faults:
        raise StateError(
            "the state does not fit this loader: " + "; ".join(faults),
            expected="the same dataset and the same order",
            fix="; ".join(dict.fromkeys(fixes)),
        )
    epoch, position = int(state["epoch"]), int(state["position"])
    if not 0 <= position <= steps or epoch < 0:
        raise StateError(
            f"the state stands at batch {position} of epoch {epoch}", expected=f"a batch from 0 to {steps}"
        )
    return epoch, position


def saved_geometry(state: Mapping[str, Any]) -> tuple[int, int]:
    """(lanes, window) as recorded, for a loader whose own were chosen and not asked for."""
    saved = _checked(state)
    return int(saved["lanes"]), int(saved["window"])


def _fix(name: str, value: Any, world_size: int) -> str:
    if name != "global_batch":
        return f"{name}={value!r}"
    if isinstance(value, int) and value % world_size == 0:
        return f"batch_size={value // world_size} (global batch {value} over {world_size} ranks)"
    return f"a world size that divides {value} (here it is {world_size}), with batch_size = {value} / world_size"


def _checked(state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        version = state["version"]
        if version == VERSION:
            settings = dict(state["settings"])
            numbers = [state["epoch"], state["position"], *(settings[k] for k in ("global_batch", "lanes", "window"))]
            whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
            if whole and isinstance(state["fingerprint"], str) and set(settings) == set(Settings.__annotations__):
                return settings
    except (KeyError, TypeError, ValueError):
        raise StateError(
            f"not a loader state: {str(state)[:120]}", expected="what `loader.state_dict()` returned"
        ) from None
    if version != VERSION:
        raise StateError(
            f"a state of version {version!r}",
            expected=f"version {VERSION}",
            fix="resume with the datapipe version that saved it, or begin the epoch anew",
        )
    raise StateError(f"not a loader state: {str(state)[:120]}", expected="what `loader.state_dict()` returned")
