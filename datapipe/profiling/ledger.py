"""The step ledger: every nanosecond of every step under a name, and of the run around the steps.

What enters: spans of one process, the run's start and end. What leaves: a table step by part (ns), each step's kind,
the run's parts, and the remainder.
Invariant: a step's parts sum to its wall time ("other", signed, is what no phase covered); the run's parts and the
remainder sum to the run's wall, which was clocked apart. Nothing is clamped. The remainder holds, signed:

- the difference of the two clocks;
- time where steps were lost, seen by their numbers: before a first step whose predecessors are missing, between steps
  with missing ones between, after a last step where a wait tells of another (as it does in a step still running);
- less, what overlapping steps claim more than once.

"startup", "between steps" and "teardown" are what is left of their stretch of the run: nothing else could show there.
Steps without numbers (-1) that are lost cannot be told from time between steps, nor a lost phase from "other".

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
CHECKPOINT: Final = 3
"""A step's kind: steady state, the run's first, the first of a later epoch, one that wrote a checkpoint."""
_LABELS: Final = (
    ("first step", FIRST),
    ("steady steps", STEADY),
    ("first steps of epochs", EPOCH),
    ("steps with a checkpoint", CHECKPOINT),
)
_OFTEN: Final = 0.5
"""Where at least this share of the steps writes one, checkpoints are part of the steady state."""


@final
@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Steps in order of time, n of them, with P parts.

    Attributes:
        thread: the consumer's thread number (-1: no step was recorded).
        number: int64[n], the steps' own numbers.
        start: int64[n], ns, when the batch was asked for.
        end: int64[n], ns, when the next batch was asked for.
        kind: uint8[n], STEADY, FIRST, EPOCH or CHECKPOINT.
        epoch: int64[n], the epoch's place in the run.
        names: the parts' names, P of them; the last is "other".
        ns: int64[n, P], exclusive time of each part; rows sum to `end - start`.
        hidden: int64[n], ns of the wait during which the device was busy.
        run: the run's parts in order of time, ns: startup, steps by kind, phases between steps, teardown.
        remainder: ns, signed: the run's wall minus the sum of `run`.
        missing: steps whose spans were lost, as far as numbers tell.
        overlapping: steps that begin inside one and end after it: no rows of their own, and one part of the run.
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
    missing: int
    overlapping: int
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


def build_ledger(spans: Spans, stages: Sequence[str], *, began: int, ended: int, wall: int) -> Ledger:
    """The ledger of one run.

    Args:
        spans: structured array of `events.FIELDS`, any order.
        stages: stage names by number.
        began: ns, when the run began, on the spans' clock.
        ended: ns, when it ended, on the spans' clock.
        wall: ns, the run's wall time on a clock of its own.
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

    steps, overlapping = _outermost(spans, mine[spans["stage"][mine] == number["step"]])
    if not len(steps):  # all of them are the device's, or inside an evaluation
        return _empty(inline, wall=wall, ran=ended - began, whole=_whole_parts(spans, mine, stages))
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
    missing, after_last = _missing(spans, is_step, number_of, number["wait"], thread)
    if "checkpoint" in names:
        wrote = ns[:, names.index("checkpoint")] > 0
        if wrote.mean() < _OFTEN:
            kind[wrote & (kind == STEADY)] = CHECKPOINT
    if not missing[0]:
        kind[0] = FIRST
    every_wait, awaited = _waits(spans, waits, start, end)
    wait = _first_of_each(every_wait, len(start))
    device = np.flatnonzero(spans["flags"] & DEVICE)
    asleep = covered(every_wait[:, 0], every_wait[:, 1], union(spans["start"][device], spans["end"][device]))
    hidden = np.bincount(every_wait[:, 2], asleep, minlength=len(start)).astype(np.int64)
    run = _run_parts(
        stages, start, end, kind, segments.start[~inside], segments.end[~inside], stage[~inside],
        began=began, ended=ended, missing=missing,
        lost_until=_pass_end(spans, number.get("epoch", -1), after_last, ended) if missing[-1] else -1,
        overlapping=(spans["start"][overlapping].astype(np.int64), spans["end"][overlapping].astype(np.int64)),
    )  # fmt: skip
    return Ledger(
        thread=thread, number=number_of, start=start, end=end, kind=kind, epoch=epoch,
        names=names, ns=ns, hidden=hidden, run=run, remainder=wall - sum(run.values()),
        missing=int(missing.sum()), overlapping=len(overlapping), inline=inline,
        wait=wait, waits=every_wait, awaited=awaited,
    )  # fmt: skip


def _whole_parts(spans: Spans, mine: Ints, stages: Sequence[str]) -> dict[str, int]:
    """Ns of evaluations and checkpoints, in a run that has no steps."""
    import numpy as np

    own = mine[np.isin(spans["stage"][mine], [_number(stages, name) for name in ("evaluate", "checkpoint")])]
    cut = partition(spans["start"][own].astype(np.int64), spans["end"][own].astype(np.int64))
    stage = spans["stage"][own][cut.owner]
    return {stages[i]: int((cut.end - cut.start)[stage == i].sum()) for i in np.unique(stage).tolist()}


def _empty(inline: npt.NDArray[np.bool_], *, wall: int, ran: int, whole: Mapping[str, int] | None = None) -> Ledger:
    import numpy as np

    none = np.empty(0, dtype=np.int64)
    run = {"startup": ran - sum(whole.values()) if whole else ran, **(whole or {})}
    return Ledger(
        thread=-1, number=none, start=none, end=none, kind=none.astype(np.uint8), epoch=none, names=("other",),
        ns=none.reshape(0, 1), hidden=none, run=run, remainder=wall - ran,
        missing=0, overlapping=0, inline=inline,
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


def _outermost(spans: Spans, steps: Ints) -> tuple[Ints, Ints]:
    """Steps in order of time without those that begin inside another (a loop inside a loop); those that outlast it."""
    import numpy as np

    steps = steps[np.lexsort((-spans["end"][steps], spans["start"][steps]))]
    start, end = spans["start"][steps], spans["end"][steps]
    if bool(np.all(start[1:] >= end[:-1])):
        return steps, steps[:0]
    kept, outlast, reach = [], [], -1
    for i, (s, e) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        if s >= reach:
            kept.append(i)
            reach = e
        elif e > reach:
            outlast.append(i)
    return steps[kept], steps[outlast]


def _missing(spans: Spans, is_step: npt.NDArray[np.bool_], number_of: Ints, wait: int, thread: int) -> tuple[Ints, int]:
    """Steps that are missing before each of n and after the last, int64[n + 1]; when the first after it was asked for.

    A step counts as recorded wherever it is: inside another, inside an evaluation, on another thread.
    """
    import numpy as np

    known = np.unique(spans["item"][is_step]).astype(np.int64)
    known = known[known >= 0]
    before = np.append(-1, number_of[:-1])
    between = np.searchsorted(known, number_of) - np.searchsorted(known, before, side="right")
    missing = np.where(number_of > before, number_of - before - 1 - between, 0)
    waits = spans[(spans["stage"] == wait) & (spans["thread"] == thread) & (spans["flags"] & DEVICE == 0)]
    untold = waits[(waits["item"] > max(number_of[-1], -1)) & ~np.isin(waits["item"], known)]
    after = len(np.unique(untold["item"])) if number_of[-1] >= 0 else 0
    return np.append(missing, after), int(untold["start"].min()) if len(untold) else -1


def _pass_end(spans: Spans, epoch: int, at: int, ended: int) -> int:
    """The end of the epoch that holds the time `at`, or of the run."""
    held = spans[(spans["stage"] == epoch) & (spans["start"] <= at) & (spans["end"] >= at)]
    return int(held["end"].min()) if len(held) else ended


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
    began: int, ended: int, missing: Ints, lost_until: int, overlapping: tuple[Ints, Ints],
) -> dict[str, int]:  # fmt: skip
    """The run's parts in order of time; named segments outside steps keep their names.

    The stretches between steps are numbered 0 (before the first) to n (after the last).
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
        late = int(own[after & (stage != _number(stages, "epoch"))].sum())
        free[n] = max(0, ended - lost_until) - late
    free[:n][missing[:n] > 0] = 0

    run: dict[str, int] = {"startup": int(free[0]) + named[0].pop("startup", 0)}
    run |= {f"{name} (before)": ns for name, ns in named[0].items()}
    for label, wanted in _LABELS:
        if bool((kind == wanted).any()):
            run[label] = int((end - start)[kind == wanted].sum())
    if len(overlapping[0]):
        run["overlapping steps"] = int((overlapping[1] - overlapping[0]).sum())
    run |= {f"{name} (between steps)": ns for name, ns in named[1].items()}
    run["between steps"] = int(free[1:n].sum())
    run |= {f"{name} (after)": ns for name, ns in named[2].items()}
    run["teardown"] = int(free[n])
    return run


def _number(stages: Sequence[str], name: str) -> int:
    return stages.index(name) if name in stages else -1
