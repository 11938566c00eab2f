"""What each piece of the loader's work had to wait for: the edges a critical path walks back along.

What enters: the loader's spans. What leaves: for each span the spans that could have held it up, with the time each
let go.
Invariant: every edge points to a span that ended no later than the one it enabled began, so a walk back always ends.

A span can begin when the last of these has happened:
    the item is ready      the stage before it on the same item, or the item named by `cause`, has ended
    the server is free     the span before it on the same thread has ended and its output was accepted (`put`)
    a slot is free         the consumer took a batch (known to `critical_path`, which walks over both)
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE
from datapipe.profiling.intervals import within

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.ledger import Ledger

    Ints = npt.NDArray[np.int64]
    Spans = npt.NDArray[np.void]

BLOCK_STAGES: Final = ("list", "footer", "fetch", "decompress", "decode", "filter")
"""Stages whose item is a block; the item of every other stage is a batch."""
FROM_BLOCKS: Final = ("prepare", "gather")
"""Stages that turn blocks into batches: their item is a batch, their cause a block."""
NOT_LOADER: Final = (
    "step", "wait", "epoch", "forward", "backward", "optimizer", "communication", "checkpoint", "evaluate", "startup",
    "queue",
)  # fmt: skip
"""Not work on an item. A "queue" span only says which batch was handed over; its time is other stages' work."""


def loader_spans(spans: Spans, stages: Sequence[str], ledger: Ledger) -> npt.NDArray[np.bool_]:
    """bool[spans]: which spans are the loader's work on items, on its own threads or inside the consumer's waits."""
    import numpy as np

    other = np.isin(spans["stage"], [i for i, name in enumerate(stages) if name in NOT_LOADER])
    host = spans["flags"] & DEVICE == 0
    mask: npt.NDArray[np.bool_] = ((spans["thread"] != ledger.thread) | ledger.inline) & ~other & host
    return mask


def match_batches(spans: Spans, stages: Sequence[str], ledger: Ledger) -> Ints:
    """The batch each wait was for (int64[w]; -1: not known).

    In order of trust: the wait's own `cause`; the loader's work on a batch on the consumer's thread inside the wait;
    the order of an epoch's batches, shifted as the waits that are known say (a loader that sends ahead to a device is
    waited for some batches further on). What was not ready when its wait ended is not what was waited for.
    """
    import numpy as np

    batch = ledger.awaited.copy()
    blocks = [i for i, name in enumerate(stages) if name in (*BLOCK_STAGES, "h2d")]
    level = (spans["item"] >= 0) & ~np.isin(spans["stage"], blocks)
    here = np.flatnonzero(level & ledger.inline)
    here = here[np.argsort(spans["start"][here], kind="stable")][::-1]  # the first in a wait is written last, and stays
    wait = within(spans["start"][here], spans["end"][here], (ledger.waits[:, 0], ledger.waits[:, 1]))
    here, wait = here[wait >= 0], wait[wait >= 0]
    unsaid = batch[wait] < 0
    batch[wait[unsaid]] = spans["item"][here[unsaid]]

    work = spans[level & loader_spans(spans, stages, ledger)]
    epoch_of = ledger.epoch[ledger.waits[:, 2]]
    for epoch in np.unique(epoch_of[batch < 0]).tolist():
        waits = np.flatnonzero(epoch_of == epoch)
        first, last = ledger.start[ledger.waits[waits[0], 2]], ledger.end[ledger.waits[waits[-1], 2]]
        # A loader that goes on into the next epoch has made its first batches before that epoch began.
        delivered = int(batch[epoch_of < epoch].max(initial=-1))
        ahead = (work["item"] > delivered) & (delivered >= 0)
        mine = work[((work["start"] >= first) | ahead) & (work["start"] <= last)]
        if not len(mine):
            continue
        items, inverse = np.unique(mine["item"], return_inverse=True)
        ready = np.zeros(len(items), dtype=np.int64)
        np.maximum.at(ready, inverse, mine["end"])
        known = np.flatnonzero(batch[waits] >= 0)
        place = np.searchsorted(items, batch[waits[known]])
        shift = int(np.median(place - known)) if len(known) else 0
        wanted = np.arange(len(waits)) + shift
        inside = (wanted >= 0) & (wanted < len(items)) & (batch[waits] < 0)
        waits, wanted = waits[inside], wanted[inside]
        fits = ready[wanted] <= ledger.waits[waits, 1]
        batch[waits[fits]] = items[wanted[fits]]
    return batch


@final
class Precedence:
    """The loader's spans as lists (fast to walk one by one) with their edges; -1 where there is none.

    Args:
        spans: the loader's spans (`loader_spans`).
        stages: stage names by number.
    """

    def __init__(self, spans: Spans, stages: Sequence[str]) -> None:
        import numpy as np

        spans = spans[np.lexsort((spans["end"], spans["start"]))]
        n = len(spans)
        numbers = [i for i, name in enumerate(stages) if name in BLOCK_STAGES]
        block = np.isin(spans["stage"], numbers)
        # A batch's first spans are caused by a block; every other cause is an item of the span's own level.
        cause_block = block | np.isin(spans["stage"], [i for i, name in enumerate(stages) if name in FROM_BLOCKS])
        self.stage: list[str] = [stages[i] for i in spans["stage"].tolist()]
        self.start: list[int] = spans["start"].tolist()
        self.end: list[int] = spans["end"].tolist()
        self.put: list[int] = np.maximum(spans["put"], spans["end"]).tolist()
        self.thread: list[int] = spans["thread"].tolist()
        key = np.where(spans["item"] >= 0, spans["item"] * 2 + block, -1 - np.arange(n))
        self._on_item = _previous(key, spans["end"])
        self._on_thread = _previous(spans["thread"].astype(np.int64), spans["end"])
        last = _last(key, spans["end"])
        wanted = np.where(spans["cause"] >= 0, spans["cause"] * 2 + cause_block, -1)
        self._cause = [last.get(k, -1) if k >= 0 else -1 for k in wanted.tolist()]
        self._last = last

    def last_of_batch(self, batch: int, by: int) -> int:
        """The span that finished a batch no later than `by` (ns), or -1."""
        i = self._last.get(batch * 2, -1)
        return i if i >= 0 and self.end[i] <= by else -1

    def began_within(self, after: int, by: int, *, not_stage: str) -> int:
        """The last span of another stage that began in `(after, by]` (ns), or -1: it took an item, so it made room."""
        i = bisect.bisect_right(self.start, by) - 1
        while i >= 0 and self.start[i] > after:
            if self.stage[i] != not_stage:
                return i
            i -= 1
        return -1

    def input_of(self, i: int) -> int:
        """The span that made the input of span `i` ready, whatever thread that ran on, or -1."""
        ready = [j for j in (self._on_item[i], self._cause[i]) if j >= 0 and self._before(j, i)]
        return max(ready, key=self.end.__getitem__, default=-1)

    def inputs(self) -> Ints:
        """`input_of` of every span, int64[n]."""
        import numpy as np

        start, end = np.array(self.start, dtype=np.int64), np.array(self.end, dtype=np.int64)
        best, when = np.full(len(start), -1, dtype=np.int64), np.full(len(start), -1, dtype=np.int64)
        for made in (np.array(self._on_item, dtype=np.int64), np.array(self._cause, dtype=np.int64)):
            before = (made >= 0) & (end[made] <= start) & (start[made] < end) & (end[made] > when)
            best[before], when[before] = made[before], end[made[before]]
        return best

    def _before(self, j: int, i: int) -> bool:
        """Whether `j` ended by the time `i` began. Spans of no length never point at each other: starts only fall."""
        return self.end[j] <= self.start[i] and self.start[j] < self.end[i]

    def enabling(self, i: int) -> tuple[int, bool]:
        """The span that let span `i` begin last (-1: none known), and whether it did as the thread's previous work."""
        begin = self.start[i]
        best, when, served = -1, -1, False
        for j, server in ((self._on_item[i], False), (self._cause[i], False), (self._on_thread[i], True)):
            if j < 0 or not self._before(j, i):
                continue
            let_go = min(self.put[j], begin) if server else self.end[j]
            if let_go > when:
                best, when, served = j, let_go, server
        return best, served


def _previous(key: Ints, end: Ints) -> list[int]:
    """For each span the one that ended before it among those with its key (-1: none)."""
    import numpy as np

    order = np.lexsort((end, key))
    previous = np.full(len(key), -1, dtype=np.int64)
    same = key[order][1:] == key[order][:-1]
    previous[order[1:][same]] = order[:-1][same]
    listed: list[int] = previous.tolist()
    return listed


def _last(key: Ints, end: Ints) -> dict[int, int]:
    """The span that ended last for each key."""
    import numpy as np

    order = np.lexsort((end, key))
    final_of = np.append(key[order][1:] != key[order][:-1], True) if len(order) else np.empty(0, dtype=bool)
    last = order[final_of]
    return dict(zip(key[last].tolist(), last.tolist(), strict=True))
