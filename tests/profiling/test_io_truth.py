"""Bytes by source: what events and the kernel's counters say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.events import HIT, MISS, REMOTE, STAGES
from datapipe.profiling.io_truth import io_truth, stalled_share
from datapipe.profiling.process_counters import Counters

MB = 1 << 20
FETCH = STAGES.index("fetch")


def readings(*disk, **more):
    return [Counters(at=i * 1000, read_disk=d, **more) for i, d in enumerate(disk)]


def test_each_source_is_told_apart(spans):
    """A hit is the cache's whatever lay behind it; a miss of a remote store is the network's; the rest is local."""
    spans.add("fetch", 10, 20, item=0, nbytes=4 * MB, flags=REMOTE)
    spans.add("fetch", 20, 30, item=1, nbytes=3 * MB, flags=MISS | REMOTE)
    spans.add("fetch", 30, 40, item=2, nbytes=2 * MB, flags=HIT | REMOTE)
    spans.add("fetch", 40, 50, item=3, nbytes=5 * MB)
    found = io_truth(spans.array(), FETCH, readings(0, 6 * MB), [(0, 1000)])
    total = found.total
    assert (total.network, total.cache, total.local) == (7 * MB, 2 * MB, 5 * MB)
    assert (total.disk, total.page_cache) == (6 * MB, 1 * MB)
    assert found.epochs == (total,)


def test_the_second_epoch_of_a_cold_run_is_warm(spans):
    """An epoch whose bytes the disk did not deliver came out of memory, and the profile warns that it measures that."""
    for epoch in range(2):
        for i in range(10):
            spans.add("fetch", epoch * 1000 + i * 50, epoch * 1000 + i * 50 + 20, item=i, nbytes=MB)
    found = io_truth(spans.array(), FETCH, readings(0, 10 * MB, 10 * MB), [(0, 1000), (1000, 2000)])
    assert [epoch.state for epoch in found.epochs] == ["cold", "warm"]
    assert "do not measure the storage" in found.warning


def test_a_run_that_stays_cold_is_not_warned_of(spans):
    for epoch in range(2):
        spans.add("fetch", epoch * 1000 + 10, epoch * 1000 + 900, item=epoch, nbytes=10 * MB)
    found = io_truth(spans.array(), FETCH, readings(0, 10 * MB, 20 * MB), [(0, 1000), (1000, 2000)])
    assert [epoch.state for epoch in found.epochs] == ["cold", "cold"]
    assert found.warning is None


def test_without_events_the_kernel_speaks(spans):
    """A loader that records no bytes: read calls against disk reads, and said to be so."""
    spans.add("step", 0, 10)
    counters = [Counters(at=0, read_disk=0, read_calls=0), Counters(at=10, read_disk=2 * MB, read_calls=8 * MB)]
    found = io_truth(spans.array(), FETCH, counters, [(0, 10)])
    assert not found.seen
    assert (found.total.disk, found.total.page_cache, found.read_calls) == (2 * MB, 6 * MB, 8 * MB)


def test_nothing_told_is_none(spans):
    """No events and no counters: no claim."""
    assert io_truth(spans.add("step", 0, 10).array(), FETCH, [Counters(at=0), Counters(at=10)], []) is None


def test_a_system_that_does_not_tell_calls_nothing_warm(spans):
    """Without disk counters neither cold nor warm is claimed."""
    spans.add("fetch", 10, 20, item=0, nbytes=4 * MB)
    assert io_truth(spans.array(), FETCH, [], []).total.state == "not told"


@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 50 * MB), st.sampled_from([0, HIT, MISS, REMOTE, HIT | REMOTE])), min_size=1
    ),
    disk=st.integers(0, 200 * MB),
)
def test_sources_always_sum_to_what_was_fetched(new_spans, sizes, disk):
    """Network, cache and local are every byte of every fetch together; disk and page cache share what lies near."""
    spans = new_spans()
    for i, (size, flags) in enumerate(sizes):
        spans.add("fetch", i * 10, i * 10 + 5, item=i, nbytes=size, flags=flags)
    found = io_truth(spans.array(), FETCH, readings(0, disk), [])
    total = found.total
    if found.seen:
        assert total.fetched == sum(size for size, _ in sizes)
        assert total.disk + total.page_cache == total.cache + total.local
    assert min(total.network, total.cache, total.local, total.disk, total.page_cache) >= 0


def test_pressure_is_a_share_of_the_wall():
    """PSI counts stalled time; over the readings' span it is a share, None where there is no PSI."""
    counters = [Counters(at=0, stalled=(0, 100, None)), Counters(at=1000, stalled=(0, 350, None))]
    assert stalled_share(counters, 1) == pytest.approx(0.25)
    assert stalled_share(counters, 2) is None
