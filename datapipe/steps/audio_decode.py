"""audio_decode: encoded sounds become samples, for the steps that learn from them or change them by chance.

What enters: `row_id`, `audio` (encoded bytes). What leaves: the same rows with `samples` in place of `audio`, and
`sample_rate`, `frames` and `channels` of them. Invariant: the same samples offline and online, and, of a sound that
audio_convert stored with the same options, the same but for the rounding to its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.steps.audio_bytes import AUDIO, CHANNELS, FRAMES, RATE, SAMPLES, sounds
from datapipe.steps.audio_check import SILENT
from datapipe.steps.audio_conditioning import Conditioning, conditioned
from datapipe.steps.audio_reading import FAULTS, MAX_BYTES, AudioFault, Sound, read_sound
from datapipe.steps.columns import file_bytes, mark, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


@dataclass(frozen=True, kw_only=True)
class AudioDecodeOptions(Conditioning):
    """Options of audio_decode.

    Attributes:
        sample_rate: Hz; null: as it is.
        mono: mix the channels into one; false: samples of the channels take turns.
        trim_db: take off both ends what is so many dB below the loudest part; null: nothing.
        loudness: bring each sound to so many LUFS; null: as it is.
        keep_audio: leave the encoded bytes beside the samples.
        max_decoded_bytes: as of audio_check.
    """

    mono: bool = True
    keep_audio: bool = False
    max_decoded_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("audio_decode.max_decoded_bytes", self.max_decoded_bytes, 1)


def audio_decode(table: pa.Table, keys: Keys, *, options: AudioDecodeOptions) -> pa.Table:
    """Bytes → samples.

    Args:
        table: `row_id: string, audio: binary` (or struct<bytes, path>).
        keys: not used.
        options: see AudioDecodeOptions.

    Returns:
        The table with `samples: large_list<float>` (full scale ±1), `sample_rate: int32`, `frames: int64` and
        `channels: int32`; rows are marked as by audio_convert, and have no samples then.

    Raises:
        ConfigError: there is no such column, or a package is not installed.
    """
    del keys
    import numpy as np
    import pyarrow as pa

    found = [_row(data, options) for data in sounds(file_bytes(table, AUDIO))]
    rows: list[Sound | None] = [each[0] for each in found]
    flat = [np.zeros(0, np.float32) if sound is None else sound.samples.reshape(-1) for sound in rows]
    offsets = np.zeros(len(flat) + 1, np.int64)
    np.cumsum([len(each) for each in flat], out=offsets[1:])
    values = flat[0] if len(flat) == 1 else np.concatenate([np.zeros(0, np.float32), *flat])
    if not options.keep_audio:
        table = table.drop_columns([AUDIO])
    for name, column in (
        (SAMPLES, pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))),
        (RATE, pa.array([None if sound is None else sound.rate for sound in rows], pa.int32())),
        (FRAMES, pa.array([None if sound is None else sound.frames for sound in rows], pa.int64())),
        (CHANNELS, pa.array([None if sound is None else sound.channels for sound in rows], pa.int32())),
    ):
        table = set_column(table, name, column)
    dropped, reasons, details = ([each[place] for each in found] for place in (1, 2, 3))
    table = mark(table, pa.array(dropped, pa.string()))
    if any(reasons):
        table = mark(table, pa.array(reasons, pa.string()), quarantine=True)
        table = set_column(table, DETAIL, pa.array(details, pa.string()))
    return table


def _row(data: bytes | None, options: AudioDecodeOptions) -> tuple[Sound | None, Any, Any, Any]:
    """The sound, reason to drop, reason to quarantine, detail."""
    try:
        sound = read_sound(data, max_bytes=options.max_decoded_bytes)
        sound, _ = conditioned(sound, options, max_bytes=options.max_decoded_bytes)
    except AudioFault as fault:
        return None, None, fault.reason, fault.detail
    return (sound, None, None, None) if sound.frames else (None, SILENT, None, None)


def build(options: AudioDecodeOptions) -> Step:
    """The step with its options bound."""
    return partial(audio_decode, options=options)


SPEC: Final = StepSpec(
    name="audio_decode",
    version=1,
    kind="map",
    options=AudioDecodeOptions,
    build=build,
    summary="encoded sounds → samples, at one rate, in one channel",
    reasons=(*FAULTS, SILENT),
    needs=("row_id", AUDIO),
    gives=(SAMPLES, RATE, FRAMES, CHANNELS),
)
