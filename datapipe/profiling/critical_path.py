"""The run's critical path: which stage, made faster, would shorten the run.

What enters: the ledger (the consumer's steps), the loader's work and its edges. What leaves: ns of the path per
stage.
Invariant: the charges sum to the time walked over: from the end of the last step to the start of the first, without
what lies between steps.

The walk goes back from the end of an epoch's last steady step, always to the dependency that arrived last: from a
step's compute to its batch, from a batch to the work that made it, from work to its input, to its thread's previous
work, or, where a full queue held it up, to whoever made room. A stage's share of this path is its elasticity: the
fraction by which the run shortens per fraction of that stage's time saved. (Naming the busiest or the slowest stage
instead is right far less often: a queue lets a busy stage hide and a slow one be waited for.)
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.lock_waits import LoopWaits
from datapipe.profiling.waits import QUEUE, UNSEEN, WaitSplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.precedence import Precedence

_READY_NS: Final = 100_000
"""A wait shorter than this found its batch ready: thread wake-ups and lock hand-overs take tens of microseconds."""
_PATIENCE: Final = 8
"""Hops without progress before ties are broken."""


def critical_path(
    ledger: Ledger,
    work: Precedence,
    batches: npt.NDArray[np.int64],
    split: WaitSplit,
    locked: LoopWaits | None = None,
    *,
    most: int | None = None,
) -> Mapping[str, int]:
    """Walk the steady part of the run back; ns per stage or part, largest first.

    Args:
        ledger: the steps; in each epoch the walk covers those from the first to the last steady one.
        work: the loader's spans and their edges.
        batches: int64[w], the batch each wait was for (-1: not known).
        split: what each wait was for; short waits, and those of a closed loader, are charged by it.
        locked: what parts of the step waited for the interpreter's lock: where the stage that held it was through with
            its work, the walk goes on there; where it was made to let go, it is charged for the wait.
        most: of each epoch only the last so many steady steps; None: all.
    """
    import numpy as np

    steady = np.flatnonzero(ledger.steady)
    if not len(steady):
        return {}
    walk = _Walk(ledger, work, batches, split, locked or LoopWaits())
    starts = np.flatnonzero(np.diff(ledger.epoch[steady], prepend=-1))  # epochs rise
    for steps in np.split(steady, starts[1:]):
        walk.run(int(steps[-most:][0]) if most else int(steps[0]), int(steps[-1]))
    return dict(sorted(walk.charged.items(), key=lambda item: -item[1]))


@final
class _Walk:
    """The state of one walk: the time reached, and what has been charged."""

    def __init__(
        self,
        ledger: Ledger,
        work: Precedence,
        batches: npt.NDArray[np.int64],
        split: WaitSplit,
        locked: LoopWaits,
    ) -> None:
        import numpy as np

        self._work = work
        batch = np.full(len(ledger.start), -1, dtype=np.int64)
        batch[ledger.waits[::-1, 2]] = batches[::-1]  # of each step's first wait
        self._first = 0
        self._start = ledger.start.tolist()
        self._end = ledger.end.tolist()
        self._floor = self._start[0]
        self._names = ledger.names
        self._ns = ledger.ns
        self._thread = ledger.thread
        self._stages = split.names
        self._first_wait = split.ns - split.later
        self._later_waits = split.later
        # A step that never waited took its batch when it began.
        asked, taken = (np.where(ledger.wait[:, c] >= 0, ledger.wait[:, c], ledger.start) for c in (0, 1))
        self._asked, self._taken = asked.tolist(), taken.tolist()
        # A slot frees as the batch leaves the queue: at once if it lay there, else when it comes.
        self._freed: list[int] = np.where(taken - asked < _READY_NS, asked, taken).tolist()
        self._delivered: list[int] = work.last_of_batches(batch, taken).tolist()
        self.t = self._end[0]
        self.charged: dict[str, int] = {}
        self._holder = locked.holder
        self._locked = locked.ns
        self._let_go = locked.let_go
        held = locked.holder in work.stages and bool(locked.let_go)
        self._holding = {end: i for i, end in enumerate(work.end) if work.stage[i] == locked.holder} if held else {}

    def run(self, first: int, last: int) -> None:
        """Walk from the end of step `last` to the start of step `first`."""
        self.t, self._first, self._floor = self._end[last], first, self._start[first]
        step = last
        while step >= self._first and self.t > self._floor:
            if self.t > self._taken[step]:
                part, through = self._let_go.get(step, ("", -1))
                i = self._holding.get(through, -1) if self._taken[step] < through < self.t else -1
                if i >= 0:  # it could go on as the holder of the lock was through
                    self._charge(part, through)
                    step = self._through_loader(i, step + 1)
                    continue
                self._compute(step)
            step = self._arrival(step)

    def _charge(self, name: str, since: int) -> None:
        since = max(since, self._floor)
        if since < self.t:
            self.charged[name] = self.charged.get(name, 0) + self.t - since
            self.t = since

    def _compute(self, step: int) -> None:
        """The consumer worked from taking the batch to the end of the step: charge its parts."""
        # What lies between steps (an evaluation, a checkpoint) is no part of one.
        self.t = min(self.t, self._end[step])
        for name, ns in zip(self._names, self._ns[step].tolist(), strict=True):
            if name != "wait" and ns > 0:
                lock = int(self._locked[name][step]) if name in self._locked else 0
                self._charge(self._holder, self.t - lock)
                self._charge(name, self.t - (ns - lock))
        for name, ns in zip(self._stages, self._later_waits[step].tolist(), strict=True):
            self._charge(name, max(self.t - ns, self._taken[step]))
        self._charge("other", self._taken[step])

    def _arrival(self, step: int) -> int:
        """The batch of `step` was taken at the time reached: walk to what delivered it; the step to go on from."""
        asked, taken = self._asked[step], self._taken[step]
        i = -1
        if taken - asked >= _READY_NS:
            i = self._delivered[step]
            if i >= 0 and self._work.end[i] < asked:
                i = -1  # it was ready: the hand-over itself was slow
        if i >= 0:
            return self._through_loader(i, step)
        for name, ns in zip(self._stages, self._first_wait[step].tolist(), strict=True):
            self._charge(name, max(self.t - ns, asked))
        self._charge(QUEUE, asked)
        return step - 1

    def _through_loader(self, i: int, step: int) -> int:
        """Walk over the loader's work from span `i` until the consumer is met; the step to go on from."""
        work = self._work
        idle = 0
        while self.t > self._floor:
            before = self.t
            self._charge(QUEUE, work.end[i])
            self._charge(work.stage[i], work.start[i])
            idle = 0 if self.t < before else idle + 1
            if work.thread[i] == self._thread:
                mine = bisect.bisect_right(self._asked, self.t) - 1
                j = work.input_of(i)
                if j < 0 or work.end[j] <= self._asked[mine]:
                    # The consumer did this work itself, as soon as it came to ask for the batch.
                    self._charge(UNSEEN, self._asked[mine])
                    return mine - 1
                i = j
                continue
            j, served = work.enabling(i)
            ready = -1 if j < 0 else (min(work.put[j], work.start[i]) if served else work.end[j])
            k = min(bisect.bisect_right(self._freed, self.t) - 1, step - 1)
            freed = self._freed[k] if k >= 0 else -1
            # The thread's last output was held up: whoever took an item just then let it go on, be it the consumer or a
            # later stage. (Times may tie; a walk that gets nowhere follows the plain order.)
            held = j >= 0 and served and work.put[j] - work.end[j] >= _READY_NS and idle < _PATIENCE
            taker = work.began_within(work.end[j], ready, not_stage=work.stage[j]) if held else -1
            if taker >= 0 and work.start[taker] > freed:
                self._charge(QUEUE, work.start[taker])
                i = taker
            elif k >= 0 and (freed > ready or held):
                self._charge(QUEUE, freed)
                return self._resume(k)
            elif j < 0:
                self._charge(UNSEEN, self._floor)
            else:
                i = j
        return -1

    def _resume(self, step: int) -> int:
        """Go on from the consumer, which took the batch of `step` at about the time reached."""
        if self._asked[step] < self.t:
            return step
        return step - 1
