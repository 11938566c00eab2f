"""The generated cases: every fault, pairs of them, and healthy controls, each with the fixes that are executed.

What enters: a seed and how many. What leaves: `Case`s. Invariant: the same seed gives the same cases; any `len(FAULTS)`
cases in a row have every fault once.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.cli.selftest.pipe import Pipe
from datapipe.errors import ConfigError
from datapipe.profiling.changes import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BUMP: Final = 1 / 0.7
"""How much faster a stage is made to learn what it is worth: 30% off its time, three times what a quiet machine's runs
differ by."""


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """A pipe with known faults.

    Attributes:
        name: unique. fault: its family.
        pipe: what is profiled.
        fixes: changes to predict, each with the pipe that has it.
        healthy: its device is slower than its loader by far.
        delayed: the one stage that was slowed down, where the delay is to be found again; else None.
    """

    name: str
    fault: str
    pipe: Pipe
    fixes: tuple[tuple[Change, Pipe], ...]
    healthy: bool = False
    delayed: str | None = None

    def bumps(self) -> Iterator[tuple[str, Change, Pipe]]:
        """Each injected stage made faster by `BUMP`: (stage, the same as a change, the pipe)."""
        kinds = {"fetch": Change(kind="storage", factor=BUMP), "forward": Change(kind="device", factor=BUMP)}
        for stage in self.pipe.injected:
            change = kinds.get(stage, Change(kind="faster", stage=stage, factor=BUMP))
            yield stage, change, self.pipe.faster(stage, BUMP)


def cases(
    count: int, seed: int = 0, *, scale: float = 1.0, steps: float = 1.0, faults: Sequence[str] = ()
) -> Iterator[Case]:
    """So many cases, fault after fault.

    Args:
        scale: every injected time is so many times as long. steps: every run has so many times its steps.
        faults: only these; none: all.

    Raises:
        ConfigError: there is no such fault.
    """
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        raise ConfigError(f"no such fault: {unknown[0]!r}", expected=f"one of {', '.join(FAULTS)}")
    chance = random.Random(seed)  # noqa: S311  (cases, not secrets)
    names = list(faults or FAULTS)
    for i in range(count):
        fault = names[i % len(names)]
        made = FAULTS[fault](chance)
        fixes = tuple((_slower(change, scale), pipe.scaled(scale, steps)) for change, pipe in made.fixes)
        base = made.pipe.scaled(scale, steps)
        yield dataclasses.replace(made, name=f"{i}: {fault}", fault=fault, pipe=base, fixes=fixes)


def _slower(change: Change, scale: float) -> Change:
    """A latency is a time, every other factor a ratio."""
    return dataclasses.replace(change, factor=change.factor * scale) if change.kind == "latency" else change


def _threads(pipe: Pipe, by: int) -> tuple[Change, Pipe]:
    return Change(kind="threads", factor=float(by)), dataclasses.replace(pipe, threads=pipe.threads * by)


def _offline(pipe: Pipe) -> tuple[Change, Pipe]:
    return Change(kind="offline", stage="transform"), dataclasses.replace(
        pipe, transform=None, transform_ms=0.0, heavy_every=0, heavy_ms=0.0
    )


def _faster(stage: str, pipe: Pipe, by: float) -> tuple[Change, Pipe]:
    kind = {"fetch": "storage", "forward": "device"}[stage]
    return Change(kind=kind, factor=by), pipe.faster(stage, by)  # type: ignore[arg-type]  # two of its kinds


def _case(pipe: Pipe, *fixes: tuple[Change, Pipe], healthy: bool = False, delayed: str | None = None) -> Case:
    return Case(name="", fault="", pipe=pipe, fixes=fixes, healthy=healthy, delayed=delayed)


def _sleeping(c: random.Random) -> Case:
    pipe = Pipe(transform="sleep", transform_ms=c.uniform(8, 20), device_ms=c.uniform(2, 6), threads=c.choice((1, 2)))
    return _case(pipe, _threads(pipe, 2), _offline(pipe), delayed="transform")


def _spinning(c: random.Random) -> Case:
    pipe = Pipe(transform="spin", transform_ms=c.uniform(5, 12), device_ms=c.uniform(2, 5))
    apart = dataclasses.replace(pipe, workers=True, threads=2)
    workers = (Change(kind="workers", stage="transform", factor=2.0), apart)
    return _case(pipe, _threads(pipe, 2), _offline(pipe), workers, delayed="transform")


def _spinning_free(c: random.Random) -> Case:
    pipe = Pipe(transform="spin free", transform_ms=c.uniform(5, 12), device_ms=c.uniform(2, 5))
    return _case(pipe, _threads(pipe, 2), _offline(pipe), delayed="transform")


def _slow_storage(c: random.Random) -> Case:
    pipe = Pipe(fetch_ms=c.uniform(16, 40), device_ms=c.uniform(2, 6))
    later = dataclasses.replace(pipe, fetch_ms=pipe.fetch_ms + 10)
    larger = (Change(kind="row groups", factor=2.0), dataclasses.replace(pipe, per_group=2 * pipe.per_group))
    return _case(pipe, _threads(pipe, 2), (Change(kind="latency", factor=10e6), later), larger, delayed="fetch")


def _throttled(c: random.Random) -> Case:
    pipe = Pipe(throttle_ms=c.uniform(500, 1200), device_ms=c.uniform(2, 6))
    return _case(pipe, _faster("fetch", pipe, 2.0), _faster("fetch", pipe, 0.5), delayed="fetch")


def _cold(c: random.Random) -> Case:
    pipe = Pipe(fetch_ms=c.uniform(20, 40), device_ms=c.uniform(2, 6), warm=c.uniform(0.2, 0.6))
    return _case(pipe, (Change(kind="cache warm"), dataclasses.replace(pipe, warm=1.0)))


def _slow_device(c: random.Random) -> Case:
    pipe = Pipe(transform="sleep", transform_ms=c.uniform(2, 5), device_ms=c.uniform(12, 25))
    return _case(pipe, _faster("forward", pipe, 2.0), healthy=True, delayed="forward")


def _heavy(c: random.Random) -> Case:
    pipe = Pipe(
        steps=200, transform="sleep", transform_ms=c.uniform(3, 5), heavy_every=100, heavy_ms=c.uniform(80, 150),
        device_ms=c.uniform(2, 5), threads=2,
    )  # fmt: skip
    return _case(pipe, (Change(kind="prefetch", factor=4.0), dataclasses.replace(pipe, prefetch=16)))


def _shallow(c: random.Random) -> Case:
    pipe = Pipe(
        transform="sleep", transform_ms=c.uniform(4, 6), heavy_every=7, heavy_ms=c.uniform(15, 30),
        device_ms=c.uniform(6, 10), threads=2, prefetch=1,
    )  # fmt: skip
    return _case(pipe, (Change(kind="prefetch", factor=4.0), dataclasses.replace(pipe, prefetch=4)))


def _few_cores(c: random.Random) -> Case:
    pipe = Pipe(transform="spin free", transform_ms=c.uniform(5, 10), device_ms=c.uniform(2, 5), threads=2, cores=1)
    return _case(pipe, _threads(pipe, 2), _offline(pipe))


def _fetch_and_transform(c: random.Random) -> Case:
    pipe = Pipe(
        fetch_ms=c.uniform(10, 30), transform="sleep", transform_ms=c.uniform(5, 15), device_ms=c.uniform(2, 6),
        threads=c.choice((1, 2)),
    )  # fmt: skip
    return _case(pipe, _threads(pipe, 2), _offline(pipe), _faster("fetch", pipe, 2.0))


def _transform_and_device(c: random.Random) -> Case:
    pipe = Pipe(transform="sleep", transform_ms=c.uniform(6, 14), device_ms=c.uniform(6, 14))
    return _case(pipe, _threads(pipe, 2), _faster("forward", pipe, 2.0))


def _dear_codec(c: random.Random) -> Case:
    # Longer than others: at first every block is decoded into new memory, which the kernel has to clear.
    pipe = Pipe(steps=120, codec="gzip", columns=c.choice((64, 80)), device_ms=c.uniform(2, 5))
    return _case(pipe, (Change(kind="decode", factor=1.0), dataclasses.replace(pipe, codec="none")))


def _leak(c: random.Random) -> Case:
    return _case(Pipe(leak_kb=1024, device_ms=c.uniform(10, 15)), healthy=True)


def _healthy(c: random.Random) -> Case:
    pipe = Pipe(
        fetch_ms=c.uniform(0, 6), transform=c.choice(("sleep", "spin free")), transform_ms=c.uniform(1, 4),
        device_ms=c.uniform(12, 20), threads=c.choice((1, 2)),
    )  # fmt: skip
    return _case(pipe, _offline(pipe), healthy=True)


FAULTS: Final[dict[str, Callable[[random.Random], Case]]] = {
    "sleeping transform": _sleeping, "spinning, with the lock": _spinning, "spinning, without it": _spinning_free,
    "slow storage": _slow_storage, "throttled storage": _throttled, "cold cache": _cold, "slow device": _slow_device,
    "1 in 100 heavy": _heavy, "queue depth 1": _shallow, "restricted cores": _few_cores,
    "storage and transform": _fetch_and_transform, "transform and device": _transform_and_device,
    "dear codec": _dear_codec, "memory leak": _leak, "healthy": _healthy,
}  # fmt: skip
