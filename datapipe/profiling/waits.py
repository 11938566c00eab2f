"""What each wait was for: the consumer's wait split by the stage that was on the path.

What enters: the ledger's waits, the loader's spans. What leaves: a table step by stage (ns).
Invariant: each row sums to that step's wait.

A wait is walked back from its end over the work that delivered its batch, last-arriving dependency first. Work of a
stage is charged to that stage, time between dependencies to "queue" (handing over, or waiting for a turn), and what
no span explains to "loader": a foreign loader is one closed box. Where a batch lies ready while a stage holds Python's
lock, that stage is what its consumer waits for.
"""

from __future__ import annotations

from bisect import bisect_left
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
    slow = _overlap(begin, end, held)
    for k in np.flatnonzero(slow & (i >= 0)).tolist():
        row = _walk(work, int(begin[k]), int(end[k]), int(i[k]), ledger.thread, held)
        for name, ns in row.items():
            charges.add(np.array([k]), name, np.array([ns]))
    unknown = np.flatnonzero(i < 0)
    brief = (batches[unknown] >= 0) & (end[unknown] - begin[unknown] < _BRIEF_NS)
    for name, mine in ((QUEUE, unknown[brief]), (UNSEEN, unknown[~brief])):
        charges.add(mine, name, (end - begin)[mine])
    _walk_all(work, begin, end, i, np.flatnonzero(~slow & (i >= 0)), ledger.thread, charges)
    return charges.split(ledger.part("wait"))


@final
class _Charges:
    """Tables step by stage, filled wait by wait."""

    def __init__(self, work: Precedence, holders: Collection[str], steps: int, step: Ints) -> None:
        import numpy as np

        present = np.unique(work.numbers).tolist()
        self._names = list(dict.fromkeys([*(work.stages[i] for i in present), *holders, QUEUE, UNSEEN]))
        self._column = {name: c for c, name in enumerate(self._names)}
        self._of_stage = np.full(len(work.stages) + 1, -1, dtype=np.int64)
        self._of_stage[present] = [self._column[work.stages[i]] for i in present]
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


def _overlap(begin: Ints, end: Ints, held: Sequence[Hold]) -> npt.NDArray[np.bool_]:
    """bool[w]: during which waits the lock was held."""
    import numpy as np

    if not held:
        return np.zeros(len(begin), dtype=bool)
    since, until = np.array([(hold.start, hold.end) for hold in held], dtype=np.int64).T
    last = np.searchsorted(since, end, side="left") - 1
    during: npt.NDArray[np.bool_] = (last >= 0) & (until[last] > begin)
    return during


def _walk_all(
    work: Precedence, begin: Ints, end: Ints, last: Ints, waits: Ints, consumer: int, charges: _Charges
) -> None:
    """`_walk` of many waits at once where nobody held the lock, a hop at a time."""
    import numpy as np

    before, _ = work.enablers()
    begin, t, i = begin[waits], end[waits], last[waits]
    while len(waits):
        for name, back_to in ((QUEUE, work.ends[i]), (work.numbers[i], work.starts[i])):
            since = np.maximum(back_to, begin)
            charges.add(waits, name, t - since)
            t = np.minimum(t, since)
        inline, i = work.threads[i] == consumer, before[i]
        over = (i < 0) | (work.ends[i] <= begin)
        # Nothing else was going on for this batch: its loader ran outside every span.
        blind = over & ((i < 0) | inline)
        for name, mine in ((UNSEEN, blind), (QUEUE, over & ~blind)):
            charges.add(waits[mine], name, (t - begin)[mine])
        go = ~over & (t > begin)
        waits, begin, t, i = waits[go], begin[go], t[go], i[go]


def _walk(work: Precedence, begin: int, t: int, i: int, consumer: int, held: Sequence[Hold]) -> dict[str, int]:
    """Charge `[begin, t)` to stages, walking back from `t` over span `i` that delivered the batch."""
    row: dict[str, int] = {}

    def charge(name: str, since: int) -> int:
        since = max(since, begin)
        if since < t:
            row[name] = row.get(name, 0) + t - since
        return min(t, since)

    inline = False
    while t > begin:
        # It lay ready from here on.
        ready = max(work.end[i], begin)
        place = bisect_left(held, t, key=lambda hold: hold.start) - 1
        while place >= 0 and held[place].end > ready:
            t = charge(QUEUE, held[place].end)
            t = charge(held[place].stage, max(held[place].start, ready))
            place -= 1
        t = charge(QUEUE, work.end[i])
        t = charge(work.stage[i], work.start[i])
        inline = work.thread[i] == consumer
        i, _ = work.enabling(i)
        if i < 0 or work.end[i] <= begin:
            # Nothing else was going on for this batch: its loader ran outside every span.
            t = charge(UNSEEN if i < 0 or inline else QUEUE, begin)
            break
    return row
