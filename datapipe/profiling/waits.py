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
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    rows: list[dict[str, int]] = [{} for _ in ledger.start]
    later: list[dict[str, int]] = [{} for _ in ledger.start]
    last = -1
    for (start, end, step), batch in zip(ledger.waits.tolist(), batches.tolist(), strict=True):
        for name, ns in _walk(work, start, end, batch, ledger.thread, held).items():
            rows[step][name] = rows[step].get(name, 0) + ns
            if step == last:
                later[step][name] = later[step].get(name, 0) + ns
        last = step
    for row, total in zip(rows, ledger.part("wait").tolist(), strict=True):
        # A phase inside a wait took its time from it: what is left over either way is the loader's.
        rest = total - sum(row.values())
        if rest:
            row[UNSEEN] = row.get(UNSEEN, 0) + rest
    seen = {name for row in rows for name in row}
    known = [name for name in _ORDER if name in seen]
    names = (*known, *sorted(seen - {*known, QUEUE, UNSEEN}), *(n for n in (QUEUE, UNSEEN) if n in seen))
    column = {name: c for c, name in enumerate(names)}
    tables = np.zeros((2, len(rows), len(names)), dtype=np.int64)
    for table, part in zip(tables, (rows, later), strict=True):
        for r, row in enumerate(part):
            for name, value in row.items():
                table[r, column[name]] = value
    return WaitSplit(names, tables[0], tables[1])


def _walk(work: Precedence, begin: int, t: int, batch: int, consumer: int, held: Sequence[Hold]) -> dict[str, int]:
    """Charge `[begin, t)` to stages, walking back from `t`."""
    row: dict[str, int] = {}

    def charge(name: str, since: int) -> int:
        since = max(since, begin)
        if since < t:
            row[name] = row.get(name, 0) + t - since
        return min(t, since)

    i = work.last_of_batch(batch, t) if batch >= 0 else -1
    if i < 0:
        charge(QUEUE if batch >= 0 and t - begin < _BRIEF_NS else UNSEEN, begin)
        return row
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
