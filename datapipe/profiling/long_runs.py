"""A long run looked at a stretch at a time: what its stretches come to together.

What enters: a `RawRun` with a `LongRun`. What leaves: the `Whole` that `analysis` summarises.
Invariant: counts, times and the parts of steps and run are the sums of the stretches'; of spans only one stretch is
there at once, and what is kept of a step is its row in the tables. Stretches that were left out are told by their time
and number of steps, and everything a step is made of by those that were not.

The critical path is walked over the last `WALKED` steps of each epoch in a stretch: its shares are those of 60,000
steps spread over a million.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from datapipe.profiling.findings import Findings, Whole, find
from datapipe.profiling.intervals import union, within
from datapipe.profiling.ledger import FIRST, PARTS, WHOLE, Ledger, step_kinds, time_by_kind
from datapipe.profiling.lock_waits import LoopWaits
from datapipe.profiling.nesting import unnested
from datapipe.profiling.phases import KINDS
from datapipe.profiling.queues import LOOP
from datapipe.profiling.run_parts import sum_of_parts
from datapipe.profiling.stages import StageTally
from datapipe.profiling.stretches import on_the_loop
from datapipe.profiling.waits import WaitSplit, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.machine_watch import Watched
    from datapipe.profiling.stretches import LongRun, Loop, Stretch

    Ints = npt.NDArray[np.int64]
    Spans = npt.NDArray[np.void]

WALKED: Final = 1 << 10
N = TypeVar("N", int, float)


def find_long(run: RawRun, long: LongRun) -> Whole:
    """What the stretches of a run tell together.

    Args:
        run: all but the spans.
        long: the spans.
    """
    import numpy as np

    tally, found, some, epochs = StageTally(), [], [], [np.empty(0, dtype=np.int64)]
    follows: int | None = None
    delivered, begun, walked = -1, 0, 0
    left_out = [(each.ended, each.ended - each.began, each.steps) for each in long.stretches if each.data is None]
    tally.add(long.across)
    for began, ended, stretch in _bounds(run, long):
        if stretch is not None and stretch.data is None:
            follows = stretch.number
            begun += stretch.epochs + len(_starts((long.across,), run, long.loop, began, ended))
            delivered = delivered + stretch.steps if delivered >= 0 else -1
            continue
        margin, own = (long.margin, long.newest) if stretch is None else stretch.spans()
        own = unnested(own, run.stages)
        tally.add(own)
        over = _clipped(long.across, long.loop, began, ended)
        piece = replace(
            run, spans=np.concatenate([unnested(margin, run.stages), own, over]), began=began, ended=ended,
            wall=ended - began, watched=_probed(run, began, ended), long=None,
        )  # fmt: skip
        one = find(piece, thread=long.loop.thread, follows=follows, delivered=delivered, walked=WALKED)
        some.append(_beside(piece.spans[len(margin) :], run.stages, long.loop))
        starts = _starts((own, long.across), run, long.loop, began, ended)
        epochs.append(np.maximum(begun + np.searchsorted(starts, one.ledger.start, side="right") - 1, 0))
        found.append(_slim(one, began))
        walked += int(np.minimum(np.unique(one.ledger.epoch[one.ledger.steady], return_counts=True)[1], WALKED).sum())
        follows = max([-1 if follows is None else follows, *one.ledger.number[-1:].tolist()])
        delivered, begun = one.delivered, begun + len(starts)
    kept, count = sum(tally.recorded.values()), long.count
    return Whole(
        found=_together(run, found, np.concatenate(epochs), sum(ns for _, ns, _ in left_out)),
        tally=tally, spans=np.concatenate([long.across, *some]), count=count,
        recorded={thread: round(spans * count / kept) for thread, spans in tally.recorded.items()},
        left_out=tuple(left_out), walked=walked,
    )  # fmt: skip


def _bounds(run: RawRun, long: LongRun) -> Iterator[tuple[int, int, Stretch | None]]:
    """(ns, ns, stretch) of each; None: what follows the last."""
    began = run.began
    for stretch in long.stretches:
        yield began, stretch.ended, stretch
        began = stretch.ended
    yield began, run.ended, None


def _clipped(across: Spans, loop: Loop, began: int, ended: int) -> Spans:
    """What the loop did in several stretches, as much as lies in this one; a step that long is told by those in it."""
    import numpy as np

    mine: Spans = across[(across["start"] < ended) & (across["end"] > began) & (across["stage"] != loop.step)]
    for name in ("get", "start"):
        mine[name] = np.maximum(mine[name], began)
    for name in ("end", "put"):
        mine[name] = np.minimum(mine[name], ended)
    return mine


def _starts(spans: Sequence[Spans], run: RawRun, loop: Loop, began: int, ended: int) -> Ints:
    """When passes of the loop began in a stretch, ns; those of an evaluation are no passes."""
    import numpy as np

    whole = [i for i, name in enumerate(run.stages) if name in WHOLE]
    mine = np.concatenate(
        [each[np.isin(each["stage"], [*whole, loop.epoch]) & on_the_loop(each, loop)] for each in spans]
    )
    hosts = mine[mine["stage"] != loop.epoch]
    passes = mine[(mine["stage"] == loop.epoch) & (mine["start"] >= began) & (mine["start"] < ended)]
    inside = within(passes["start"], passes["end"], union(hosts["start"], hosts["end"])) >= 0
    start: Ints = np.sort(passes["start"][~inside].astype(np.int64))
    return start


def _probed(run: RawRun, began: int, ended: int) -> Watched | None:
    if run.watched is None:
        return None
    return replace(run.watched, probes=tuple(each for each in run.watched.probes if began <= each[0] < ended))


def _beside(spans: Spans, stages: Sequence[str], loop: Loop) -> Spans:
    """What a summary reads off the spans themselves: evaluations and checkpoints, the waits in them, the reads."""
    import numpy as np

    number = {name: i for i, name in enumerate(stages)}
    phase = on_the_loop(spans, loop) & np.isin(spans["stage"], [number.get(name, -1) for name in KINDS])
    chosen = phase | ((spans["stage"] == number.get("fetch", -1)) & (spans["bytes"] > 0))
    if phase.any():
        waits = on_the_loop(spans, loop) & (spans["stage"] == number.get("wait", -1))
        held = union(spans["start"][phase].astype(np.int64), spans["end"][phase].astype(np.int64))
        chosen |= waits & (within(spans["start"], spans["end"], held) >= 0)
    few: Spans = spans[chosen]
    return few


def _slim(found: Findings, began: int) -> Findings:
    """Without what only the walks of its own stretch need; what was handed over before it was so in the one before."""
    import numpy as np

    none = np.empty(0, dtype=np.int64)
    ledger = replace(
        found.ledger,
        epoch=none,
        inline=none.astype(bool),
        wait=none.reshape(0, 2),
        waits=none.reshape(0, 3),
        awaited=none,
    )
    lying = {
        taker: (made[taken >= began], taken[taken >= began]) for taker, (made, taken) in found.lying.items()
    }  # fmt: skip
    split = WaitSplit(found.split.names, found.split.ns.copy(), found.split.later[:0].copy())
    return replace(found, ledger=ledger, lying=lying, split=split, locked=replace(found.locked, let_go={}))


def _together(run: RawRun, found: list[Findings], epoch: Ints, left_out: int) -> Findings:
    """What stretches found, as of one; takes it out of the list as it goes: both at once are the most memory."""
    ledgers, splits = [each.ledger for each in found], [each.split for each in found]
    locked = [each.locked for each in found]
    devices, lying = [each.device for each in found], [dict(each.lying) for each in found]
    path, together = _added([each.path for each in found]), _added([each.together for each in found])
    seen, delivered = any(each.loader_seen for each in found), found[-1].delivered
    found.clear()
    sizes = [len(each.start) for each in ledgers]
    waits = ordered({name for each in splits for name in each.names})
    split = _table(waits, [dict(zip(each.names, each.ns.T, strict=True)) for each in splits], sizes)
    splits.clear()
    strips = _lying(lying)
    device = dict.fromkeys(name for name in (*run.stages, "busy") if any(name in each for each in devices))
    return Findings(
        ledger=_ledger(run, ledgers, sizes, epoch, left_out),
        split=WaitSplit(waits, split, split[:0]),
        locked=_locked(locked, sizes),
        path=dict(sorted(path.items(), key=lambda item: -item[1])),
        device={name: _column([each.get(name) for each in devices], sizes) for name in device},
        lying=strips, together=together, loader_seen=seen, delivered=delivered,
    )  # fmt: skip


def _ledger(run: RawRun, ledgers: list[Ledger], sizes: Sequence[int], epoch: Ints, left_out: int) -> Ledger:
    import numpy as np

    seen = {name for each in ledgers for name in each.names}
    known = [name for name in PARTS if name in seen]
    names = (*known, *(n for n in run.stages if n in seen and n not in (*PARTS, "other")), "other")
    ns = _table(names, [dict(zip(each.names, each.ns.T, strict=True)) for each in ledgers], sizes)
    ledgers[:] = [replace(each, ns=each.ns[:0].copy()) for each in ledgers]
    number, start, end, hidden = (
        np.concatenate([getattr(each, name) for each in ledgers]) for name in ("number", "start", "end", "hidden")
    )
    first = bool(sizes[0]) and int(ledgers[0].kind[0]) == FIRST
    kind = step_kinds(epoch, names, ns, first=first) if len(start) else np.empty(0, dtype=np.uint8)
    parts = sum_of_parts([each.run for each in ledgers], time_by_kind(end - start, kind), left_out)
    return replace(
        ledgers[0], number=number, start=start, end=end, kind=kind, epoch=epoch, names=names, ns=ns, hidden=hidden,
        run=parts, remainder=run.wall - sum(parts.values()),
        missing=sum(each.missing for each in ledgers), overlapping=sum(each.overlapping for each in ledgers),
    )  # fmt: skip


def _table(names: Sequence[str], columns: Sequence[Mapping[str, Ints]], sizes: Sequence[int]) -> Ints:
    """int64[n, names]: rows of stretches, one after the other; 0 in what a stretch has no column for."""
    import numpy as np

    table, at = np.zeros((sum(sizes), len(names)), dtype=np.int64), 0
    for mine, size in zip(columns, sizes, strict=True):
        for c, name in enumerate(names):
            if name in mine:
                table[at : at + size, c] = mine[name]
        at += size
    return table


def _column(columns: Sequence[Ints | None], sizes: Sequence[int]) -> Ints:
    import numpy as np

    zeros = (np.zeros(size, dtype=np.int64) for size in sizes)
    return np.concatenate([zero if mine is None else mine for mine, zero in zip(columns, zeros, strict=True)])


def _added(parts: Sequence[Mapping[str, N]]) -> dict[str, N]:
    found: dict[str, N] = {}
    for each in parts:
        for name, ns in each.items():
            found[name] = found[name] + ns if name in found else ns
    return found


def _locked(waits: Sequence[LoopWaits], sizes: Sequence[int]) -> LoopWaits:
    held: dict[str, int] = {}
    for each in waits:
        if each.holder:
            held[each.holder] = held.get(each.holder, 0) + sum(int(ns.sum()) for ns in each.ns.values())
    if not held:
        return LoopWaits()
    parts = dict.fromkeys(part for each in waits for part in each.ns)
    ns = {part: _column([each.ns.get(part) for each in waits], sizes) for part in parts}
    return LoopWaits(ns=ns, holder=max(held, key=lambda name: held[name]))


def _lying(found: Sequence[dict[tuple[str, bool], tuple[Ints, Ints]]]) -> dict[tuple[str, bool], tuple[Ints, Ints]]:
    """What was handed over, by taker; last the loop. Taken out of what the stretches found."""
    import numpy as np

    takers = dict.fromkeys(taker for each in found for taker in each if taker != (LOOP, False))
    whole = {}
    for taker in (*takers, (LOOP, False)):
        pairs = [each.pop(taker) for each in found if taker in each]
        whole[taker] = np.concatenate([made for made, _ in pairs]), np.concatenate([taken for _, taken in pairs])
    return whole
