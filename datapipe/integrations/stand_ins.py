"""A script's loaders stood in for by batches in memory, or drawn from with no step between: runs of a differential.

What enters: the making of an iterator over a loader, as the hooks see it. What leaves: an iterator in its place, whose
steps `Loops` records as it records any.
Invariant: what the script is given are batches that its own loader made; a pass is as long as the loader says it is;
a loader is let go of (its workers end) as soon as enough of it is in memory.

- "synthetic": the first batch again and again; the loader is not consulted after it.
- "cached": the first `CACHED` batches by turns.
- "loader": the first step of the run is the script's own; after it batches are drawn, and no step runs.

A batch's dicts, lists and tuples are copied for each step, its arrays are not: a step that writes into its input finds
what it wrote there before.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.integrations.loops import StepsDone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.integrations.loops import Loops

MODES: Final = ("as-is", "synthetic", "cached", "loader")
CACHED: Final = 16
"""Batches held in memory: enough to show what differs between batches, few enough to fit beside any model."""
_DEEP: Final = 4


@final
class _Held:
    """What is known of one loader: batches in memory, the length of a pass, and how many draws a step takes."""

    __slots__ = ("batches", "draws", "full", "length")

    def __init__(self, length: int | None) -> None:
        self.batches: list[Any] = []
        self.full = False
        self.length = length
        self.draws = 0


@final
class StandIns:
    """Stands in for every loader of a script.

    Args:
        mode: one of `MODES`.
        steps: after how many steps the run ends; None: where the script ends.
        loops: records the steps.

    Raises:
        ConfigError: there is no such mode, or "loader" has no end.
    """

    def __init__(self, mode: str, *, steps: int | None, loops: Loops) -> None:
        if mode not in MODES:
            raise ConfigError(f"no such stand-in: {mode!r}", expected=f"one of {', '.join(MODES)}")
        self.mode = mode
        self.loops = loops
        # A quarter of the steps at most may go into filling the memory.
        self.most = 1 if mode == "synthetic" else max(1, min(CACHED, CACHED if steps is None else steps // 4))
        self.steps = steps
        self._held: dict[int, _Held] = {}

    def iterate(
        self, loader: Any, make: Callable[[], Iterator[Any]], *, unsure: bool = False, owned: bool = False
    ) -> Any:
        """An iterator in the place of the one that `make` makes.

        `unsure`: a loop over it trains only if a model runs. `owned`: somebody else records its waits, and its end
        comes after `steps` batches.
        """
        asked = time.perf_counter_ns()
        held = self._held.get(id(loader))
        if held is None:
            held = self._held[id(loader)] = _Held(_length(loader))
            weakref.finalize(loader, self._held.pop, id(loader), None).atexit = False
        iterator = _StandIn(self, held, make, unsure=unsure, owned=owned)
        if not owned:
            self.loops.began(iterator, asked, unsure=unsure)
        return iterator


@final
class _StandIn:
    """One pass."""

    def __init__(
        self, plan: StandIns, held: _Held, make: Callable[[], Iterator[Any]], *, unsure: bool, owned: bool
    ) -> None:
        self._plan = plan
        self._held = held
        self._make = make
        self._inner: Iterator[Any] | None = None
        self._at = 0
        self._unsure = unsure
        self._owned = owned

    def __iter__(self) -> _StandIn:
        return self

    def __next__(self) -> Any:
        plan, held = self._plan, self._held
        if plan.mode in ("as-is", "loader"):
            advance = self._drawn
        else:
            advance = self._from_memory
        if self._owned:
            if plan.steps is not None and self._at >= plan.steps:
                raise StepsDone
            return advance()
        if plan.mode != "loader":
            return plan.loops.next(self, advance)
        drawn = self._at
        batch = plan.loops.next(self, advance)
        if not held.draws and plan.loops.trained(self):
            held.draws = drawn
        while held.draws:  # ends with the steps that were asked for, or with the loader
            if self._unsure and (self._at - drawn) % held.draws == 0:
                plan.loops.backward()  # as many draws as the script made a step of
            batch = plan.loops.next(self, advance)
        return batch

    def _drawn(self) -> Any:
        """The loader's own next batch."""
        if self._inner is None:
            self._inner = self._make()
        batch = next(self._inner)
        self._at += 1
        return batch

    def _from_memory(self) -> Any:
        held = self._held
        if held.length is not None and self._at >= held.length:
            raise StopIteration
        if not held.full and self._at >= len(held.batches):
            return self._kept()
        batch = held.batches[self._at % len(held.batches)]
        self._at += 1
        return _handed(batch)

    def _kept(self) -> Any:
        """The loader's own next batch, into memory."""
        held = self._held
        try:
            batch = self._drawn()
        except StopIteration:
            held.full, held.length = bool(held.batches), self._at
            raise
        held.batches.append(batch)
        if len(held.batches) == self._plan.most:
            held.full = True
            close = getattr(self._inner, "close", None)
            self._inner = None  # torch's workers end with their iterator
            if callable(close):
                close()
        return _handed(batch)


def _length(loader: Any) -> int | None:
    """Batches of a pass, where the loader says so."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError, AttributeError):
        return None


def _handed(batch: Any, deep: int = _DEEP) -> Any:
    """The batch with containers of its own, so that a step may take fields out of it; its arrays are shared."""
    if deep and isinstance(batch, MutableMapping):
        mine = copy.copy(batch)
        for name, value in batch.items():
            mine[name] = _handed(value, deep - 1)
        return mine
    if deep and isinstance(batch, list):
        return [_handed(value, deep - 1) for value in batch]
    if deep and isinstance(batch, tuple):
        values = [_handed(value, deep - 1) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)
    return batch
