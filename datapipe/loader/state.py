"""The loader's state: a few numbers that say which batch comes next, and whether they fit this loader.

What enters: the order's settings and (epoch, position). What leaves: a plain JSON dict, or a StateError that names each
difference. Invariant: nothing of ranks, threads or prefetching is in it, so any rank's state loads on any rank of
any world size with the same global batch; it costs microseconds and does not grow but by what was skipped.

A sequence that is planned as it goes adds a `cursor`, a pure function of the rest: with it nothing before the
position need be planned again, and without it the same batches come.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import StateError
from datapipe.loader.geometry import Geometry
from datapipe.loader.mixing import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VERSION: Final = 2
"""Raised whenever the same settings would give another order."""
_MOST: Final = 1 << 62
"""Epochs, positions and rows of a batch are counted in 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that the order depends on, the dataset apart."""

    global_batch: int
    seed: int
    shuffle: bool
    lanes: int
    window: int
    tail: str
    pack: dict[str, Any] | None = None
    bucket: dict[str, Any] | None = None
    mix: dict[str, Any] | None = None


def make_state(
    fingerprint: str,
    settings: Settings,
    epoch: int,
    position: int,
    *,
    cursor: Sequence[Sequence[int]] | None = None,
    skipped: Sequence[Sequence[int]] = (),
) -> dict[str, Any]:
    """`position` counts the batches of `epoch` that were delivered or skipped.

    Args:
        cursor: see `datapipe.loader.sequence`. skipped: (epoch, first batch, batches) of each time.
    """
    state: dict[str, Any] = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "settings": _plain(settings),
        "epoch": epoch,
        "position": position,
    }
    if cursor is not None:
        state["cursor"] = [list(each) for each in cursor]
    if skipped:
        state["skipped"] = [list(each) for each in skipped]
    return state


def _plain(settings: Settings) -> dict[str, Any]:
    # `asdict` copies deeply, at 20 µs; the two shapes are flat.
    plain = {name: getattr(settings, name) for name in Settings.__annotations__}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}


def read_state(
    state: Mapping[str, Any], fingerprint: str, settings: Settings, *, world_size: int, steps: int | None
) -> tuple[int, int]:
    """(epoch, position) of a state that fits.

    Args:
        steps: batches per epoch of this loader; None: not known without planning it.

    Raises:
        StateError: it is no state, of another version, of another dataset, or of other settings.
    """
    saved = _checked(state)
    faults = []
    fixes = []
    if state["fingerprint"] != fingerprint:
        faults.append(f"dataset {state['fingerprint']}, here {fingerprint}")
        fixes.append("open the dataset that the state was saved with (an appended or rewritten one has another order)")
    for name, here in _plain(settings).items():
        if saved[name] == here:
            continue
        if name == "mix":
            told = differences(saved[name], here)
            faults += [fault for fault, _ in told]
            fixes += [fix for _, fix in told]
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
    if position < 0 or epoch < 0 or (steps is not None and position > steps):
        most = "" if steps is None else f" to {steps}"
        raise StateError(f"the state stands at batch {position} of epoch {epoch}", expected=f"a batch from 0{most}")
    return epoch, position


def saved_geometry(state: Mapping[str, Any]) -> Geometry:
    """The geometry as recorded, for a loader whose own was chosen and not asked for."""
    saved = _checked(state)
    mix = saved["mix"]
    parts = [] if mix is None else _numbers("mix geometry", mix.get("geometry"), None, 2)
    return Geometry(
        lanes=int(saved["lanes"]), window=int(saved["window"]), parts=tuple((lanes, window) for lanes, window in parts)
    )


def geometry_for(
    state: Mapping[str, Any],
    own: Geometry,
    asked: Mapping[str, int | None],
    fingerprint: str,
    can_have: Callable[[Geometry], bool],
) -> Geometry:
    """The geometry to load a state with: nobody having asked for another, the recorded one, whatever defaults became.

    Args:
        own, asked: the loader's, and what its user asked for. fingerprint: of its dataset.
        can_have: whether that dataset can be cut so: the state may be another's, or altered.
    """
    saved = saved_geometry(state)
    if saved.parts or own.parts:  # of another mix it says nothing of this one's sources
        fits = set(asked.values()) == {None} and state["fingerprint"] == fingerprint
    else:
        fits = asked["lanes"] in {None, saved.lanes} and asked["window"] in {None, saved.window}
    return saved if fits and can_have(saved) else own


def saved_batch(state: Mapping[str, Any], world_size: int) -> int:
    """The global batch as recorded, in batches: of each rank one or more, or of several ranks one.

    Raises:
        StateError: so many ranks cannot share it.
    """
    units = int(_checked(state)["global_batch"])
    if units % world_size and world_size % units:
        raise StateError(
            f"a step of the state is {units} batches, which {world_size} ranks cannot share evenly",
            expected=f"a world size that divides {units} or is a multiple of it",
        )
    return units


def saved_cursor(state: Mapping[str, Any], lanes: int) -> list[list[int]] | None:
    """The cursor as recorded, of so many lanes; None where there is none.

    Raises:
        StateError: it is no cursor.
    """
    cursor = state.get("cursor")
    if cursor is None:
        return None
    return _numbers("cursor", cursor, lanes, 2, most=_MOST)


def saved_skips(state: Mapping[str, Any]) -> list[list[int]]:
    """What was skipped, as recorded.

    Raises:
        StateError: it is nothing of the kind.
    """
    skipped = state.get("skipped", [])
    return _numbers("skipped", skipped, len(skipped) if isinstance(skipped, list) else 0, 3)


def saved_quarantine(state: Mapping[str, Any]) -> list[list[int]]:
    """[epoch, block] of each bad row group, as recorded.

    Raises:
        StateError: it is nothing of the kind.
    """
    return _numbers("quarantined", state.get("quarantined", []), None, 2)


def _numbers(name: str, value: Any, rows: int | None, columns: int, *, most: float = math.inf) -> list[list[int]]:
    if (
        isinstance(value, list)
        and len(value) in {rows, len(value) if rows is None else rows}
        and all(isinstance(row, list) and len(row) == columns for row in value)
        and all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < most for row in value for n in row)
    ):
        return [list(row) for row in value]
    expected = f"{'' if rows is None else f'{rows} '}lists of {columns} whole numbers"
    if name == "cursor":
        raise wrong_cursor(value, expected)
    raise StateError(
        f"the state's {name} is {str(value)[:80]}",
        expected=expected,
        fix="load the state as `loader.state_dict()` returned it",
    )


def wrong_cursor(value: Any, expected: str = "where each lane is at the state's position") -> StateError:
    """What is said of a cursor that is none, or leads to another batch than the state's."""
    return StateError(
        f"the state's cursor is {str(value)[:80]}",
        expected=expected,
        fix="leave 'cursor' out of the state: the batches are the same, after some planning",
    )


def _fix(name: str, value: Any, world_size: int) -> str:
    if name in {"pack", "bucket"}:
        if value is None:
            return f"{name}=None"
        given = {option: each for option, each in value.items() if each is not None}
        return f"{name}={name.capitalize()}({', '.join(f'{option}={each!r}' for option, each in given.items())})"
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
            whole = whole and min(numbers[2:]) >= 1 and max(state["epoch"], state["position"], numbers[2]) < _MOST
            whole = whole and all(isinstance(settings.get(k), dict | None) for k in ("pack", "bucket", "mix"))
            known = {field.name: field.default for field in fields(Settings)}
            # Settings that came later are at their defaults in a state from before.
            settings = {**{name: value for name, value in known.items() if value is not MISSING}, **settings}
            if whole and isinstance(state["fingerprint"], str) and set(settings) == set(known):
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
