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
from functools import cached_property
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


def match_batches(spans: Spans, stages: Sequence[str], ledger: Ledger, *, delivered: int = -1) -> Ints:
    """The batch each wait was for (int64[w]; -1: not known).

    In order of trust: the wait's own `cause`; the loader's work on a batch on the consumer's thread inside the wait;
    the order of an epoch's batches, shifted as the waits that are known say (a loader that sends ahead to a device is
    waited for some batches further on). What was not ready when its wait ended is not what was waited for.

    `delivered`: the last batch that was taken before these spans begin, -1 where none is known.
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
        before = int(batch[epoch_of < epoch].max(initial=delivered))
        ahead = (work["item"] > before) & (before >= 0)
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
    """The loader's spans with their edges; -1 where there is none.

    Args:
        spans: the loader's spans (`loader_spans`).
        stages: stage names by number.

    Attributes:
        starts, ends, puts, threads: int64[n], by start.
        numbers: int64[n], the stages' numbers.
        stage, start, end, put, thread: the same as lists, which are faster to walk one by one, made when asked for.
    """

    def __init__(self, spans: Spans, stages: Sequence[str]) -> None:
        import numpy as np

        spans = spans[np.lexsort((spans["end"], spans["start"]))]
        n = len(spans)
        numbers = [i for i, name in enumerate(stages) if name in BLOCK_STAGES]
        block = np.isin(spans["stage"], numbers)
        # A batch's first spans are caused by a block; every other cause is an item of the span's own level.
        cause_block = block | np.isin(spans["stage"], [i for i, name in enumerate(stages) if name in FROM_BLOCKS])
        self.stages = tuple(stages)
        self.numbers: Ints = spans["stage"].astype(np.int64)
        self.starts: Ints = spans["start"].astype(np.int64)
        self.ends: Ints = spans["end"].astype(np.int64)
        self.puts: Ints = np.maximum(self.ends, spans["put"])
        self.threads: Ints = spans["thread"].astype(np.int64)
        key = np.where(spans["item"] >= 0, spans["item"] * 2 + block, -1 - np.arange(n))
        self._item_before, (self._keys, self._last) = _previous(key, self.ends), _last(key, self.ends)
        self._thread_before = _previous(self.threads, self.ends)
        self._caused = self._last_with(np.where(spans["cause"] >= 0, spans["cause"] * 2 + cause_block, -1))

    @cached_property
    def stage(self) -> list[str]:
        """Names of the stages."""
        return [self.stages[i] for i in self.numbers.tolist()]

    @cached_property
    def start(self) -> list[int]:
        """Ns."""
        listed: list[int] = self.starts.tolist()
        return listed

    @cached_property
    def end(self) -> list[int]:
        """Ns."""
        listed: list[int] = self.ends.tolist()
        return listed

    @cached_property
    def put(self) -> list[int]:
        """Ns, when the output was accepted."""
        listed: list[int] = self.puts.tolist()
        return listed

    @cached_property
    def thread(self) -> list[int]:
        """Numbers of the threads."""
        listed: list[int] = self.threads.tolist()
        return listed

    @cached_property
    def _edges(self) -> tuple[list[int], list[bool], list[int]]:
        best, served = self.enablers()
        return best.tolist(), served.tolist(), self.inputs().tolist()

    def last_of_batches(self, batches: Ints, by: Ints) -> Ints:
        """The span that finished each batch no later than `by` (ns), int64[w]; -1: none, or a batch of -1."""
        import numpy as np

        last = self._last_with(np.where(batches >= 0, batches * 2, -1))
        found: Ints = np.where((last >= 0) & (self.ends[last] <= by), last, -1) if len(self.ends) else last
        return found

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
        return self._edges[2][i]

    def inputs(self) -> Ints:
        """`input_of` of every span, int64[n]."""
        return self._latest((self._item_before, False), (self._caused, False))[0]

    def enabling(self, i: int) -> tuple[int, bool]:
        """The span that let span `i` begin last (-1: none known), and whether it did as the thread's previous work."""
        return self._edges[0][i], self._edges[1][i]

    def enablers(self) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """`enabling` of every span, int64[n] and bool[n]."""
        return self._latest((self._item_before, False), (self._caused, False), (self._thread_before, True))

    def _latest(self, *edges: tuple[Ints, bool]) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Of edges (to a span, whether as a server), the one that let go last; of several at once the first."""
        import numpy as np

        n = len(self.starts)
        best, when, served = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
        for made, server in edges if n else ():
            # It had ended by then. Spans of no length never point at each other: starts only fall.
            before = (made >= 0) & (self.ends[made] <= self.starts) & (self.starts[made] < self.ends)
            let_go = np.minimum(self.puts[made], self.starts) if server else self.ends[made]
            before &= let_go > when
            best[before], when[before], served[before] = made[before], let_go[before], server
        return best, served

    def _last_with(self, keys: Ints) -> Ints:
        """The span that ended last of those with each key, int64[w]; -1: none, or a key below 0."""
        import numpy as np

        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: Ints = np.where((keys >= 0) & (self._keys[place] == keys), self._last[place], -1)
        return found


def _previous(key: Ints, end: Ints) -> Ints:
    """For each span the one that ended before it among those with its key (-1: none), int64[n]."""
    import numpy as np

    order = np.lexsort((end, key))
    previous = np.full(len(key), -1, dtype=np.int64)
    same = key[order][1:] == key[order][:-1]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _last(key: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Keys in order, and the span that ended last for each."""
    import numpy as np

    order = np.lexsort((end, key))
    final_of = np.append(key[order][1:] != key[order][:-1], True) if len(order) else np.empty(0, dtype=bool)
    last = order[final_of]
    return key[last], last
