"""Memory over time: leaks are told from noise, jumps and caches that fill up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.profiling.memory_use import mann_kendall, memory_use, theil_sen
from datapipe.profiling.process_counters import Counters

MB = 1 << 20
GB = 1 << 30


def steps_until(counters, per_second=10):
    """When each of so many steps a second ended, ns."""
    return np.arange(0, counters[-1].at + 1, 10**9 // per_second).tolist()


def use(values, *, limit=None, seconds=0.5, steps=None, **more):
    counters = [
        Counters(at=round(i * seconds * 1e9), resident=int(v), anonymous=int(v), **more) for i, v in enumerate(values)
    ]
    return memory_use(counters, limit, began=0, steps=steps_until(counters) if steps is None else steps)


def grown(found, kind="anonymous"):
    return next(each for each in found.growth if each.kind == kind)


def noisy(shape, seed=0, size=5 * MB):
    return np.asarray(shape) + np.random.default_rng(seed).normal(0, size, len(shape))


def test_a_leak_is_named_with_its_rate():
    """1 MiB a step for 200 s: a leak, its slope right within the noise, per second and per step."""
    found = use(noisy(300 * MB + np.arange(400) * 5 * MB))
    assert grown(found).leak
    assert grown(found).per_second == pytest.approx(10 * MB, rel=0.02)
    assert grown(found).per_step == pytest.approx(MB, rel=0.02)
    assert "grows steadily" in found.warnings[0]


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(np.full(400, 500 * MB), id="flat"),
        pytest.param(np.where(np.arange(400) < 200, 300 * MB, 900 * MB), id="one jump"),
        pytest.param(300 * MB + 600 * MB * (1 - np.exp(-np.arange(400) / 60)), id="a cache that fills up"),
        pytest.param(500 * MB + 200 * MB * np.sin(np.arange(400) / 10), id="waves"),
        pytest.param(500 * MB + np.arange(400) * 10_000, id="growth too small to matter"),
    ],
)
def test_what_is_no_leak_is_not_called_one(shape):
    """Noise, one jump, a filling cache, the rise and fall of epochs, and pages of growth raise no alarm."""
    for seed in range(5):
        found = use(noisy(shape, seed))
        assert not any(each.leak for each in found.growth)
        assert found.warnings == ()


def test_too_few_readings_are_not_judged():
    assert use(300 * MB + np.arange(10) * 100 * MB).growth == ()


@pytest.mark.parametrize(
    ("steps", "judged"),
    [
        pytest.param([], False, id="no steps"),
        pytest.param(range(0, 40 * 10**9, 10**9), False, id="too few steps"),
        pytest.param(range(70 * 10**9, 75 * 10**9, 10**7), False, id="too few seconds after a long start-up"),
        pytest.param(range(10**9, 100 * 10**9, 10**9), True, id="enough"),
    ],
)
def test_growth_is_judged_among_enough_steady_steps(steps, judged):
    """A script that imports and prints grows without a step; so does what runs before the steps of one that trains."""
    found = use(300 * MB + np.arange(200) * 5 * MB, limit=(8 * GB, "the machine"), steps=list(steps))
    assert bool(found.growth) is judged
    assert bool(found.warnings) is judged


def test_start_up_is_no_growth_of_the_steps():
    """50 s of imports and first batches that grow, then steps that keep nothing: no alarm, and a slope of nothing."""
    found = use(
        noisy(np.minimum(np.arange(300) * 10 * MB, 1000 * MB)), steps=list(range(50 * 10**9, 150 * 10**9, 10**8))
    )
    assert not grown(found).leak
    assert abs(grown(found).per_second) < MB
    assert found.warnings == ()


def test_a_leak_of_steps_whose_pace_changes_is_found():
    """1 MiB a step, at 20 steps a second and then at 4, as on a machine that others come to use: a leak per step."""
    ends = np.cumsum(np.repeat([5 * 10**7, 25 * 10**7], 500))
    values = 300 * MB + np.searchsorted(ends, np.arange(290) * 5 * 10**8) * MB
    found = use(noisy(values, size=MB), steps=ends.tolist())
    assert grown(found).leak
    assert grown(found).per_step == pytest.approx(MB, rel=0.02)


def test_growth_that_slows_down_is_a_cache_that_fills():
    """After a fifth left out it grows at 5 MiB a reading, from the middle on at 2: what fills up need not be full."""
    pace = np.where(np.arange(400) < 240, 5 * MB, 2 * MB)
    assert not grown(use(noisy(300 * MB + np.cumsum(pace)))).leak


def test_a_leak_foretells_when_memory_is_used_up():
    """Limit and rate give the time that is left, from the last reading on."""
    found = use(300 * MB + np.arange(400) * 5 * MB, limit=(8 * GB, "the control group"))
    left = 8 * GB - (300 + 399 * 5) * MB
    assert found.full_in == pytest.approx(left / (10 * MB), rel=0.02)
    assert "the control group" in found.warnings[1]


def test_a_full_limit_is_warned_of():
    """No growth, and 95% of the limit in use."""
    found = use(np.full(50, 950 * MB), limit=(1000 * MB, "the control group"))
    assert "nearly used up" in found.warnings[0]


def test_workers_and_device_are_watched_too():
    """A leak in worker processes, or on the device, is named as theirs."""
    counters = [
        Counters(at=i * 10**9, resident=GB, anonymous=GB, workers=i * 20 * MB, device=i * 30 * MB, device_free=GB)
        for i in range(100)
    ]
    found = memory_use(counters, None, began=0, steps=steps_until(counters))
    assert {each.kind for each in found.growth if each.leak} == {"workers", "device"}
    assert found.peak == GB + 99 * 20 * MB


def test_a_system_that_tells_nothing_gives_none():
    assert memory_use([Counters(at=0), Counters(at=1)], None, began=0, steps=()) is None


@given(st.floats(-1e6, 1e6), st.floats(-1e9, 1e9), st.integers(0, 4))
def test_theil_sen_withstands_wild_points(slope, level, wild):
    """The slope of a line is found exactly although a fifth of its points lie anywhere."""
    x = np.arange(24.0)
    y = level + slope * x
    y[np.arange(wild) * 5 + 2] += 1e12
    assert theil_sen(x, y) == pytest.approx(slope, abs=max(1e-3, abs(slope) * 0.3) if not wild else 2e12 / 20)
    if not wild:
        assert theil_sen(x, y) == pytest.approx(slope, rel=1e-6, abs=1e-3)


def test_mann_kendall_is_scipys_kendall_against_time():
    """The p of our trend test is that of Kendall's tau against time, which SciPy computes independently."""
    stats = pytest.importorskip("scipy.stats")
    for seed in range(5):
        y = np.random.default_rng(seed).normal(0, 1, 40) + np.arange(40) * 0.02
        theirs = stats.kendalltau(np.arange(40), y, method="asymptotic").pvalue
        assert mann_kendall(y) == pytest.approx(theirs, rel=0.15)


@pytest.mark.cuda
def test_a_device_tells_its_bytes():
    """Once the run has started the device, its bytes are read: those held grow by what is allocated."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from datapipe.profiling.process_counters import read_counters

    torch.empty(1, device="cuda")
    before = read_counters()
    held = torch.empty(64 * MB, dtype=torch.uint8, device="cuda")
    pinned = torch.empty(64 * MB, dtype=torch.uint8, pin_memory=True)
    after = read_counters()
    assert after.device - before.device >= held.nbytes
    assert after.pinned is None or after.pinned - (before.pinned or 0) >= pinned.nbytes
    assert after.device_free <= before.device_free - held.nbytes
