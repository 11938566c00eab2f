"""Steps made out of `next()` calls alone: from one batch of a loader to the next.

What enters: each `next()` on a loader's iterator, and what ran meanwhile (forward, backward). What leaves: "wait",
"step", "epoch" and "evaluate" spans.
Invariant: a loop that is left, exhausted, broken out of or dropped ends its last step, once.

A loop inside another's step (a second loader, a validation every hundred steps) makes no steps of its own; one inside
another's `next()` (a loader that reads a loader) is part of that wait. A step that ran a model without gradients and
without a backward is "evaluate". What is as often iterated for other reasons than training (rows of a dataset) makes
steps only where a model runs.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from datapipe.integrations.torch_fetch import DATASET
from datapipe.profiling.loader_facts import loader_text
from datapipe.profiling.phase_waits import loader_note
from datapipe.profiling.recording import rows_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.profiling import Profile

_MOST_WAITS: Final = 4096
"""Rows that a script may put together into one batch; a loop that takes more before a model runs does not train."""
_ACCUMULATES: Final = 1.5
"""Batches per optimizer step from which gradients are said to be accumulated."""
_FIRST_MADE: Final = 4 * 10**18
"""Numbers of batches of loaders that give none, apart from those of torch's."""


class StepsDone(BaseException):
    """As many steps ran as were asked for: raised in the script's `next()`, so that its `finally` blocks see it."""


class Numbered(Protocol):
    """A loader whose batches have numbers that its work on them is recorded under."""

    def asked(self, iterator: Any, after: int = -1) -> None:
        """The next batch is about to be asked for; `after`: the batch that had to come first, -1: none."""

    def got(self, iterator: Any) -> int:
        """The number of the batch just given; -1: not known."""

    def let_go(self) -> None:
        """The batch was given, or could not be."""


@final
class _Pass:
    """One loop over one iterator: its open step, and what has been seen in it."""

    __slots__ = (
        "asked", "began", "begun", "item", "learned", "loader", "looked", "nested", "piped", "rows", "since", "stepped",
        "unsure", "waits",
    )  # fmt: skip

    def __init__(self, began: int, *, unsure: bool = False, loader: str = "") -> None:
        self.began = began
        self.loader = loader  # in words
        self.unsure = unsure  # it trains only if a model runs
        self.item = -1  # the number of the batch just given
        self.piped = False  # its batches are made of another loader's
        self.since = 0  # steps of the run when the open one began
        self.waits: list[tuple[int, int, int, int]] = []  # of the open step: asked, got, CPU ns, batch number
        self.asked = -1  # when the open step's (first) batch was asked for; -1: no step is open
        self.begun = False  # it has given a batch
        self.rows: int | None = None
        self.nested = False
        self.learned = False  # a backward, an optimizer's step or a forward with gradients
        self.looked = False  # a forward without gradients
        self.stepped = False  # any step of this pass was a training step


@final
class Loops:
    """Every loop over a loader in this process, per thread.

    Args:
        prof: where the spans go.
        without_gradients: whether gradients are switched off right now.
        most: steps after which `next` raises `StepsDone`; None: never.
    """

    def __init__(self, prof: Profile, *, without_gradients: Callable[[], bool], most: int | None = None) -> None:
        self._prof = prof
        self._most = most
        self._without_gradients = without_gradients
        recorder = prof.recorder
        self._stage = {name: recorder.stage(name) for name in ("step", "wait", "epoch", "evaluate", DATASET)}
        self._local = threading.local()
        self._steps = 0
        self._epochs = 0
        self._made = _FIRST_MADE
        self._optimized = 0
        self._everywhere: list[dict[int, _Pass]] = []
        self._process = os.getpid()

    def _passes(self) -> dict[int, _Pass]:
        """This thread's loops, by the iterator's id."""
        passes: dict[int, _Pass] | None = getattr(self._local, "passes", None)
        if passes is None:
            passes = self._local.passes = {}
            self._everywhere.append(passes)
        return passes

    @property
    def idle(self) -> bool:
        """Nothing is recorded here: inside another loader's `next()`, or in a process forked from the script's."""
        return getattr(self._local, "inside", None) is not None or os.getpid() != self._process

    def began(self, iterator: Any, asked: int, *, unsure: bool = False, loader: Any = None) -> None:
        """A loop over `iterator` begins; making it (starting workers) is wait for its first batch, from `asked` on.

        `unsure`: it is one only where a model runs. `loader`: what is iterated.
        """
        if self.idle:
            return
        passes = self._passes()
        key = id(iterator)
        if key in passes:  # persistent workers: the same iterator goes round again
            self._end(passes, key, time.perf_counter_ns())
        passes[key] = _Pass(asked, unsure=unsure, loader="" if loader is None else loader_text(loader))
        weakref.finalize(iterator, self._dropped, passes, key).atexit = False

    def next(self, iterator: Any, advance: Callable[[], Any], numbered: Numbered | None = None) -> Any:
        """Get the next batch by `advance`, recording the wait and ending the step before."""
        if self.idle:
            return self._within(iterator, advance, numbered)
        passes = self._passes()
        key = id(iterator)
        now = time.perf_counter_ns()
        one = passes.get(key)
        if one is None:  # an iterator from before the profile, or after its end
            one = passes[key] = _Pass(now)
        asked = now
        if one.unsure and not (one.looked or one.learned) and 0 < len(one.waits) < _MOST_WAITS:
            pass  # nothing was done with it yet: the script makes its own batch of several
        elif one.asked >= 0:
            self._end_step(one, now)
            if self._most is not None and self._steps >= self._most:
                self._end(passes, key, now)
                raise StepsDone
        elif not one.begun:
            asked = one.began  # the first batch: the loader's start is part of its wait
        one.nested = any(self._holds(other, one) for other in passes.values() if other is not one)
        one.item = -1
        cpu = time.thread_time_ns() if one.unsure else 0
        self._local.inside = one if numbered is None else numbered
        try:
            batch = advance() if numbered is None else self._numbered(iterator, advance, numbered, one)
        except BaseException:
            # Exhausted, or failed: either way this loop has no further step.
            self._end(passes, key, time.perf_counter_ns())
            raise
        finally:
            self._local.inside = None
        got = time.perf_counter_ns()
        if one.asked < 0:
            one.asked, one.learned, one.looked, one.begun, one.since = asked, False, False, True, self._steps
        one.waits.append((asked, got, time.thread_time_ns() - cpu if one.unsure else 0, one.item))
        one.rows = rows_in(batch)
        return batch

    @staticmethod
    def _holds(other: _Pass, one: _Pass) -> bool:
        """Whether a step of another loop is open that this one's belong to; a loop that may be none holds no other."""
        return other.asked >= 0 and not other.nested and (one.unsure or not other.unsure)

    def _numbered(self, iterator: Any, advance: Callable[[], Any], numbered: Numbered, one: _Pass) -> Any:
        numbered.asked(iterator, one.item)
        try:
            batch = advance()
        finally:
            numbered.let_go()
        one.item = numbered.got(iterator)
        return batch

    def _within(self, iterator: Any, advance: Callable[[], Any], numbered: Numbered | None) -> Any:
        """A batch for the loader that is being waited for: it takes the number of the last one it was made of."""
        outer = getattr(self._local, "inside", None)
        if numbered is None or not isinstance(outer, _Pass) or os.getpid() != self._process:
            return advance()
        outer.piped = True
        return self._numbered(iterator, advance, numbered, outer)

    def trained(self, iterator: Any) -> bool:
        """Whether a step of this loop was recorded."""
        one = self._passes().get(id(iterator))
        return one is not None and one.stepped

    def forward(self) -> None:
        """An outermost module was called."""
        without = self._without_gradients()
        for one in self._passes().values():
            one.looked |= without
            one.learned |= not without

    def backward(self) -> None:
        """A backward ran."""
        for one in self._passes().values():
            one.learned = True

    def optimized(self) -> None:
        """An optimizer's step ran."""
        self._optimized += 1
        self.backward()

    def close(self) -> None:
        """End every loop that is still open."""
        now = time.perf_counter_ns()
        for passes in self._everywhere:
            for key in list(passes):
                self._end(passes, key, now)
        if self._optimized and self._steps >= _ACCUMULATES * self._optimized:
            self._prof.note("batches per optimizer step", round(self._steps / self._optimized, 1))

    def _end_step(self, one: _Pass, now: int) -> None:
        write = self._prof.recorder.ring().write
        asked, one.asked = one.asked, -1
        waits, one.waits = one.waits, []
        if one.unsure and (not (one.looked or one.learned) or self._steps > one.since):
            return  # no model ran, or only in the steps of a loader inside
        if one.looked and not one.learned:
            write(self._stage["evaluate"], -1, asked, asked, now, now)
            for start, got, _, _ in waits:  # no step's: how much of the evaluation they are
                write(self._stage["wait"], -1, start, start, got, got)
            if one.loader:
                self._prof.recorder.notes.setdefault(loader_note("evaluate"), one.loader)
            return
        for start, got, cpu, number in waits:
            item = number
            if one.unsure and not one.piped:  # the waiting thread ran the dataset's code itself
                item, self._made = self._made, self._made + 1
                write(self._stage[DATASET], item, start, start, got, got, cpu=cpu)
            write(self._stage["wait"], self._steps, start, start, got, got, cause=item)
        if not one.nested:
            one.stepped = True
            write(self._stage["step"], self._steps, asked, asked, now, now)
            self._steps += 1
            self._prof.keep_up()
            self._prof.count_rows(one.rows if len(waits) == 1 else len(waits))

    def _end(self, passes: dict[int, _Pass], key: int, now: int) -> None:
        one = passes.pop(key, None)
        if one is None:
            return
        if one.asked >= 0:
            self._end_step(one, now)
        if one.stepped:
            self._prof.recorder.ring().write(self._stage["epoch"], self._epochs, one.began, one.began, now, now)
            self._epochs += 1

    def _dropped(self, passes: dict[int, _Pass], key: int) -> None:
        """The iterator is gone: its loop was left early."""
        self._end(passes, key, time.perf_counter_ns())
