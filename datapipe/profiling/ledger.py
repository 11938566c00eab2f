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
from datapipe.profiling.run_parts import run_parts

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


def build_ledger(
    spans: Spans, stages: Sequence[str], *, began: int, ended: int, wall: int,
    thread: int | None = None, follows: int | None = None,
) -> Ledger:  # fmt: skip
    """The ledger of one run, or of a stretch of one.

    Args:
        spans: structured array of `events.FIELDS`, any order.
        stages: stage names by number.
        began: ns, when the run began, on the spans' clock.
        ended: ns, when it ended, on the spans' clock.
        wall: ns, the run's wall time on a clock of its own.
        thread: the consumer's; None: the one with the most steps.
        follows: the number of the last step before this stretch, -1 for one without; None: the run begins here.
    """
    import numpy as np

    number = {name: i for i, name in enumerate(stages)}
    is_step = spans["stage"] == number.get("step", -1)
    inline = np.zeros(len(spans), dtype=bool)
    stretch = thread is not None
    if thread is None:
        if not is_step.any():
            return _empty(inline, wall=wall, ran=ended - began)
        thread = int(np.bincount(spans["thread"][is_step]).argmax())
    mine, waits, loader_work = _on_the_loop(spans, number, thread)
    inline[loader_work] = True
    steps, overlapping = _outermost(spans, mine[is_step[mine]])
    if not len(steps):  # all of them are the device's, or inside an evaluation
        whole = _whole_parts(spans, mine, stages)
        return _empty(inline, wall=wall, ran=ended - began, whole=whole, thread=thread if stretch else -1)
    mine = np.concatenate([steps, mine[~is_step[mine]]])
    start, end = spans["start"][steps].astype(np.int64), spans["end"][steps].astype(np.int64)
    names, ns, outside = _table(spans, mine, stages, start, end)
    epoch = _epochs(spans, mine[spans["stage"][mine] == number.get("epoch", -1)], start)
    number_of = spans["item"][steps].astype(np.int64)
    wait_stage = number.get("wait", -1)
    missing, after_last = _missing(spans, is_step, number_of, wait_stage, thread, -1 if follows is None else follows)
    every_wait, awaited = _waits(spans, waits, start, end)
    device = np.flatnonzero(spans["flags"] & DEVICE)
    asleep = covered(every_wait[:, 0], every_wait[:, 1], union(spans["start"][device], spans["end"][device]))
    kind = step_kinds(epoch, names, ns, first=follows is None and not missing[0])
    run = run_parts(
        stages, start, end, time_by_kind(end - start, kind), *outside,
        began=began, ended=ended, missing=missing,
        lost_until=_pass_end(spans, number.get("epoch", -1), after_last, ended) if missing[-1] else -1,
        overlapping=(spans["start"][overlapping].astype(np.int64), spans["end"][overlapping].astype(np.int64)),
    )  # fmt: skip
    return Ledger(
        thread=thread, number=number_of, start=start, end=end, kind=kind, epoch=epoch, names=names, ns=ns,
        hidden=np.bincount(every_wait[:, 2], asleep, minlength=len(start)).astype(np.int64),
        run=run, remainder=wall - sum(run.values()),
        missing=int(missing.sum()), overlapping=len(overlapping), inline=inline,
        wait=_first_of_each(every_wait, len(start)), waits=every_wait, awaited=awaited,
    )  # fmt: skip


def step_kinds(epoch: Ints, names: Sequence[str], ns: Ints, *, first: bool) -> npt.NDArray[np.uint8]:
    """Each step's kind, uint8[n].

    Args:
        epoch: int64[n], the epoch's place in the run.
        names: the parts' names, P of them.
        ns: int64[n, P], time of each part.
        first: whether the first step is the run's first.
    """
    import numpy as np

    kind = np.where(np.diff(epoch, prepend=epoch[0]) != 0, EPOCH, STEADY).astype(np.uint8)
    if "checkpoint" in names:
        wrote = ns[:, names.index("checkpoint")] > 0
        if wrote.mean() < _OFTEN:
            kind[wrote & (kind == STEADY)] = CHECKPOINT
    if first:
        kind[0] = FIRST
    return kind


def time_by_kind(ns: Ints, kind: npt.NDArray[np.uint8]) -> dict[str, int]:
    """The run's parts that are steps: the time of those of each kind that occurs.

    Args:
        ns: int64[n], time of each step.
        kind: uint8[n].
    """
    return {label: int(ns[kind == wanted].sum()) for label, wanted in _LABELS if bool((kind == wanted).any())}


def _on_the_loop(spans: Spans, number: Mapping[str, int], thread: int) -> tuple[Ints, Ints, Ints]:
    """Which spans are the loop's own; which of them are waits; which are the loader's, done inside a wait."""
    import numpy as np

    mine = np.flatnonzero((spans["thread"] == thread) & (spans["flags"] & DEVICE == 0))
    mine = _drop_inside_whole(spans, mine, [number[n] for n in WHOLE if n in number])
    stage = spans["stage"][mine]
    waits = mine[stage == number.get("wait", -1)]
    wait_union = union(spans["start"][waits], spans["end"][waits])
    inside = within(spans["start"][mine], spans["end"][mine], wait_union) >= 0
    # A wait may itself be the whole of a step or an epoch; those are no work of the loader's.
    inside &= ~np.isin(stage, [number.get(name, -1) for name in ("wait", "step", "epoch")])
    return mine[~inside], waits, mine[inside]


def _table(
    spans: Spans, mine: Ints, stages: Sequence[str], start: Ints, end: Ints
) -> tuple[tuple[str, ...], Ints, tuple[Ints, Ints, Ints]]:
    """The parts' names; the steps' times by part, int64[n, P]; start, end and stage of what lies outside of steps."""
    import numpy as np

    segments = partition(spans["start"][mine].astype(np.int64), spans["end"][mine].astype(np.int64))
    stage = spans["stage"][mine][segments.owner].astype(np.int64)
    step_of = within(segments.start, segments.end, (start, end))
    inside = step_of >= 0
    names = _part_names(stages, stage[inside])
    column = np.full(len(stages), len(names) - 1, dtype=np.int64)
    for c, name in enumerate(names[:-1]):
        column[stages.index(name)] = c
    cells = np.bincount(
        step_of[inside] * len(names) + column[stage[inside]],
        (segments.end - segments.start)[inside],
        minlength=len(start) * len(names),
    )
    ns = np.rint(cells).astype(np.int64).reshape(len(start), len(names))
    ns[:, -1] = (end - start) - ns[:, :-1].sum(axis=1)
    return names, ns, (segments.start[~inside], segments.end[~inside], stage[~inside])


def _whole_parts(spans: Spans, mine: Ints, stages: Sequence[str]) -> dict[str, int]:
    """Ns of evaluations and checkpoints, in a run that has no steps."""
    import numpy as np

    own = mine[np.isin(spans["stage"][mine], [_number(stages, name) for name in ("evaluate", "checkpoint")])]
    cut = partition(spans["start"][own].astype(np.int64), spans["end"][own].astype(np.int64))
    stage = spans["stage"][own][cut.owner]
    return {stages[i]: int((cut.end - cut.start)[stage == i].sum()) for i in np.unique(stage).tolist()}


def _empty(
    inline: npt.NDArray[np.bool_], *, wall: int, ran: int, whole: Mapping[str, int] | None = None, thread: int = -1
) -> Ledger:
    import numpy as np

    none = np.empty(0, dtype=np.int64)
    run = {"startup": ran - sum(whole.values()) if whole else ran, **(whole or {})}
    return Ledger(
        thread=thread, number=none, start=none, end=none, kind=none.astype(np.uint8), epoch=none, names=("other",),
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


def _missing(
    spans: Spans, is_step: npt.NDArray[np.bool_], number_of: Ints, wait: int, thread: int, follows: int
) -> tuple[Ints, int]:
    """Steps that are missing before each of n and after the last, int64[n + 1]; when the first after it was asked for.

    A step counts as recorded wherever it is: inside another, inside an evaluation, on another thread.
    """
    import numpy as np

    known = np.unique(spans["item"][is_step]).astype(np.int64)
    known = known[known >= 0]
    before = np.append(follows, number_of[:-1])
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


def _number(stages: Sequence[str], name: str) -> int:
    return stages.index(name) if name in stages else -1
