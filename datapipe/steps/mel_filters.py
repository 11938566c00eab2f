"""The mel scale, and the bank of triangular filters that maps a power spectrum to it.

What enters: a rate, an FFT length, how many filters, between which frequencies. What leaves: weights. Invariant: the
weights of librosa 0.11's `filters.mel` (and, with scale "htk" and no norm, of torchaudio's `melscale_fbanks`) to within
the rounding of float32.

- "htk": mel = 2595 log10(1 + f/700) (Young et al., The HTK Book 3.4, section 5.4; O'Shaughnessy 1987).
- "slaney": linear below 1 kHz (3 mel for every 200 Hz), logarithmic above, 27 mel for every factor of 6.4 (Slaney 1998,
  Auditory Toolbox, Interval Research TR 1998-010).
- norm "slaney": each triangle has the area 1 in Hz: 2 / (upper edge - lower edge) at its top.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Scale = Literal["slaney", "htk"]

_HZ_PER_MEL: Final = 200.0 / 3
_BREAK_HZ: Final = 1000.0
_BREAK_MEL: Final = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP: Final = math.log(6.4) / 27.0


def mel_of(hz: Any, scale: Scale) -> Floats:
    """Mel of frequencies in Hz."""
    import numpy as np

    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    high = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.asarray(np.where(hz >= _BREAK_HZ, high, hz / _HZ_PER_MEL))


def hz_of(mel: Any, scale: Scale) -> Floats:
    """Frequencies in Hz of mel: the inverse of `mel_of`."""
    import numpy as np

    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    high = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.asarray(np.where(mel >= _BREAK_MEL, high, mel * _HZ_PER_MEL))


def mel_filters(
    rate: int, n_fft: int, n_mels: int, low: float, high: float, *, scale: Scale = "slaney", area: bool = True
) -> npt.NDArray[np.float32]:
    """Weights, float32[n_mels, n_fft // 2 + 1].

    Args:
        rate: Hz. low, high: the outer edges in Hz. area: norm "slaney"; False: each triangle's top is 1.
    """
    import numpy as np

    bins = np.fft.rfftfreq(n_fft, 1.0 / rate)
    edges = hz_of(np.linspace(mel_of(low, scale), mel_of(high, scale), n_mels + 2), scale)
    width = np.diff(edges)
    slopes = edges[:, None] - bins[None, :]
    weights = np.maximum(0.0, np.minimum(-slopes[:-2] / width[:-1, None], slopes[2:] / width[1:, None]))
    if area:
        weights *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return weights.astype(np.float32)
