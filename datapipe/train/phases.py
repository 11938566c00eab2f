"""The parts of a step: clocked always, recorded as spans where a profile is in progress.

What enters: `with phases("forward")` around the loop's parts. What leaves: nanoseconds by name for the log, and spans
for the active recorder. Invariant: with no recorder nothing is recorded; a step's spans lie inside it, one after the
other, on one thread.

On CUDA the host only launches work: its spans say when it was launched, and "sync" how long the host then waited for
the gradient. With a recorder, events on the stream also give each part as the device ran it (flag DEVICE); they are
read at the next sync, which costs no wait of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, final

import torch

from datapipe import events

if TYPE_CHECKING:
    from types import TracebackType

_ON_DEVICE = frozenset({"forward", "backward", "optimizer"})


@final
class Phases:
    """One loop's parts. `item` is the number of the step in progress, from 0 in this run."""

    def __init__(self, device: torch.device) -> None:
        recorder = events.active()
        self.recorder = recorder
        self.ring = None if recorder is None else recorder.ring()
        self.item = 0
        self.spent: dict[str, int] = {}
        self._parts: dict[str, _Part] = {}
        self._began = 0
        self.clocks_device = recorder is not None and device.type == "cuda"
        self.pending: list[tuple[int, int, Any, Any]] = []  # stage, item, the events before and after

    def __call__(self, name: str) -> _Part:
        """The part of that name, as a context manager; parts do not nest."""
        part = self._parts.get(name)
        if part is None:
            stage = -1 if self.recorder is None else self.recorder.stage(name)
            part = self._parts[name] = _Part(self, name, stage, on_device=self.clocks_device and name in _ON_DEVICE)
        return part

    def begin_step(self, item: int, now: int) -> None:
        """A step begins at `now` (ns): its first batch is asked for."""
        self.item, self._began = item, now
        self.spent.clear()

    def end_step(self) -> int:
        """The step is over; the time (ns), at which the next one may begin."""
        now = time.perf_counter_ns()
        self.write("step", self.item, self._began, now)
        return now

    @property
    def elapsed(self) -> int:
        """Ns since the step began."""
        return time.perf_counter_ns() - self._began

    def write(self, name: str, item: int, start: int, end: int) -> None:
        """Record a span, if anything records."""
        if self.recorder is not None and self.ring is not None:
            self.ring.write(self.recorder.stage(name), item, start, start, end, end)

    def synced(self) -> None:
        """The host has just waited for the device: write what the device did since the last time."""
        if not self.pending or self.ring is None:
            return
        now, last = time.perf_counter_ns(), self.pending[-1][3]
        for stage, item, before, after in self.pending:
            # The last event was reached just now, and the others stand so many ms before it.
            start = now - int(before.elapsed_time(last) * 1e6)
            end = now - int(after.elapsed_time(last) * 1e6)
            self.ring.write(stage, item, start, start, end, end, flags=events.DEVICE)
        self.pending.clear()


@final
class _Part:
    """A part, entered once a step or more."""

    __slots__ = ("_before", "_cpu", "_name", "_on_device", "_owner", "_stage", "_start")

    def __init__(self, owner: Phases, name: str, stage: int, *, on_device: bool) -> None:
        self._owner = owner
        self._name = name
        self._stage = stage
        self._on_device = on_device

    def __enter__(self) -> None:
        if self._on_device:
            self._before = _mark()
        self._cpu = time.thread_time_ns() if self._owner.ring is not None else 0
        self._start = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return  # the end of an epoch inside a wait, or of the run: no part of a step
        start, end, owner = self._start, time.perf_counter_ns(), self._owner
        owner.spent[self._name] = owner.spent.get(self._name, 0) + end - start
        if owner.ring is None:
            return
        cpu = time.thread_time_ns() - self._cpu
        owner.ring.write(self._stage, owner.item, start, start, end, end, 0, cpu)
        if self._on_device:
            owner.pending.append((self._stage, owner.item, self._before, _mark()))


def _mark() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch ships it untyped
    event.record()
    return event
