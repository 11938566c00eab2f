"""The parts of a run: its steps by kind, what ran before, between and after them, and what is left of its wall.

What enters: the steps, what ran outside of them, when the run began and ended. What leaves: ns by name; those of a run
from those of its stretches.
Invariant: parts sum to the run, less the time of steps that are missing and what overlapping steps claim twice; parts
of a run in stretches are the sums of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.profiling.intervals import covered, union

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

LEFT_OUT: Final = "stretches left out"
"""The part of a very long run of which only time and number of steps is known."""
_BEFORE, _BETWEEN, _AFTER = " (before)", " (between steps)", " (after)"


def run_parts(
    stages: Sequence[str], start: Ints, end: Ints, by_kind: Mapping[str, int],
    left: Ints, right: Ints, stage: Ints, *,
    began: int, ended: int, missing: Ints, lost_until: int, overlapping: tuple[Ints, Ints],
) -> dict[str, int]:  # fmt: skip
    """The run's parts in order of time; named segments outside steps keep their names.

    The gaps between steps are numbered 0 (before the first) to n (after the last).

    Args:
        stages: stage names by number.
        start, end: int64[n], ns, of the steps.
        by_kind: the steps' time by kind, ns.
        left, right, stage: start, end (ns) and stage of what ran outside of steps.
        began, ended: ns, the run.
        missing: int64[n + 1], steps that are missing before each and after the last.
        lost_until: ns, until when those after the last ran; -1: none is missing there.
        overlapping: starts and ends of steps that begin inside one and end after it.
    """
    import numpy as np

    n = len(start)
    over = union(*overlapping)
    opens, closes = np.append(began, end), np.append(start, ended)
    free = closes - opens - covered(opens, closes, over)
    own = right - left - covered(left, right, over)
    named: list[dict[str, int]] = [{}, {}, {}]
    at = np.searchsorted(start, left, side="right")
    place = np.where(at == 0, 0, np.where(at == n, 2, 1))  # before, between, after the steps
    for number in np.unique(stage).tolist():
        if stages[number] == "epoch":
            continue
        mine = stage == number
        free -= np.rint(np.bincount(at[mine], own[mine], minlength=n + 1)).astype(np.int64)
        for where in np.unique(place[mine]).tolist():
            named[where][stages[number]] = int(own[mine & (place == where)].sum())
    if lost_until >= 0:  # what follows the pass with the lost steps is teardown still
        after = left >= lost_until
        late = int(own[after & (stage != (stages.index("epoch") if "epoch" in stages else -1))].sum())
        free[n] = max(0, ended - lost_until) - late
    free[:n][missing[:n] > 0] = 0

    run: dict[str, int] = {"startup": int(free[0]) + named[0].pop("startup", 0)}
    run |= {f"{name} (before)": ns for name, ns in named[0].items()}
    run |= by_kind
    if len(overlapping[0]):
        run["overlapping steps"] = int((overlapping[1] - overlapping[0]).sum())
    run |= {f"{name} (between steps)": ns for name, ns in named[1].items()}
    run["between steps"] = int(free[1:n].sum())
    run |= {f"{name} (after)": ns for name, ns in named[2].items()}
    run["teardown"] = int(free[n])
    return run


def sum_of_parts(stretches: Sequence[Mapping[str, int]], by_kind: Mapping[str, int], left_out: int) -> dict[str, int]:
    """The parts of a run from those of its stretches, in order of time.

    Args:
        stretches: parts of each that was looked at; what came before the first step of any but the first, or after the
            last of any but the last, was between steps.
        by_kind: the steps' time by kind, ns.
        left_out: ns of the stretches that were not looked at.
    """
    before, between, after = {"startup": 0}, {"between steps": 0}, {"teardown": 0}
    overlapping = 0
    for place, parts in enumerate(stretches):
        for name, ns in parts.items():
            if name == "overlapping steps":
                overlapping += ns
            elif name == "startup" or name.endswith(_BEFORE):
                _add(before if place == 0 else between, name, ns)
            elif name == "teardown" or name.endswith(_AFTER):
                _add(after if place == len(stretches) - 1 else between, name, ns)
            elif name == "between steps" or name.endswith(_BETWEEN):
                _add(between, name, ns)
            elif name in ("evaluate", "checkpoint"):  # of a stretch without steps
                _add(between, name + _BETWEEN, ns)
    run = before | dict(by_kind) | ({"overlapping steps": overlapping} if overlapping else {})
    run |= {name: ns for name, ns in between.items() if name != "between steps"}
    run["between steps"] = between["between steps"]
    if left_out:
        run[LEFT_OUT] = left_out
    run |= {name: ns for name, ns in after.items() if name != "teardown"}
    run["teardown"] = after["teardown"]
    return run


def _add(to: dict[str, int], name: str, ns: int) -> None:
    if "between steps" in to:
        name = "between steps" if name in ("startup", "teardown") else name
        name = name.removesuffix(_BEFORE).removesuffix(_AFTER) + _BETWEEN if name.endswith((_BEFORE, _AFTER)) else name
    to[name] = to.get(name, 0) + ns
