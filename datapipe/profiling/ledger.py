"""The step ledger: every nanosecond of every step under a name, and of the run around the steps.

What enters: spans of one process, the run's start and end. What leaves: a table step by part (ns), each step's kind,
the run's parts, and the remainder.
Invariant: a step's parts sum to its wall time ("other", signed, is what no phase covered); the run's parts and the
remainder sum to the run's wall, which was clocked apart. Nothing is clamped: overlapping steps or lost spans show
as a remainder.

Names are exclusive: a phase inside a phase takes its time from the outer one. "evaluate", "checkpoint" and "startup"
are whole: what runs inside them (steps and waits too) counts as them. An "epoch" span, written by whoever owns
the loop, holds one pass over the data; its own time is what its steps leave over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE
from datapipe.profiling.intervals import covered, partition, union, within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Spans = npt.NDArray[np.void]

PARTS: Final = ("wait", "h2d", "forward", "backward", "optimizer", "communication", "checkpoint", "evaluate")
"""A step's parts that everybody names alike; the user's own phases and "other" follow them."""
WHOLE: Final = ("checkpoint", "evaluate", "startup")
STEADY: Final = 0
FIRST: Final = 1
EPOCH: Final = 2
"""A step's kind: steady state, the run's first step, the first step of a later epoch."""


@final
@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Steps in order of time, n of them, with P parts.

    Attributes:
        thread: the consumer's thread number (-1: no step was recorded).
        number: int64[n], the steps' own numbers.
        start: int64[n], ns, when the batch was asked for.
        end: int64[n], ns, when the next batch was asked for.
        kind: uint8[n], STEADY, FIRST or EPOCH.
        epoch: int64[n], the epoch's place in the run.
        names: the parts' names, P of them; the last is "other".
        ns: int64[n, P], exclusive time of each part; rows sum to `end - start`.
        hidden: int64[n], ns of the wait during which the device was busy.
        run: the run's parts in order of time, ns: startup, steps by kind, phases between steps, teardown.
        remainder: ns, signed: the run's wall minus the sum of `run`.
        inline: bool[spans], which spans ran on the consumer's thread inside a wait: the loader's own work.
        wait: int64[n, 2], ns, start and end of each step's first wait (-1: none).
        waits: int64[w, 3], every wait: start, end (ns) and step; several a step where gradients are accumulated.
        awaited: int64[w], the item each wait was for (-1: not said).
    """

    thread: int
    number: Ints
    start: Ints
    end: Ints
    kind: npt.NDArray[np.uint8]
    epoch: Ints
    names: tuple[str, ...]
    ns: Ints
    hidden: Ints
    run: Mapping[str, int]
    remainder: int
    inline: npt.NDArray[np.bool_]
    wait: Ints
    waits: Ints
    awaited: Ints

    @property
    def steady(self) -> npt.NDArray[np.bool_]:
        """bool[n]: the steps that say how the run goes; all of them where there is no other."""
        mask: npt.NDArray[np.bool_] = self.kind == STEADY
        return mask if mask.any() else ~mask

    def part(self, name: str) -> Ints:
        """int64[n], ns; zeros for a part that never occurred."""
        import numpy as np

        return self.ns[:, self.names.index(name)] if name in self.names else np.zeros(len(self.start), np.int64)


def build_ledger(
    spans: Spans, stages: Sequence[str], *, began: int, ended: int, wall: int, lost: bool = False
) -> Ledger:
    """The ledger of one run.

    Args:
        spans: structured array of `events.FIELDS`, any order.
        stages: stage names by number.
        began: ns, when the run began, on the spans' clock.
        ended: ns, when it ended, on the spans' clock.
        wall: ns, the run's wall time on a clock of its own.
        lost: spans of the consumer's thread were overwritten: time before a first step that is not number 0, and
            time between steps whose numbers jump, is "not recorded".
    """
    import numpy as np

    number = {name: i for i, name in enumerate(stages)}
    is_step = spans["stage"] == number.get("step", -1)
    inline = np.zeros(len(spans), dtype=bool)
    if not is_step.any():
        return _empty(inline, wall=wall, ran=ended - began)
    thread = int(np.bincount(spans["thread"][is_step]).argmax())
    mine = np.flatnonzero((spans["thread"] == thread) & (spans["flags"] & DEVICE == 0))

    mine = _drop_inside_whole(spans, mine, [number[n] for n in WHOLE if n in number])
    waits = mine[spans["stage"][mine] == number["wait"]]
    wait_union = union(spans["start"][waits], spans["end"][waits])
    loader_work = (within(spans["start"][mine], spans["end"][mine], wait_union) >= 0) & (
        spans["stage"][mine] != number["wait"]
    )
    # A wait may itself be the whole of a step or an epoch; those are no work of the loader's.
    for name in ("step", "epoch"):
        loader_work &= spans["stage"][mine] != number.get(name, -1)
    inline[mine[loader_work]] = True
    mine = mine[~loader_work]

    steps = _outermost(spans, mine[spans["stage"][mine] == number["step"]])
    others = mine[spans["stage"][mine] != number["step"]]
    mine = np.concatenate([steps, others])
    start, end = spans["start"][steps].astype(np.int64), spans["end"][steps].astype(np.int64)

    segments = partition(spans["start"][mine].astype(np.int64), spans["end"][mine].astype(np.int64))
    length = segments.end - segments.start
    stage = spans["stage"][mine][segments.owner].astype(np.int64)
    step_of = within(segments.start, segments.end, (start, end))

    names = _part_names(stages, stage[step_of >= 0])
    column = np.full(len(stages), len(names) - 1, dtype=np.int64)
    for c, name in enumerate(names[:-1]):
        column[number[name]] = c
    inside = step_of >= 0
    cells = np.bincount(
        step_of[inside] * len(names) + column[stage[inside]], length[inside], minlength=len(start) * len(names)
    )
    ns = np.rint(cells).astype(np.int64).reshape(len(start), len(names))
    ns[:, -1] = (end - start) - ns[:, :-1].sum(axis=1)

    epoch = _epochs(spans, mine[spans["stage"][mine] == number.get("epoch", -1)], start)
    kind = np.where(np.diff(epoch, prepend=epoch[0]) != 0, EPOCH, STEADY).astype(np.uint8)
    number_of = spans["item"][steps].astype(np.int64)
    headless = lost and number_of[0] > 0
    if not headless:
        kind[0] = FIRST
    every_wait, awaited = _waits(spans, waits, start, end)
    wait = _first_of_each(every_wait, len(start))
    device = np.flatnonzero(spans["flags"] & DEVICE)
    asleep = covered(every_wait[:, 0], every_wait[:, 1], union(spans["start"][device], spans["end"][device]))
    hidden = np.bincount(every_wait[:, 2], asleep, minlength=len(start)).astype(np.int64)
    run = _run_parts(
        stages, start, end, kind, segments.start[~inside], segments.end[~inside], stage[~inside],
        began=began, ended=ended, headless=headless, holes=lost & (np.diff(number_of) > 1),
    )  # fmt: skip
    return Ledger(
        thread=thread, number=number_of, start=start, end=end, kind=kind, epoch=epoch,
        names=names, ns=ns, hidden=hidden, run=run, remainder=wall - sum(run.values()), inline=inline,
        wait=wait, waits=every_wait, awaited=awaited,
    )  # fmt: skip


def _empty(inline: npt.NDArray[np.bool_], *, wall: int, ran: int) -> Ledger:
    import numpy as np

    none = np.empty(0, dtype=np.int64)
    return Ledger(
        thread=-1, number=none, start=none, end=none, kind=none.astype(np.uint8), epoch=none, names=("other",),
        ns=none.reshape(0, 1), hidden=none, run={"startup": ran}, remainder=wall - ran, inline=inline,
        wait=none.reshape(0, 2), waits=none.reshape(0, 3), awaited=none,
    )  # fmt: skip


def _drop_inside_whole(spans: Spans, mine: Ints, whole: Sequence[int]) -> Ints:
    """Leave out what runs inside a phase that counts as a whole."""
    import numpy as np

    hosts = mine[np.isin(spans["stage"][mine], whole)]
    outer = union(spans["start"][hosts], spans["end"][hosts])
    held = within(spans["start"][mine], spans["end"][mine], outer) >= 0
    held[np.isin(mine, hosts)] = False
    return mine[~held]


def _outermost(spans: Spans, steps: Ints) -> Ints:
    """Steps in order of time, without those that begin inside another (a loop inside a loop)."""
    import numpy as np

    steps = steps[np.lexsort((-spans["end"][steps], spans["start"][steps]))]
    start, end = spans["start"][steps], spans["end"][steps]
    if bool(np.all(start[1:] >= end[:-1])):
        return steps
    kept, reach = [], -1
    for i, (s, e) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        if s >= reach:
            kept.append(i)
            reach = e
    return steps[kept]


def _part_names(stages: Sequence[str], seen: Ints) -> tuple[str, ...]:
    import numpy as np

    present = [stages[i] for i in np.unique(seen).tolist()]
    known = [name for name in PARTS if name in present]
    own = [name for name in present if name not in (*PARTS, "step", "epoch", "other")]
    return (*known, *own, "other")


def _epochs(spans: Spans, epochs: Ints, start: Ints) -> Ints:
    """The place of each step's epoch in the run; steps outside every epoch span go with the one before."""
    import numpy as np

    begin = np.sort(spans["start"][epochs].astype(np.int64))
    place: Ints = np.maximum(np.searchsorted(begin, start, side="right") - 1, 0)
    return place


def _waits(spans: Spans, waits: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Every wait inside a step as (start, end, step), int64[w, 3], in order of time; its item, int64[w]."""
    import numpy as np

    waits = waits[np.argsort(spans["start"][waits], kind="stable")]
    step = within(spans["start"][waits], spans["end"][waits], (start, end))
    waits, step = waits[step >= 0], step[step >= 0]
    table = np.stack([spans["start"][waits], spans["end"][waits], step], axis=1).astype(np.int64)
    # A wait inside another is part of it.
    reach = np.maximum.accumulate(np.append(np.iinfo(np.int64).min, table[:, 1]))[:-1]
    own = table[:, 0] >= reach
    return table[own], spans["cause"][waits][own].astype(np.int64)


def _first_of_each(waits: Ints, n: int) -> Ints:
    """Each step's first wait, int64[n, 2]; -1 for a step without."""
    import numpy as np

    first = np.full((n, 2), -1, dtype=np.int64)
    first[waits[::-1, 2]] = waits[::-1, :2]  # the first is written last, and stays
    return first


def _run_parts(
    stages: Sequence[str], start: Ints, end: Ints, kind: npt.NDArray[np.uint8],
    left: Ints, right: Ints, stage: Ints, *,
    began: int, ended: int, headless: bool, holes: npt.NDArray[np.bool_],
) -> dict[str, int]:  # fmt: skip
    """The run's parts in order of time; named segments outside steps keep their names."""
    import numpy as np

    length = end - start
    where = np.where(left < start[0], 0, np.where(left >= end[-1], 2, 1))  # before, between, after the steps
    gaps = np.maximum(start[1:] - end[:-1], 0)
    total = (int(start[0]) - began, int(gaps.sum()), ended - int(end[-1]))
    named: list[dict[str, int]] = [{}, {}, {}]
    for place in (0, 1, 2):
        here = where == place
        for number in np.unique(stage[here]).tolist():
            if stages[number] != "epoch":
                ns = int((right - left)[here & (stage == number)].sum())
                named[place][stages[number]] = named[place].get(stages[number], 0) + ns
    before = "not recorded" if headless else "startup"
    run: dict[str, int] = {before: total[0] - sum(ns for name, ns in named[0].items() if name != "startup")}
    run |= {f"{name} (before)": ns for name, ns in named[0].items() if name != "startup"}
    for label, wanted in (("first step", FIRST), ("steady steps", STEADY), ("first steps of epochs", EPOCH)):
        if bool((kind == wanted).any()):
            run[label] = int(length[kind == wanted].sum())
    run |= {f"{name} (between steps)": ns for name, ns in named[1].items()}
    hole = int(gaps[holes].sum())
    if hole:
        run["not recorded"] = run.get("not recorded", 0) + hole
    run["between steps"] = total[1] - sum(named[1].values()) - hole
    run |= {f"{name} (after)": ns for name, ns in named[2].items()}
    run["teardown"] = total[2] - sum(named[2].values())
    return run
