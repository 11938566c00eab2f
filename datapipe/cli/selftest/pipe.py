"""A generated pipeline as a value: what is injected where, and with what it is run.

What enters: numbers. What leaves: other pipelines, by `faster` and by `dataclasses.replace`. Invariant: it is
frozen and knows no clock, so that a case can be printed, and repeated from its line.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, final

Way = Literal["sleep", "spin", "spin free"]
"""How a transform spends its time: off the core; on it, holding the interpreter lock; on it, without the lock."""


@final
@dataclass(frozen=True, kw_only=True)
class Pipe:
    """One pipeline.

    Attributes:
        steps: batches of one epoch.
        per_group: batches in a row group (the block that is fetched and decoded).
        fetch_ms: storage's latency per row group. throttle_ms: the same per MB read.
        codec: Parquet's compression. columns: float columns of 1,000 values a row group's batch; decode goes with them.
        transform: how the transform spends `transform_ms` on a batch, or None.
        heavy_every: every so many batches (0: never) the transform sleeps `heavy_ms` more.
        leak_kb: kept for ever by the transform, per batch. leak_calls: of so many batches (0: of all).
        device_ms: what the fake device takes for a batch; asleep, or (`device_spins`) on the core.
        threads, prefetch: the loader's. workers: the transform runs in as many processes as there are threads.
        warm: share of the row groups that lie in the cache before the run; None: there is no cache.
        cores: CPUs it may use; 0: all.
    """

    steps: int = 64
    per_group: int = 2
    fetch_ms: float = 0.0
    throttle_ms: float = 0.0
    codec: str = "none"
    columns: int = 4
    transform: Way | None = None
    transform_ms: float = 0.0
    heavy_every: int = 0
    heavy_ms: float = 0.0
    leak_kb: int = 0
    leak_calls: int = 0
    device_ms: float = 2.0
    device_spins: bool = False
    threads: int = 1
    prefetch: int = 4
    workers: bool = False
    warm: float | None = None
    cores: int = 0

    def faster(self, stage: str, by: float) -> Pipe:
        """The same with what is injected at a stage taking 1/`by` of its time; `by` = inf: nothing."""
        if stage == "fetch":
            return dataclasses.replace(self, fetch_ms=self.fetch_ms / by, throttle_ms=self.throttle_ms / by)
        if stage == "transform":
            return dataclasses.replace(self, transform_ms=self.transform_ms / by, heavy_ms=self.heavy_ms / by)
        return dataclasses.replace(self, device_ms=self.device_ms / by)

    def scaled(self, by: float, steps: float = 1.0) -> Pipe:
        """The same with every injected time `by` times as long, and `steps` times the steps."""
        times = ("fetch_ms", "throttle_ms", "transform_ms", "heavy_ms", "device_ms")
        longer = {name: getattr(self, name) * by for name in times}
        return dataclasses.replace(self, **longer, steps=max(8, round(self.steps * steps)))

    @property
    def injected(self) -> tuple[str, ...]:
        """The stages that take time because they are made to; "forward" is the device's."""
        names = []
        if self.fetch_ms or self.throttle_ms:
            names.append("fetch")
        if self.transform is not None and (self.transform_ms or self.heavy_ms):
            names.append("transform")
        if self.device_ms:
            names.append("forward")
        return tuple(names)
