"""augment_audio and spec_augment: chance by (seed, epoch, row id) alone, and of the size that was asked for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from test_log_mel import table_of

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.augment_audio import white

OFF = {"shift_chance": 0.0, "noise_chance": 0.0, "gain_chance": 0.0}


def made(rows, keys=Keys(), **options):  # noqa: B008  (frozen)
    out = run_steps(table_of(rows), [bind("augment_audio", options)], keys).table["samples"]
    return [np.array(row, np.float32) for row in out.to_pylist()]


def waves(n=40, size=2000):
    return [np.sin(np.arange(size) * (0.05 + 0.001 * i)).astype(np.float32) for i in range(n)]


def test_keyed():
    """The same keys give the same bits in any batch, another epoch or seed others; nothing asked, nothing done."""
    rows = waves()
    first = made(rows, Keys(seed=1))
    ran = run_steps(table_of(rows).slice(10, 5), [bind("augment_audio")], Keys(seed=1)).table["samples"]
    assert all(np.array_equal(a, b) for a, b in zip(ran.to_pylist(), first[10:15], strict=True))
    for other in (Keys(seed=1, epoch=1), Keys(seed=2)):
        changed = [not np.array_equal(a, b) for a, b in zip(made(rows, other), first, strict=True)]
        assert sum(changed) > 20
    assert all(np.array_equal(a, b) for a, b in zip(made(rows, **OFF), rows, strict=True))


def test_each_change_is_what_it_says():
    """Noise is at the ratio asked for, gain in its range, a shift moves without a gap; draws are independent."""
    rows = waves()
    for row, noisy in zip(
        rows, made(rows, **{**OFF, "noise_chance": 1.0, "snr_low": 12.0, "snr_high": 12.0}), strict=True
    ):
        noise = noisy - row
        assert 10 * np.log10(np.square(row).mean() / np.square(noise).mean()) == pytest.approx(12, abs=0.5)
    louder = made(rows, **{**OFF, "gain_chance": 1.0, "gain_low": -3.0, "gain_high": 6.0})
    gains = [20 * np.log10(np.abs(b).max() / np.abs(a).max()) for a, b in zip(rows, louder, strict=True)]
    assert -3 <= min(gains) < 0
    assert 3 < max(gains) <= 6
    for wrap in (False, True):
        moved = made(rows, **{**OFF, "shift_chance": 1.0, "shift_seconds": 0.05, "wrap": wrap})
        by = [shift_between(row, each, wrap=wrap) for row, each in zip(rows, moved, strict=True)]
        assert min(by) < -200
        assert max(by) > 200
    # Each draws by itself: with noise switched on, the gains are the same.
    quiet = {"noise_chance": 1.0, "snr_low": 90.0, "snr_high": 90.0}
    both = made(rows, **{**OFF, "gain_chance": 1.0, "gain_low": -3.0, "gain_high": 6.0, **quiet})
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(both, louder, strict=True))


def shift_between(row, moved, *, wrap):
    """By how many frames `moved` is later than `row`; what that left is silent, or with `wrap` the other end."""
    size = len(row)
    for by in range(-800, 801):
        if np.array_equal(moved[max(0, by) : size + min(0, by)], row[max(0, -by) : size + min(0, -by)]):
            left = slice(0, by) if by >= 0 else slice(size + by, size)
            rest = np.roll(row, by)[left] if wrap else np.zeros(abs(by), np.float32)
            assert np.array_equal(moved[left], rest)
            return by
    raise AssertionError


def test_odd_rows():
    """Silence gets no noise, nothing stays nothing, a null stays null, and a shift may be longer than the sound."""
    loud = {"noise_chance": 1.0, "shift_chance": 1.0, "shift_seconds": 9.0}
    out = run_steps(table_of([[0.0] * 50, [], None, [1.0]]), [bind("augment_audio", loud)], Keys()).table["samples"]
    assert out.to_pylist()[:3] == [[0.0] * 50, [], None]
    with pytest.raises(ConfigError, match="snr_low"):
        bind("augment_audio", {"snr_low": 20.0, "snr_high": 10.0})


def test_noise_is_white_and_stays_what_it_is():
    """Mean 0, variance 1, no echo of itself; and the same numbers in every version of numpy."""
    noise = white(100_000, 7)
    assert abs(noise.mean()) < 0.01
    assert noise.var() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.01
    assert white(3, 1).tolist() == pytest.approx([0.64122, -0.487483, 1.055468], abs=1e-6)


def spectrograms(lengths, n_mels=20):
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, n_mels)).tolist() for n in lengths]
    ids = [f"s{i}" for i in range(len(rows))]
    return pa.table({"row_id": ids, "mel": pa.array(rows, pa.large_list(pa.list_(pa.float32(), n_mels)))})


def masked(table, keys=Keys(), **options):  # noqa: B008  (frozen)
    return run_steps(table, [bind("spec_augment", options)], keys).table["mel"]


def test_spec_augment():
    """Masks are bands and stretches within their limits, filled with the row's mean, keyed, the same in any batch."""
    table = spectrograms([50, 1, 0, 33, 80] * 6)
    options = {"bands": 1, "band_width": 5, "stretches": 1, "stretch_width": 10, "stretch_share": 0.5}
    out = masked(table, **options)
    assert masked(table.slice(7, 9), **options).equals(out.slice(7, 9))
    assert not masked(table, Keys(epoch=1), **options).equals(out)
    bands, stretches = set(), set()
    for before, after in zip(table["mel"].to_pylist(), out.to_pylist(), strict=True):
        a, b = np.array(before, np.float32).reshape(-1, 20), np.array(after, np.float32).reshape(-1, 20)
        changed = a != b
        if not len(a):
            continue
        assert np.allclose(b[changed], a.mean(dtype=np.float64), atol=1e-6)
        whole_bands, whole_frames = changed.all(axis=0), changed.all(axis=1)
        assert np.array_equal(changed, whole_bands[None, :] | whole_frames[:, None])
        if len(a) > 20:
            bands.add(int(whole_bands.sum()))
            stretches.add(int(whole_frames.sum()))
            for line in (whole_bands, whole_frames):
                assert np.count_nonzero(np.diff(line.astype(int))) <= 2, "one stretch without a gap"
    assert max(bands) <= 5 < max(stretches) <= 10
    assert 5 in bands
    assert min(bands) < 2
    assert masked(table, bands=0, stretches=0).equals(table["mel"])
    zero = masked(table, fill="zero", bands=3).to_pylist()
    assert 0.0 in np.array(zero[0])
