"""augment_audio: samples changed by chance: shifted in time, louder or quieter, with noise; another way in each epoch.

What enters: `row_id`, `samples`, `sample_rate`. What leaves: the same rows, as many samples each, changed. Invariant:
what becomes of a sound is a function of it, the options and (seed, row id, epoch): the same offline and online, on any
number of threads, in batches of any size; each change draws by itself, so that one's options change nothing of
another's draws.

In this order. Shift: the sound moves by up to `shift_seconds`, and what it leaves is silent (or, `wrap`, what left the
other end). Noise: white, at a ratio of powers drawn in decibels. Gain: a factor drawn in decibels. Noise is the sum of
four independent uniform numbers of 16 bits (Irwin–Hall; its distribution function is within 0.01 of a normal one's
everywhere), made of the raw bits of numpy's SFC64, whose stream numpy promises to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ConfigError
from datapipe.steps.audio_bytes import RATE, SAMPLES
from datapipe.steps.columns import column, row_ids, set_column
from datapipe.steps.draws import bits, uniform
from datapipe.steps.log_mel import samples_of
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AugmentAudioOptions:
    """Options of augment_audio. A chance of 0 switches a change off.

    Attributes:
        shift_chance: chance of a row to be shifted.
        shift_seconds: by up to so much, either way.
        wrap: what leaves one end comes in at the other; false: silence does.
        noise_chance: chance of a row to be given noise.
        snr_low: least ratio of the sound's power to the noise's, dB.
        snr_high: the greatest.
        gain_chance: chance of a row to be given a gain.
        gain_low: least gain, dB.
        gain_high: the greatest.
    """

    shift_chance: float = 0.5
    shift_seconds: float = 0.1
    wrap: bool = False
    noise_chance: float = 0.5
    snr_low: float = 10.0
    snr_high: float = 30.0
    gain_chance: float = 0.5
    gain_low: float = -6.0
    gain_high: float = 6.0

    def __post_init__(self) -> None:
        for name in ("shift", "noise", "gain"):
            in_range(f"augment_audio.{name}_chance", getattr(self, f"{name}_chance"), 0, 1)
        in_range("augment_audio.shift_seconds", self.shift_seconds, 0)
        for low, high in (("snr_low", "snr_high"), ("gain_low", "gain_high")):
            in_range(f"augment_audio.{low}", getattr(self, low), -200, 200)
            in_range(f"augment_audio.{high}", getattr(self, high), -200, 200)
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"augment_audio.{low} = {getattr(self, low)}",
                    expected=f"at most augment_audio.{high}, {getattr(self, high)}",
                )


def augment_audio(table: pa.Table, keys: Keys, *, options: AugmentAudioOptions) -> pa.Table:
    """Change the samples.

    Args:
        table: `row_id: string, samples: list<float>` of one channel, `sample_rate: int32`.
        keys: seed and epoch.
        options: see AugmentAudioOptions.

    Returns:
        The table with `samples: large_list<float>`; they may exceed full scale.

    Raises:
        ConfigError: a column is not there, or a row has more than one channel.
    """
    import numpy as np
    import pyarrow as pa

    rows = samples_of(table)
    rates = column(table, RATE, pa.int32()).to_pylist()
    changes = Changes(row_ids(table).to_pylist(), keys, options)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([0 if row is None else len(row) for row in rows], out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.float32)
    for at, row in enumerate(rows):
        if row is not None:
            changes.make(at, row, rates[at] or 0, out[offsets[at] : offsets[at + 1]])
    missing = pa.array([row is None for row in rows]) if any(row is None for row in rows) else None
    values = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(out), mask=missing)
    return set_column(table, SAMPLES, values)


@final
class Changes:
    """What is drawn for each row of a batch."""

    def __init__(self, ids: Sequence[str], keys: Keys, options: AugmentAudioOptions) -> None:
        self._options = options
        self._on = {
            name: (uniform(ids, keys, f"augment_audio.{name}.on") < getattr(options, f"{name}_chance")).tolist()
            for name in ("shift", "noise", "gain")
        }
        self._how = {name: uniform(ids, keys, f"augment_audio.{name}").tolist() for name in ("shift", "noise", "gain")}
        self._seeds = bits(ids, keys, "augment_audio.noise.bits").tolist()

    def make(self, at: int, samples: Floats, rate: int, out: Floats) -> None:
        """Row number `at`, changed, into `out`: float32[n] as `samples`, which it must not share memory with."""
        import numpy as np

        options = self._options
        reach = options.shift_seconds * rate
        frames = round((2 * self._how["shift"][at] - 1) * reach) if self._on["shift"][at] else 0
        _shift(samples, frames, out, wrap=options.wrap)
        if self._on["noise"][at]:
            snr = options.snr_low + self._how["noise"][at] * (options.snr_high - options.snr_low)
            _add_noise(out, snr, self._seeds[at])
        if self._on["gain"][at]:
            gain = options.gain_low + self._how["gain"][at] * (options.gain_high - options.gain_low)
            out *= np.float32(10 ** (gain / 20))


def _shift(row: Floats, frames: int, out: Floats, *, wrap: bool) -> None:
    """`row` into `out`, later by so many frames (earlier, if below 0)."""
    n = len(row)
    if wrap and n:
        frames %= n
    frames = max(-n, min(n, frames))
    if frames >= 0:
        out[frames:] = row[: n - frames]
        out[:frames] = row[n - frames :] if wrap else 0
    else:
        out[:frames] = row[-frames:]
        out[frames:] = 0


def _add_noise(samples: Floats, snr: float, seed: int) -> None:
    """White noise, `snr` dB below the power of the samples; none to silence, of which it would be no ratio."""
    import numpy as np

    power = float(np.square(samples, dtype=np.float64).mean()) if len(samples) else 0.0
    if not power:
        return
    noise = white(len(samples), seed)
    noise *= np.float32((power / 10 ** (snr / 10)) ** 0.5)
    samples += noise


def white(n: int, seed: int) -> Floats:
    """Noise: n numbers of mean 0 and variance 1, by a seed of 64 bits."""
    import numpy as np

    words = np.random.SFC64(seed).random_raw(n)
    halves = words.view(np.uint16).reshape(n, 4)
    total = halves[:, 0].astype(np.float32)
    for part in (1, 2, 3):
        total += halves[:, part]
    # Of four uniform whole numbers below 2^16: mean 2 (2^16 - 1), variance 4 (2^32 - 1) / 12.
    total -= np.float32(2 * 65535)
    total *= np.float32((3 / (2**32 - 1)) ** 0.5)
    return total


def build(options: AugmentAudioOptions) -> Step:
    """The step with its options bound."""
    return partial(augment_audio, options=options)


SPEC: Final = StepSpec(
    name="augment_audio",
    version=1,
    kind="map",
    options=AugmentAudioOptions,
    build=build,
    summary="sounds shifted in time, given noise and gain by chance",
    needs=("row_id", SAMPLES, RATE),
    gives=(SAMPLES,),
)
