"""What a training step pays for its data: a loop fed by a loader, beside the same loop with its data on the device.

What enters: batches, a step, a clock. What leaves: seconds a step, the exposed wait (the share by which the loop is
slower than with its data there already, signed), the device's idle share between steps, and the host's wait in `next`.
Invariant: the host stays at most one step ahead of the device, as one that logs its loss does.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from clock import Clock

LEAD: Final = 5


def endless(make_epoch: Callable[[], Iterable[Any]]) -> Generator[Any, None, None]:
    """Epoch after epoch."""
    while True:
        empty = True
        for batch in make_epoch():
            empty = False
            yield batch
        if empty:
            raise ValueError("an epoch without a batch")


def timed(clock: Clock, batches: Iterator[Any], step: Callable[[Any], None], count: int) -> dict[str, float]:
    """Run steps; what they took, without the first few."""
    marks: list[tuple[Any, Any]] = []
    waits: list[float] = []
    for number in range(LEAD + count):
        came = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - came)
        begin = clock.mark()
        step(batch)
        marks.append((begin, clock.mark()))
        del batch
        if number:
            clock.reach(marks[number - 1][1])
    clock.finish()
    marks, waits = marks[LEAD - 1 :], waits[LEAD:]
    total = clock.seconds(marks[0][1], marks[-1][1])
    idle = sum(clock.seconds(one[1], other[0]) for one, other in itertools.pairwise(marks))
    return {"step_ms": total / count * 1e3, "idle": idle / total, "host_wait_ms": sum(waits) / count * 1e3}


def compare(
    clock: Clock,
    contenders: dict[str, Callable[[], Iterable[Any]]],
    step: Callable[[Any], None],
    *,
    count: int,
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Each contender's epochs through the same steps, in turns with the data being there; medians over the rounds.

    Args:
        contenders: name → begins an epoch of batches on the device.
    """
    first = next(iter(contenders.values()))
    kept = list(itertools.islice(endless(first), 4))
    there = itertools.cycle(kept)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("data there already", *contenders)}
    for _ in range(rounds):
        alone = timed(clock, there, step, count)
        found["data there already"].append({**alone, "exposed": 0.0})
        for name, make_epoch in contenders.items():
            batches = endless(make_epoch)
            took = timed(clock, batches, step, count)
            batches.close()
            found[name].append({**took, "exposed": (took["step_ms"] - alone["step_ms"]) / took["step_ms"]})
    return {name: {key: _median([each[key] for each in runs]) for key in runs[0]} for name, runs in found.items()}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
