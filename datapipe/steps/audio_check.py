"""audio_check: each sound is decoded once, measured, and kept only if it is whole and fit for use.

What enters: `row_id`, `audio` (encoded bytes). What leaves: the same rows, the bytes as they were, with `sample_rate`,
`frames`, `channels` and `seconds` as decoded (not as the header claims). Invariant: a row that stays can be decoded to
exactly these numbers; one that cannot is quarantined with its reason; one that a threshold speaks against is dropped
by `judge`, from stored signals, so that another threshold can be asked afterwards.

Levels are in dBFS of the largest sample (AES17: 0 dBFS is full scale; here of samples, not of a sine). A sample is
clipped at 32767/32768 of full scale and beyond: the last step of 16 bits. That 1% of a sound may be clipped, and that
one whose peak is below -60 dBFS (33 steps of 16 bits) is silent, are choices of ours; the thresholds are options.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.audio_bytes import AUDIO, CHANNELS, FRAMES, RATE, SECONDS, sounds
from datapipe.steps.audio_formats import CONTAINERS
from datapipe.steps.audio_reading import FAULTS, MAX_BYTES, AudioFault, Sound, peak_of, read_sound
from datapipe.steps.columns import file_bytes, mark, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, DROP, StepSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

TOO_SHORT: Final = "audio_too_short"
TOO_LONG: Final = "audio_too_long"
SILENT: Final = "audio_silent"
CLIPPED: Final = "audio_clipped"
FULL_SCALE: Final = 32767 / 32768
SIGNALS: Final = ("audio_check.seconds", "audio_check.peak_db", "audio_check.clipped")


@dataclass(frozen=True, kw_only=True)
class AudioCheckOptions:
    """Options of audio_check.

    Attributes:
        min_seconds: a shorter sound is dropped.
        max_seconds: a longer one is dropped; null: none is.
        min_peak_db: a sound whose largest sample is below is dropped as silent.
        max_clipped: share of clipped samples above which a sound is dropped.
        formats: containers that are taken; another is quarantined.
        max_decoded_bytes: of a sound's samples as float32; one that claims more is quarantined before it is decoded.
    """

    min_seconds: float = 0.0
    max_seconds: float | None = None
    min_peak_db: float = -60.0
    max_clipped: float = 0.01
    formats: tuple[str, ...] = CONTAINERS
    max_decoded_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        in_range("audio_check.min_seconds", self.min_seconds, 0)
        in_range("audio_check.max_seconds", self.max_seconds, self.min_seconds)
        in_range("audio_check.min_peak_db", self.min_peak_db)
        in_range("audio_check.max_clipped", self.max_clipped, 0, 1)
        in_range("audio_check.max_decoded_bytes", self.max_decoded_bytes, 1)
        unknown = [name for name in self.formats if name not in CONTAINERS]
        if unknown or not self.formats:
            raise ConfigError(
                f"audio_check.formats = {list(self.formats)}", expected=f"some of {', '.join(CONTAINERS)}"
            )


def audio_check(table: pa.Table, keys: Keys, *, options: AudioCheckOptions) -> pa.Table:
    """Decode and measure.

    Args:
        table: `row_id: string, audio: binary` (or struct<bytes, path>).
        keys: not used.
        options: see AudioCheckOptions.

    Returns:
        The table with `audio: large_binary`, `sample_rate: int32` (Hz), `frames: int64` (samples of each channel),
        `channels: int32`, `seconds: float64`, and the signals, float64: seconds, peak (dBFS, -inf for digital silence)
        and the share of clipped samples. Of a quarantined row all of these are null.

    Raises:
        ConfigError: there is no such column, or soundfile is not installed.
    """
    del keys
    import pyarrow as pa

    values = file_bytes(table, AUDIO)
    rows = [_row(data, options) for data in sounds(values)]
    columns: list[list[Any]] = [list(each) for each in zip(*rows, strict=True)] or [[] for _ in range(7)]
    rates, frames, channels, peaks, clipped, reasons, details = columns
    table = set_column(table, AUDIO, values)
    seconds = [None if n is None else n / rate for n, rate in zip(frames, rates, strict=True)]
    for name, column, kind in (
        (RATE, rates, pa.int32()), (FRAMES, frames, pa.int64()), (CHANNELS, channels, pa.int32()),
        (SECONDS, seconds, pa.float64()), (SIGNALS[0], seconds, pa.float64()), (SIGNALS[1], peaks, pa.float64()),
        (SIGNALS[2], clipped, pa.float64()),
    ):  # fmt: skip
        table = set_column(table, name, pa.array(column, kind))
    table = _marked(table, reasons, details)
    drops = judge(table, options)
    return table if drops.null_count == len(drops) else set_column(table, DROP, drops)


def _row(data: bytes | None, options: AudioCheckOptions) -> tuple[Any, ...]:
    """Rate, frames, channels, peak in dBFS, share of clipped samples, reason to quarantine, detail."""
    try:
        sound = read_sound(data, formats=options.formats, max_bytes=options.max_decoded_bytes)
        level, share = levels(sound)
    except AudioFault as fault:
        return None, None, None, None, None, fault.reason, fault.detail
    return sound.rate, sound.frames, sound.channels, 20 * math.log10(level) if level else -math.inf, share, None, None


def _marked(table: pa.Table, reasons: list[str | None], details: list[str | None]) -> pa.Table:
    import pyarrow as pa

    if not any(reasons):
        return table
    table = mark(table, pa.array(reasons, pa.string()), quarantine=True)
    return set_column(table, DETAIL, pa.array(details, pa.string()))


def levels(sound: Sound) -> tuple[float, float]:
    """The largest sample's size, and the share of clipped samples.

    Raises:
        AudioFault: a sample is no number, or infinite.
    """
    import numpy as np

    samples: npt.NDArray[np.float32] = sound.samples
    peak = peak_of(samples)
    if peak < FULL_SCALE:
        return peak, 0.0
    return peak, int(np.count_nonzero(np.abs(samples) >= FULL_SCALE)) / samples.size


def judge(signals: pa.Table, options: AudioCheckOptions) -> pa.Array:
    """Reasons by the stored signals: string[n], null where a row stays, or was quarantined."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seconds, peak, clipped = (signals.column(name) for name in SIGNALS)
    longest: Any = float("inf") if options.max_seconds is None else options.max_seconds
    faults = (
        (pc.less(seconds, options.min_seconds), TOO_SHORT),
        (pc.greater(seconds, longest), TOO_LONG),
        (pc.less(peak, options.min_peak_db), SILENT),
        (pc.greater(clipped, options.max_clipped), CLIPPED),
    )
    reasons: Any = pa.nulls(signals.num_rows, pa.string())
    for wrong, reason in reversed(faults):
        reasons = pc.if_else(pc.fill_null(wrong, False), pa.scalar(reason), reasons)
    return reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons


def build(options: AudioCheckOptions) -> Step:
    """The step with its options bound."""
    return partial(audio_check, options=options)


SPEC: Final = StepSpec(
    name="audio_check",
    version=1,
    kind="map",
    options=AudioCheckOptions,
    build=build,
    summary="sounds decoded and measured: broken ones quarantined, silent, clipped, short, long ones dropped",
    reasons=(*FAULTS, TOO_SHORT, TOO_LONG, SILENT, CLIPPED),
    needs=("row_id", AUDIO),
    gives=(AUDIO, RATE, FRAMES, CHANNELS, SECONDS),
    signals=SIGNALS,
    judge=judge,
    measured_by=("formats", "max_decoded_bytes"),
)
