"""audio_convert: sounds brought to one rate, number of channels and loudness, trimmed, and encoded anew.

What enters: `row_id`, `audio` (encoded bytes). What leaves: the same rows with `audio` as flac or wav, and
`sample_rate`, `frames`, `channels` and `seconds` of what it holds now. Invariant: a sound that the options would not
change keeps its bytes, whatever its format, unless `reencode` says otherwise; memory holds one
decoded sound at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.steps.audio_bytes import AUDIO, CHANNELS, FRAMES, RATE, SECONDS, sounds
from datapipe.steps.audio_check import SILENT
from datapipe.steps.audio_conditioning import Conditioning, conditioned
from datapipe.steps.audio_encoding import Container, Depth, check_encoding, encoded
from datapipe.steps.audio_reading import FAULTS, MAX_BYTES, AudioFault, read_head, read_sound
from datapipe.steps.columns import file_bytes, mark, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

LOUDNESS: Final = "audio_convert.loudness"


@dataclass(frozen=True, kw_only=True)
class AudioConvertOptions(Conditioning):
    """Options of audio_convert; without any, every sound stays as it is.

    Attributes:
        sample_rate: Hz; null: as it is.
        mono: mix the channels into one.
        trim_db: take off both ends what is so many dB below the loudest part; null: nothing.
        loudness: bring each sound to so many LUFS (EBU R 128: -23); null: as it is.
        format: "flac" or "wav", of sounds that are changed.
        depth: bits of a sample: "16", "24", or, in wav, "float" (32 bits).
        reencode: encode sounds anew that are not changed too: all files are then of one format.
        max_decoded_bytes: as of audio_check.
    """

    format: Container = "flac"
    depth: Depth = "16"
    reencode: bool = False
    max_decoded_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        check_encoding("audio_convert", self.format, self.depth)
        in_range("audio_convert.max_decoded_bytes", self.max_decoded_bytes, 1)


def audio_convert(table: pa.Table, keys: Keys, *, options: AudioConvertOptions) -> pa.Table:
    """Decode, change, encode.

    Args:
        table: `row_id: string, audio: binary` (or struct<bytes, path>).
        keys: not used.
        options: see AudioConvertOptions.

    Returns:
        The table with `audio: large_binary`, `sample_rate: int32`, `frames: int64`, `channels: int32`,
        `seconds: float64`; the signal is the loudness before (LUFS, float64), null where it was not measured. Rows that
        cannot be decoded are quarantined as by audio_check; one of which trimming leaves nothing is dropped as silent.

    Raises:
        ConfigError: there is no such column, or a package is not installed.
    """
    del keys
    import pyarrow as pa

    rows = [_row(data, options) for data in sounds(file_bytes(table, AUDIO))]
    columns: list[list[Any]] = [list(each) for each in zip(*rows, strict=True)] or [[] for _ in range(8)]
    audio, rates, frames, channels, loudness, dropped, reasons, details = columns
    seconds = [None if n is None else n / rate for n, rate in zip(frames, rates, strict=True)]
    for name, values, kind in (
        (AUDIO, audio, pa.large_binary()), (RATE, rates, pa.int32()), (FRAMES, frames, pa.int64()),
        (CHANNELS, channels, pa.int32()), (SECONDS, seconds, pa.float64()), (LOUDNESS, loudness, pa.float64()),
    ):  # fmt: skip
        table = set_column(table, name, pa.array(values, kind))
    table = mark(table, pa.array(dropped, pa.string()))
    if any(reasons):
        table = mark(table, pa.array(reasons, pa.string()), quarantine=True)
        table = set_column(table, DETAIL, pa.array(details, pa.string()))
    return table


def _row(data: bytes | None, options: AudioConvertOptions) -> tuple[Any, ...]:
    """Bytes, rate, frames, channels, loudness, reason to drop, reason to quarantine, detail."""
    try:
        head = read_head(data, max_bytes=options.max_decoded_bytes)
        same = not options.reencode and not options.changes(head.rate, head.channels)
        if same and head.exact:
            return data, head.rate, head.frames, head.channels, None, None, None, None
        sound = read_sound(data, max_bytes=options.max_decoded_bytes)
        if same:
            return data, sound.rate, sound.frames, sound.channels, None, None, None, None
        sound, loudness = conditioned(sound, options, max_bytes=options.max_decoded_bytes)
        if not sound.frames:
            return data, sound.rate, 0, sound.channels, loudness, SILENT, None, None
        data = encoded(sound, options.format, options.depth)
    except AudioFault as fault:
        return data, None, None, None, None, None, fault.reason, fault.detail
    return data, sound.rate, sound.frames, sound.channels, loudness, None, None, None


def build(options: AudioConvertOptions) -> Step:
    """The step with its options bound."""
    return partial(audio_convert, options=options)


SPEC: Final = StepSpec(
    name="audio_convert",
    version=1,
    kind="map",
    options=AudioConvertOptions,
    build=build,
    summary="sounds resampled, mixed to mono, trimmed, brought to a loudness, encoded as flac or wav",
    reasons=(*FAULTS, SILENT),
    needs=("row_id", AUDIO),
    gives=(AUDIO, RATE, FRAMES, CHANNELS, SECONDS),
    signals=(LOUDNESS,),
)
