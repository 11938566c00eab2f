"""log_mel: samples become a log-mel spectrogram.

What enters: `row_id`, `samples`, `sample_rate`. What leaves: the same rows with `mel`, a list of frames of `n_mels`
numbers, in place of `samples`. Invariant: a row's spectrogram is a function of its samples and the options alone, to
the last bit: of no other row in the batch, of no thread. So each row is transformed by itself, in stretches of fixed
length from its beginning, and the filters are summed in a fixed order (no BLAS).

    frames: n_fft samples about every hop-th one, the ends padded (so 1 + samples // hop of them), times a periodic Hann
    window; power |rfft|^2 or magnitude; filters (`mel_filters`); then the logarithm of what is at least `floor`

as librosa 0.11's `feature.melspectrogram` and torchaudio's `MelSpectrogram` have it: they differ in scale, norm and
padding, which are options here, with librosa's defaults.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.audio_bytes import RATE, SAMPLES
from datapipe.steps.columns import column, set_column
from datapipe.steps.mel_filters import Scale, mel_filters
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

    Floats = npt.NDArray[np.float32]

MEL: Final = "mel"
_STRETCH_BYTES: Final = 1 << 19
"""Of frames that are transformed together: they and their spectrum stay in a core's second cache."""


@dataclass(frozen=True, kw_only=True)
class LogMelOptions:
    """Options of log_mel; the defaults are those of speech at 16 kHz (25 ms every 10 ms).

    Attributes:
        sample_rate: Hz, of all rows.
        n_fft: samples of a frame.
        hop: samples from one frame to the next.
        n_mels: filters.
        f_min: Hz, where the first filter begins.
        f_max: Hz, where the last ends; null: half the rate.
        scale: "slaney" or "htk", of the mel scale.
        norm: "slaney": filters of equal area; "none": of equal height.
        power: 2: of the power spectrum; 1: of the magnitude.
        pad: what is beyond the ends: "constant" (zeros) or "reflect".
        log: "ln", "log10", "db" (10 log10), or "none".
        floor: smallest value of which the logarithm is taken.
        keep_samples: leave the samples beside the spectrogram.
    """

    sample_rate: int = 16000
    n_fft: int = 400
    hop: int = 160
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float | None = None
    scale: Scale = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    power: Literal[1, 2] = 2
    pad: Literal["constant", "reflect"] = "constant"
    log: Literal["ln", "log10", "db", "none"] = "ln"
    floor: float = 1e-10
    keep_samples: bool = False

    def __post_init__(self) -> None:
        in_range("log_mel.sample_rate", self.sample_rate, 100)
        in_range("log_mel.n_fft", self.n_fft, 2, 1 << 20)
        in_range("log_mel.hop", self.hop, 1)
        in_range("log_mel.n_mels", self.n_mels, 1, 4096)
        in_range("log_mel.f_min", self.f_min, 0, self.sample_rate / 2)
        in_range("log_mel.f_max", self.f_max, self.f_min, self.sample_rate / 2)
        in_range("log_mel.floor", self.floor, 1e-37)
        if self.highest <= self.f_min:
            raise ConfigError(f"log_mel.f_max = {self.highest} Hz", expected=f"above f_min, {self.f_min} Hz")

    @property
    def highest(self) -> float:
        """Hz, where the last filter ends."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max


def log_mel(table: pa.Table, keys: Keys, *, options: LogMelOptions) -> pa.Table:
    """Samples → spectrograms.

    Args:
        table: `row_id: string, samples: list<float>` of one channel, `sample_rate: int32`.
        keys: not used.
        options: see LogMelOptions.

    Returns:
        The table with `mel: large_list<fixed_size_list<float>[n_mels]>`: of n samples 1 + n // hop frames; a null row
        has none.

    Raises:
        ConfigError: a row has another rate, or more than one channel.
    """
    del keys
    import numpy as np
    import pyarrow as pa

    rows = samples_of(table)
    _check(table, options)
    counts = [0 if row is None else 1 + len(row) // options.hop for row in rows]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    out = np.empty((int(offsets[-1]), options.n_mels), np.float32)
    for row, start, end in zip(rows, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        if row is not None:
            spectrogram(row, options, out[start:end])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(out.reshape(-1)), options.n_mels)
    if not options.keep_samples:
        table = table.drop_columns([SAMPLES])
    return set_column(table, MEL, pa.LargeListArray.from_arrays(pa.array(offsets), frames))


def samples_of(table: pa.Table) -> list[Floats | None]:
    """Samples of each row, without a copy; None for a null.

    Raises:
        ConfigError: there is no such column, its type is another, or the samples of two channels take turns in it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column(table, SAMPLES, pa.large_list(pa.float32()))
    if "channels" in table.column_names and (most := pc.max(table.column("channels")).as_py()) and most > 1:
        raise ConfigError(
            f"samples of {most} channels",
            expected="one channel",
            fix="audio_decode: {mono: true}, which is its default",
        )
    rows: list[Floats | None] = []
    for chunk in values.chunks:
        flat = chunk.values.to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy().tolist()
        there = chunk.is_valid().to_pylist()
        rows += [flat[a:b] if ok else None for a, b, ok in zip(offsets[:-1], offsets[1:], there, strict=True)]
    return rows


def _check(table: pa.Table, options: LogMelOptions) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    rates = column(table, RATE, pa.int32())
    other = pc.filter(rates, pc.fill_null(pc.not_equal(rates, options.sample_rate), False))
    if len(other):
        raise ConfigError(
            f"sound of {other[0].as_py()} Hz, and log_mel.sample_rate = {options.sample_rate}",
            expected="one rate for all rows: the filters are made for it",
            fix=f"audio_decode: {{sample_rate: {options.sample_rate}}}",
        )


def spectrogram(samples: Floats, options: LogMelOptions, out: Floats) -> None:
    """Fill `out`, float32[1 + n // hop, n_mels], with the log-mel spectrogram of float32[n]."""
    import numpy as np
    from scipy.fft import rfft

    n_fft, hop = options.n_fft, options.hop
    if not len(samples):
        samples = np.zeros(1, np.float32)
    mode: Any = options.pad if len(samples) > 1 else "constant"
    padded = np.pad(samples, n_fft // 2, mode=mode)
    # Of an odd n_fft the last frame may lack a sample.
    if (lack := n_fft + hop * (len(out) - 1) - len(padded)) > 0:
        padded = np.pad(padded, (0, lack))
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop][: len(out)]
    window, filters = _window(n_fft), _filters(options)
    at_once = max(8, _STRETCH_BYTES // (4 * n_fft))
    for first in range(0, len(out), at_once):
        part = windows[first : first + at_once]
        # A column is a frame: neighbouring frames go through the FFT side by side, in one vector register.
        frames = np.empty((n_fft, len(part)), np.float32)
        np.multiply(part.T, window, out=frames)
        spectrum = rfft(frames, axis=0, overwrite_x=True)
        power = spectrum.real**2
        power += spectrum.imag**2
        if options.power == 1:
            np.sqrt(power, out=power)
        target = out[first : first + len(part)]
        target[...] = (filters @ power).T
        if options.log != "none":
            np.maximum(target, np.float32(options.floor), out=target)
            (np.log if options.log == "ln" else np.log10)(target, out=target)
            if options.log == "db":
                target *= np.float32(10)


@functools.lru_cache(maxsize=8)
def _window(n_fft: int) -> Floats:
    """Hann, periodic: float32[n_fft, 1]."""
    import numpy as np

    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)[:, None]


@functools.lru_cache(maxsize=8)
def _filters(options: LogMelOptions) -> Any:
    """The filters as a sparse matrix: a bin lies in two triangles at most, one in forty of a full one's weights."""
    from scipy.sparse import csr_array

    weights = mel_filters(
        options.sample_rate,
        options.n_fft,
        options.n_mels,
        options.f_min,
        options.highest,
        scale=options.scale,
        area=options.norm == "slaney",
    )
    return csr_array(weights)


def build(options: LogMelOptions) -> Step:
    """The step with its options bound."""
    return partial(log_mel, options=options)


SPEC: Final = StepSpec(
    name="log_mel",
    version=1,
    kind="map",
    options=LogMelOptions,
    build=build,
    summary="samples → log-mel spectrograms",
    needs=("row_id", SAMPLES, RATE),
    gives=(MEL,),
)
