"""What is done to a sound's samples before they are stored or learnt from: channels, rate, silence, loudness.

What enters: samples as decoded. What leaves: samples, in this order mixed to one channel, resampled, trimmed, brought
to a loudness; each only if asked for. Invariant: a function of the samples and the options alone, so that a sound that
was conditioned ahead of time has the samples that it would have had online (before they are rounded for storing).

- Mono is the mean of the channels.
- Resampling is by soxr at its setting HQ (the SoX resampler library, 20-bit precision; the default of librosa too), and
  not scipy.signal.resample_poly, whose default filter (a Kaiser window of beta 5) leaves what folds back 54 dB down.
- Trimming takes off what is `trim_db` below the loudest frame, at both ends: librosa 0.11, effects.trim (frames of 2048
  samples, every 512, root mean square).
- Loudness is ITU-R BS.1770-4 integrated loudness by pyloudnorm; EBU R 128 asks for -23 LUFS. One gain for the whole
  sound, less where its largest sample would exceed full scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.audio_reading import BOMB, MAX_BYTES, AudioFault, Sound
from datapipe.steps.options import in_range

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FRAME: Final = 2048
_HOP: Final = 512
_BLOCK_SECONDS: Final = 0.4
"""BS.1770-4's gating block: a shorter sound has no loudness."""
_MOST_MEASURED: Final = 5
"""Channels that BS.1770-4, table 3, has weights for."""
_FEWEST_MEASURED: Final = 4000
"""Hz: BS.1770's first filter turns at 1,682 Hz, which a lower rate does not hold."""
_FEWEST_HZ: Final = 100
_MOST_HZ: Final = 768_000


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Options that steps share.

    Attributes:
        sample_rate: Hz; null: as it is.
        mono: mix the channels into one.
        trim_db: take off both ends what is so many dB below the loudest part; null: nothing.
        loudness: bring it to so many LUFS; null: as it is. A sound of less than 0.4 s, of silence, of more than five
            channels or of less than 4 kHz has no loudness, and stays as it is.
    """

    sample_rate: int | None = None
    mono: bool = False
    trim_db: float | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        in_range("sample_rate", self.sample_rate, _FEWEST_HZ, _MOST_HZ)
        in_range("trim_db", self.trim_db, 1, 200)
        in_range("loudness", self.loudness, -70, 0)

    def changes(self, rate: int, channels: int) -> bool:
        """Whether a sound of this rate and so many channels would be changed at all."""
        other = self.sample_rate is not None and self.sample_rate != rate
        return other or (self.mono and channels > 1) or self.trim_db is not None or self.loudness is not None


def conditioned(
    sound: Sound, options: Conditioning, *, max_bytes: int = MAX_BYTES
) -> tuple[Sound, float | None]:  # fmt: skip
    """The sound as asked for, and the loudness that it had (LUFS), if that was asked for and it had one.

    It may have no frames left: if all of it is silence, or it was shorter than a step of the new rate.

    Args:
        max_bytes: of the samples at the new rate: a header may claim one frame a second.

    Raises:
        AudioFault: it would have more.
        ConfigError: a package that is needed is not installed.
    """
    measured: float | None = None
    if options.mono and sound.channels > 1:
        sound = replace(sound, samples=_mixed(sound.samples))
    if options.sample_rate is not None and options.sample_rate != sound.rate:
        sound = _resampled(sound, options.sample_rate, max_bytes)
    if options.trim_db is not None:
        first, last = loud_part(sound.samples, options.trim_db)
        sound = replace(sound, samples=sound.samples[first:last])
    if options.loudness is not None and (measured := loudness_of(sound)) is not None:
        gain = 10 ** ((options.loudness - measured) / 20)
        peak = max(float(sound.samples.max()), -float(sound.samples.min()))
        sound = replace(sound, samples=sound.samples * sound.samples.dtype.type(min(gain, 1 / peak)))
    return sound, measured


def _mixed(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import numpy as np

    total = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):  # one pass each: a mean over an axis of two is ten times slower
        total += samples[:, channel]
    total *= np.float32(1 / samples.shape[1])
    return total[:, None]


def _resampled(sound: Sound, rate: int, max_bytes: int) -> Sound:
    if sound.samples.nbytes * rate > max_bytes * sound.rate:
        raise AudioFault(BOMB, f"{sound.frames:,} frames of {sound.rate:,} Hz, at {rate:,} Hz")
    try:
        import soxr
    except ImportError as error:
        raise ConfigError(
            f"soxr cannot be imported ({error})",
            expected="the package that resamples",
            fix="pip install 'datapipe-toolkit[audio]'",
        ) from error
    return Sound(samples=soxr.resample(sound.samples, sound.rate, rate, quality="HQ"), rate=rate)


def loud_part(samples: npt.NDArray[np.float32], top_db: float) -> tuple[int, int]:
    """First frame and the one after the last of what is not silent at the ends; (0, 0) for digital silence.

    Args:
        samples: float32[frames, channels]; of several channels the loudest counts.
        top_db: below the loudest frame.
    """
    import numpy as np

    if not len(samples):
        return 0, 0
    padded = np.pad(samples, ((_FRAME // 2, _FRAME // 2), (0, 0)))
    power = np.zeros(1 + (len(padded) - _FRAME) // _HOP)
    for channel in range(samples.shape[1]):
        energy = np.concatenate([[0.0], np.cumsum(np.square(padded[:, channel], dtype=np.float64))])
        starts = np.arange(len(power)) * _HOP
        power = np.maximum(power, energy[starts + _FRAME] - energy[starts])
    loudest = power.max()
    if loudest <= 0:
        return 0, 0
    loud = np.flatnonzero(power > loudest * 10 ** (-top_db / 10))
    return int(loud[0]) * _HOP, min(len(samples), (int(loud[-1]) + 1) * _HOP)


def loudness_of(sound: Sound) -> float | None:
    """LUFS (BS.1770-4, integrated); None where it has none: see `Conditioning.loudness`.

    Raises:
        ConfigError: pyloudnorm is not installed.
    """
    import numpy as np

    if sound.frames < _BLOCK_SECONDS * sound.rate or sound.channels > _MOST_MEASURED or sound.rate < _FEWEST_MEASURED:
        return None
    try:
        import pyloudnorm
    except ImportError as error:
        raise ConfigError(
            f"pyloudnorm cannot be imported ({error})",
            expected="the package that measures loudness",
            fix="pip install 'datapipe-toolkit[audio]'",
        ) from error
    with np.errstate(all="ignore"):  # silence is -inf LUFS; what overflows is not finite
        measured = float(pyloudnorm.Meter(sound.rate).integrated_loudness(sound.samples))
    return measured if np.isfinite(measured) else None
