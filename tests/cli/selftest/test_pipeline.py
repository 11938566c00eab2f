"""The generated pipeline: what is injected is in it, and nothing else changes."""

from __future__ import annotations

import dataclasses

import pytest

from datapipe.cli.selftest.pipe import Pipe
from datapipe.cli.selftest.pipeline import Bench
from datapipe.events import HIT, MISS

MS = 1_000_000
PLAIN = Pipe(steps=12, device_ms=0.5)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def shortest(run, stage):
    spans = run.raw.spans
    mine = spans[spans["stage"] == run.raw.stages.index(stage)]
    return int((mine["end"] - mine["start"]).min())


def test_what_is_injected_is_there(bench):
    """A sleep never ends early: every fetch, transform and forward takes at least what was injected."""
    pipe = dataclasses.replace(PLAIN, fetch_ms=6.0, transform="sleep", transform_ms=3.0, device_ms=2.0)
    run = bench.recorded(pipe)
    assert run.summary.series.count == 12
    spans = run.raw.spans
    fetches = spans[spans["stage"] == run.raw.stages.index("fetch")]  # in pieces, where a footer was read meanwhile
    for item in range(6):
        mine = fetches[fetches["item"] == item]
        assert (mine["end"] - mine["start"]).sum() >= 6 * MS
    assert shortest(run, "transform") >= 3 * MS
    assert shortest(run, "forward") >= 2 * MS


@pytest.mark.parametrize("way", ["spin", "spin free"])
def test_a_spin_takes_cpu_time(bench, way):
    """CPU time as much as was asked for, and so at least as much wall."""
    run = bench.recorded(dataclasses.replace(PLAIN, transform=way, transform_ms=2.0))
    spans = run.raw.spans
    mine = spans[spans["stage"] == run.raw.stages.index("transform")]
    assert len(mine) >= 12  # the next epoch may have been begun
    assert mine["cpu"].min() >= 2 * MS


def test_a_throttle_goes_with_bytes(bench):
    pipe = dataclasses.replace(PLAIN, throttle_ms=50.0)
    run = bench.recorded(pipe)
    spans = run.raw.spans
    mine = spans[spans["stage"] == run.raw.stages.index("fetch")]
    assert all((mine["end"] - mine["start"]) >= 0.9 * 50 * mine["bytes"])  # 50 ms a MB are 50 ns a byte


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_cache_is_as_warm_as_asked(bench, share):
    """So large a share of the row groups are hits, and only those skip the storage's latency."""
    run = bench.recorded(dataclasses.replace(PLAIN, fetch_ms=4.0, warm=share))
    spans = run.raw.spans
    mine = spans[(spans["stage"] == run.raw.stages.index("fetch")) & (spans["item"] < 6)]  # of this epoch
    hits = mine["flags"] & HIT != 0
    assert len(mine) == 6
    assert hits.sum() == share * 6
    missed = mine[mine["flags"] & MISS != 0]
    assert all(missed["end"] - missed["start"] >= 4 * MS)


def test_the_same_rows_whatever_the_injection(bench):
    """Twice the run is twice the same row groups; without a profile it runs as well."""
    slow = dataclasses.replace(PLAIN, fetch_ms=1.0, transform="sleep", transform_ms=1.0, heavy_every=5, heavy_ms=2.0)
    plain, other = bench.recorded(PLAIN), bench.recorded(slow)
    assert plain.summary.samples == other.summary.samples == 12 * 256
    assert bench.bare(PLAIN) > 0
    assert bench.decoding_ns(PLAIN) > 0


def test_a_dataset_is_made_and_read_once_before_its_runs(tmp_path, monkeypatch):
    """Whatever is injected into the pipes that share it."""
    bench, read = Bench(tmp_path), []
    monkeypatch.setattr(Bench, "decoding_ns", lambda self, pipe: read.append(self.files(pipe)))
    for pipe in (PLAIN, dataclasses.replace(PLAIN, device_ms=9.0), dataclasses.replace(PLAIN, columns=2)):
        bench.prepare(pipe)
    assert read == [bench.files(PLAIN), bench.files(dataclasses.replace(PLAIN, columns=2))]
    assert all((folder / "0.parquet").is_file() for folder in read)
