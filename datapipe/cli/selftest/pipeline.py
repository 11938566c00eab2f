"""Runs a `Pipe`: generated Parquet on disk, the loader with its own threads, a loop with a fake device; recorded.

What enters: pipes. What leaves: a `Run` each: the raw run, its summary, the mean steady step.
Invariant: what is injected goes in below the recorder (a store that sleeps, a transform, a device that sleeps), by the
loader's public doors; the profiler is told nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, final

from datapipe.cli.selftest.injection import sleep, spin, transform_of
from datapipe.cli.selftest.machine_load import OtherPrograms
from datapipe.storage import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datapipe.cli.selftest.pipe import Pipe
    from datapipe.dataset import Dataset
    from datapipe.loader.dataloader import DataLoader
    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.summary import Summary
    from datapipe.storage.store import Parts

ROWS: Final = 256
"""Rows of a batch."""


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a pipe, as recorded.

    Attributes:
        device_ns: the mean that its device took, by the device's own clock, ns.
        others: cores that other programs used meanwhile; None where the system does not say.
    """

    raw: RawRun
    summary: Summary
    device_ns: float
    others: float | None = None

    @property
    def step_ns(self) -> float:
        """Mean steady step, ns."""
        return self.summary.step.mean if self.summary.step is not None else 0.0

    @property
    def looped_ns(self) -> float:
        """Mean step after the first ten, from the end of one to the end of the last; as `Bench.bare` has it."""
        series = self.summary.series
        ends = [start + total for start, total in zip(series.start_ns, series.total_ns, strict=True)]
        return (ends[-1] - ends[10]) / (len(ends) - 11)

    def spent(self, stage: str) -> float:
        """What is charged to a stage, ns per steady step: as wait, as a part of the step, or for the lock it held."""
        parts = {part.name: part.mean for part in (*self.summary.waits, *self.summary.parts)}
        locked = sum(each.mean for each in self.summary.lock_waits if each.stage == stage)
        return parts.get(stage, 0.0) + locked


@final
class Bench:
    """Generates datasets, once each, and runs pipes on them. `folder`: where they and caches go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._caches = 0
        self._read: set[Path] = set()

    def recorded(self, pipe: Pipe, *, out: Path | None = None, interval: float = 0.1) -> Run:
        """Run a pipe under a profile. `out`: its folder; None: nothing is written. `interval`: as `profile` has it."""
        import datapipe
        from datapipe.profiling.analysis import summarise

        device = spin if pipe.device_spins else sleep
        with OtherPrograms() as others, _cores(pipe.cores), contextlib.closing(self.loader(pipe)) as loader:
            took = []
            with datapipe.profile(out, interval=interval) as prof:
                for _ in prof.steps(loader):
                    with prof.phase("forward"):
                        began = time.perf_counter_ns()
                        device(pipe.device_ms)
                        took.append(time.perf_counter_ns() - began)
            mean = sum(took[1:]) / max(1, len(took) - 1)
            raw = prof.raw()
        return Run(raw=raw, summary=summarise(raw), device_ns=mean, others=others.cores)

    def bare(self, pipe: Pipe) -> float:
        """Run a pipe without a profile: the mean step after the first ten, ns."""
        device = spin if pipe.device_spins else sleep
        ends = []
        with _cores(pipe.cores), contextlib.closing(self.loader(pipe)) as loader:
            for _ in loader:
                device(pipe.device_ms)
                ends.append(time.perf_counter_ns())
        return (ends[-1] - ends[10]) / (len(ends) - 11)

    def decoding_ns(self, pipe: Pipe) -> float:
        """CPU time to decode the pipe's dataset once, ns."""
        dataset = self._dataset(dataclasses.replace(pipe, fetch_ms=0.0, throttle_ms=0.0, warm=None))
        began = time.process_time_ns()
        for i in range(len(dataset.row_groups)):
            dataset.fetch(i).decode()
        return float(time.process_time_ns() - began)

    def prepare(self, pipe: Pipe) -> None:
        """Make a pipe's dataset and read it once, unless it was: no run is the first to read what was just written."""
        if self.files(pipe) not in self._read:
            self._read.add(self.files(pipe))
            self.decoding_ns(pipe)

    def loader(self, pipe: Pipe) -> DataLoader:
        """The loader of a pipe."""
        import datapipe

        return datapipe.DataLoader(
            self._dataset(pipe), batch_size=ROWS, shuffle=True, seed=0, lanes=1, window=1, transform=transform_of(pipe),
            collate="numpy", num_threads=pipe.threads, prefetch=pipe.prefetch, autotune=False,
            workers="process" if pipe.workers else "thread",
        )  # fmt: skip

    def _dataset(self, pipe: Pipe) -> Dataset:
        import datapipe
        from datapipe.dataset import Dataset
        from datapipe.dataset.cached_store import CachedStore

        plain = datapipe.open_dataset(self.files(pipe))
        store: Store = SlowStore(plain.store, pipe.fetch_ms / 1e3, pipe.throttle_ms / 1e9)
        if pipe.warm is not None:
            self._caches += 1
            cache = datapipe.Cache(self._folder / f"cache-{self._caches}", max_bytes=1 << 30)
            kept = datapipe.open_dataset(self.files(pipe), cache=cache)
            assert isinstance(kept.store, CachedStore)
            warm = round(pipe.warm * len(kept.row_groups))
            # Which ones: spread evenly, for any share.
            for i in range(len(kept.row_groups)):
                if (i + 1) * warm // len(kept.row_groups) > i * warm // len(kept.row_groups):
                    kept.fetch(i).decode()
            kept.store.inner = store
            return kept
        return Dataset(store, plain.index, plain.schema, plain.fingerprint, plain.manifest, plain.schema.names)

    def files(self, pipe: Pipe) -> Path:
        """The folder of a pipe's dataset, made if it is not there: whatever the injection, the same bytes."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._folder / f"data-{pipe.steps}-{pipe.per_group}-{pipe.columns}-{pipe.codec}"
        if not folder.exists():
            random = np.random.default_rng(0)
            rows = ROWS * pipe.per_group
            groups = -(-pipe.steps // pipe.per_group)
            folder.mkdir(parents=True)
            names = [f"c{i}" for i in range(pipe.columns)]
            schema = pa.schema([(name, pa.list_(pa.float32(), 16)) for name in names])
            with pq.ParquetWriter(folder / "0.parquet", schema, compression=pipe.codec) as writer:
                for _ in range(groups):
                    values = [pa.array(np.round(random.standard_normal(rows * 16), 1), pa.float32()) for _ in names]
                    columns = [pa.FixedSizeListArray.from_arrays(each, 16) for each in values]
                    writer.write_table(pa.table(columns, schema=schema), row_group_size=rows)
        return folder


@contextlib.contextmanager
def _cores(count: int) -> Iterator[None]:
    """Only so many CPUs for this thread and those it starts, where the system can; 0: as it is."""
    if not count or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@final
class SlowStore(Store):
    """A store that takes `latency` seconds for a request and `per_byte` seconds for a byte, asleep."""

    def __init__(self, inner: Store, latency: float, per_byte: float) -> None:
        self._inner, self._latency, self._per_byte = inner, latency, per_byte
        self.url = inner.url

    def _answer(self, size: int) -> None:
        delay = self._latency + size * self._per_byte
        if delay > 0:
            time.sleep(delay)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """As the store's own."""
        return self._inner.list(prefix)

    def info(self, path: str) -> Entry:
        """As the store's own."""
        return self._inner.info(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The store's bytes, later."""
        data = self._inner.read(path, start, end)
        self._answer(len(data))
        return data

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], pinned: Entry | None = None) -> Parts:
        """The store's bytes, later: one request for all."""
        data = self._inner.read_ranges(path, ranges, pinned)
        self._answer(sum(map(len, data)))
        return data

    def tail(self, path: str, size: int) -> tuple[Entry, bytes]:
        """As the store's own: footers are read before the run."""
        return self._inner.tail(path, size)

    def open(self, path: str) -> BinaryIO:
        """As the store's own."""
        return self._inner.open(path)

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """As the store's own."""
        return self._inner.put(path, data)

    def put_file(self, path: str, source: str) -> Entry:
        """As the store's own."""
        return self._inner.put_file(path, source)

    def delete(self, path: str) -> None:
        """As the store's own."""
        self._inner.delete(path)
