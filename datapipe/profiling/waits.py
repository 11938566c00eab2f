"""What each wait was for: the consumer's wait split by the stage that was on the path.

What enters: the ledger's waits, the loader's spans. What leaves: a table step by stage (ns).
Invariant: each row sums to that step's wait.

A wait is walked back from its end over the work that delivered its batch, last-arriving dependency first. Work of a
stage is charged to that stage, time between dependencies to "queue" (handing over, or waiting for a turn), and what
no span explains to "loader": a foreign loader is one closed box. Where a batch lies ready while a stage holds Python's
lock, that stage is what its consumer waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.precedence import Precedence

    Ints = npt.NDArray[np.int64]

QUEUE: Final = "queue"
UNSEEN: Final = "loader"
_BRIEF_NS: Final = 20_000
"""Waits shorter than this are a hand-over (a lock, a wake-up): nothing was waited for."""
_ORDER: Final = (
    "list",
    "footer",
    "fetch",
    "decompress",
    "decode",
    "filter",
    "prepare",
    "gather",
    "worker start",
    "dataset",
    "transform",
    "collate",
    "pin",
    "h2d",
)


class Hold(NamedTuple):
    """A stage held Python's lock from `start` to `end`, ns."""

    start: int
    end: int
    stage: str


class WaitSplit(NamedTuple):
    """`names`: S stages; `ns`: int64[n, S], rows sum to each step's wait; `later`: of it, all but the first wait."""

    names: tuple[str, ...]
    ns: Ints
    later: Ints


def split_waits(ledger: Ledger, work: Precedence, batches: Ints, held: Sequence[Hold] = ()) -> WaitSplit:
    """Split every step's wait by stage.

    Args:
        ledger: the steps.
        work: the loader's spans and their edges.
        batches: int64[w], the batch each wait was for (-1: not known).
        held: when Python's lock was held, in order; they do not overlap.
    """
    import numpy as np

    begin, end, step = ledger.waits[:, 0], ledger.waits[:, 1], ledger.waits[:, 2]
    i = work.last_of_batches(batches, end)
    charges = _Charges(work, {hold.stage for hold in held}, len(ledger.start), step)
    unknown = np.flatnonzero(i < 0)
    brief = (batches[unknown] >= 0) & (end[unknown] - begin[unknown] < _BRIEF_NS)
    for name, mine in ((QUEUE, unknown[brief]), (UNSEEN, unknown[~brief])):
        charges.add(mine, name, (end - begin)[mine])
    _walk(work, ledger, i, held, charges)
    return charges.split(ledger.part("wait"))


@final
class _Charges:
    """Tables step by stage, filled wait by wait."""

    def __init__(self, work: Precedence, holders: Collection[str], steps: int, step: Ints) -> None:
        import numpy as np

        present = np.unique(work.numbers).tolist()
        self._names = list(dict.fromkeys([*(work.stages[i] for i in present), *holders, QUEUE, UNSEEN]))
        self._column = {name: c for c, name in enumerate(self._names)}
        self._of_stage = np.array([self._column.get(name, -1) for name in work.stages], dtype=np.int64)
        self._step = step
        self._later = np.diff(step, prepend=-1) == 0  # waits of a step after its first
        self._ns = np.zeros((2, steps, len(self._names)), dtype=np.int64)
        self._seen: set[int] = set()

    def add(self, waits: Ints, stage: str | Ints, ns: Ints) -> None:
        """Charge waits, each for a stage (its name, or one number a wait); what is not above 0 is nothing."""
        import numpy as np

        some = ns > 0
        waits, ns = waits[some], ns[some]
        column = np.full(len(waits), self._column[stage]) if isinstance(stage, str) else self._of_stage[stage[some]]
        self._seen |= set(np.unique(column).tolist())
        np.add.at(self._ns[0], (self._step[waits], column), ns)
        late = self._later[waits]
        np.add.at(self._ns[1], (self._step[waits[late]], column[late]), ns[late])

    def split(self, total: Ints) -> WaitSplit:
        """The split of waits that come to `total` a step."""
        # A phase inside a wait took its time from it: what is left over either way is the loader's.
        rest = total - self._ns[0].sum(axis=1)
        self._ns[0][:, self._column[UNSEEN]] += rest
        seen = {self._names[c] for c in self._seen} | ({UNSEEN} if rest.any() else set())
        names = ordered(seen)
        return WaitSplit(names, *self._ns[:, :, [self._column[name] for name in names]])


def ordered(seen: Collection[str]) -> tuple[str, ...]:
    """Names of a split in the order of a pipeline."""
    known = [name for name in _ORDER if name in seen]
    return (*known, *sorted(set(seen) - {*known, QUEUE, UNSEEN}), *(n for n in (QUEUE, UNSEEN) if n in seen))


def _walk(work: Precedence, ledger: Ledger, last: Ints, held: Sequence[Hold], charges: _Charges) -> None:
    """Walk back from the end of each wait, over the span that delivered its batch (-1: not known), all by hops."""
    import numpy as np

    before, _ = work.enablers()
    since, until = np.array([(hold.start, hold.end) for hold in held], dtype=np.int64).reshape(-1, 2).T
    holder = np.array([work.stages.index(hold.stage) for hold in held], dtype=np.int64)
    waits = np.flatnonzero(last >= 0)
    begin, t, i = ledger.waits[waits, 0], ledger.waits[waits, 1], last[waits]

    def back(mine: Ints, stage: str | Ints, to: Ints) -> None:
        to = np.maximum(to, begin[mine])
        charges.add(waits[mine], stage, t[mine] - to)
        t[mine] = np.minimum(t[mine], to)

    while len(waits):
        every = np.arange(len(waits))
        # It lay ready from here on.
        ready = np.maximum(work.ends[i], begin)
        place = np.searchsorted(since, t, side="left") - 1
        mine = every
        while len(mine := mine[(place[mine] >= 0) & (until[place[mine]] > ready[mine])] if len(since) else mine[:0]):
            back(mine, QUEUE, until[place[mine]])
            back(mine, holder[place[mine]], np.maximum(since[place[mine]], ready[mine]))
            place[mine] -= 1
        back(every, QUEUE, work.ends[i])
        back(every, work.numbers[i], work.starts[i])
        inline, i = work.threads[i] == ledger.thread, before[i]
        over = (i < 0) | (work.ends[i] <= begin)
        # Nothing else was going on for this batch: its loader ran outside every span.
        blind = over & ((i < 0) | inline)
        back(np.flatnonzero(blind), UNSEEN, begin[blind])
        back(np.flatnonzero(over & ~blind), QUEUE, begin[over & ~blind])
        go = ~over & (t > begin)
        waits, begin, t, i = waits[go], begin[go], t[go], i[go]
