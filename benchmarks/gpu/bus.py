"""How fast the bus is, and how much of that a loader's batches get.

What enters: a device. What leaves: GB/s of copies from page-locked and from pageable memory by size, the ceiling (one
large page-locked copy: a single cudaMemcpyAsync), and of a loader's batches their bytes, time on the copy stream and
share of that ceiling. Invariant: times are the device's own, from events around the copies alone.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from typing import TYPE_CHECKING, Any, Final

import torch

from datapipe.device import transfer
from datapipe.device.engine import CopyEngine
from steps import endless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clock import Clock

SIZES: Final = (64 << 10, 1 << 20, 16 << 20, 256 << 20)
"""Bytes. The last one is the ceiling's."""
LEAD: Final = 3


def gigabytes(clock: Clock, device: torch.device, nbytes: int, *, pinned: bool, repeats: int) -> float:
    """GB/s of one copy to the device: the median."""
    source = torch.empty(nbytes, dtype=torch.uint8, pin_memory=pinned and device.type != "cpu").fill_(1)
    target = torch.empty(nbytes, dtype=torch.uint8, device=device)
    marks = []
    for _ in range(LEAD + repeats):
        begin = clock.mark()
        target.copy_(source, non_blocking=True)
        marks.append((begin, clock.mark()))
    clock.finish()
    return nbytes / statistics.median(clock.seconds(*pair) for pair in marks[LEAD:]) / 1e9


def bandwidth(clock: Clock, device: torch.device, sizes: tuple[int, ...] = SIZES, repeats: int = 20) -> dict[str, Any]:
    """Page-locked beside pageable, in turns, by size; and the ceiling."""
    rows = [
        {
            "bytes": size,
            "pinned": gigabytes(clock, device, size, pinned=True, repeats=repeats),
            "pageable": gigabytes(clock, device, size, pinned=False, repeats=repeats),
        }
        for size in sizes
    ]
    return {"sizes": rows, "ceiling": rows[-1]["pinned"]}


class Clocked(CopyEngine):
    """An engine that clocks the copies of each batch, casts included, on the stream they run on."""

    def __init__(self, engine: CopyEngine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self._stream = getattr(engine, "stream", None)
        self._begin: Any = None
        self._bytes = 0
        self.spans: list[tuple[int, Any, Any]] = []  # bytes that crossed, the marks around them

    def send(self, tensor: Any, dtype: Any) -> Any:
        if self._begin is None:
            self._begin = self._clock.mark(self._stream)
        self._bytes += tensor.nbytes
        return self._engine.send(tensor, dtype)

    def mark(self) -> Any:
        if self._begin is not None:
            self.spans.append((self._bytes, self._begin, self._clock.mark(self._stream)))
            self._begin, self._bytes = None, 0
        return self._engine.mark()

    def allocate(self, nbytes: int) -> memoryview | None:
        return self._engine.allocate(nbytes)

    def is_ready(self, tensor: Any) -> bool:
        return self._engine.is_ready(tensor)

    def passed(self, mark: Any) -> bool:
        return self._engine.passed(mark)

    def join(self, mark: Any, tensors: list[Any]) -> None:
        self._engine.join(mark, tensors)

    def finish(self) -> None:
        self._engine.finish()


@contextlib.contextmanager
def clocked(clock: Clock) -> Iterator[list[Clocked]]:
    """Loaders made inside have their copies clocked; the engines, as they are made."""
    make, engines = transfer.make_engine, []

    def making(*args: Any) -> Clocked:
        engines.append(Clocked(make(*args), clock))
        return engines[-1]

    transfer.make_engine = making
    try:
        yield engines
    finally:
        transfer.make_engine = make


def crossing(
    clock: Clock, device: torch.device, make_loader: Callable[[], Any], *, ceiling: float, batches: int
) -> dict[str, Any] | None:
    """Of a loader's copies: MB a batch, GB/s on the copy stream, the share of the ceiling (GB/s).

    And of one page-locked copy of as many bytes: a small one never reaches the ceiling, as it is launched longer than
    it lasts.

    None: it copies nothing, as its batches stay on the host.
    """
    with clocked(clock) as engines, make_loader() as loader:
        epochs = endless(lambda: loader)
        for _ in itertools.islice(epochs, batches):
            pass
        epochs.close()
        clock.finish()
    if not engines:
        return None
    spans = engines[0].spans[LEAD:] or engines[0].spans
    nbytes = sum(size for size, _, _ in spans)
    seconds = sum(clock.seconds(begin, end) for _, begin, end in spans)
    rate = nbytes / seconds / 1e9
    alike = gigabytes(clock, device, max(1, nbytes // len(spans)), pinned=True, repeats=20)
    return {
        "mb_a_batch": nbytes / len(spans) / 1e6, "gb_s": rate, "batches": len(spans),
        "of_ceiling": rate / ceiling, "of_its_size": rate / alike,
    }  # fmt: skip
