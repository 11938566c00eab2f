"""audio_windows: sounds of any length become windows of one length, each a row.

What enters: `row_id`, `audio` (encoded bytes), and whatever else. What leaves, as new rows: `row_id` of the sound with
"#" and the frame where the window begins, `audio` (the window, encoded), `sample_rate`, `frames`, `channels`,
`seconds`, `start_frame`, and the other columns of the sound (its label) once for each window. Invariant: without
overlap, padding and dropped ends, the windows of a sound one after the other are its samples; windows come in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import StepError
from datapipe.steps.audio_bytes import AUDIO, CHANNELS, FRAMES, RATE, SECONDS, sounds
from datapipe.steps.audio_encoding import Container, Depth, check_encoding, encoded
from datapipe.steps.audio_reading import MAX_BYTES, AudioFault, read_sound
from datapipe.steps.columns import file_bytes, row_ids, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.steps.audio_reading import Sound
    from datapipe.steps.step import Keys, Step

START: Final = "start_frame"


@dataclass(frozen=True, kw_only=True)
class AudioWindowsOptions:
    """Options of audio_windows.

    Attributes:
        seconds: of a window.
        every: seconds from the beginning of one window to that of the next; null: `seconds`, so that none overlap.
        tail: the end of a sound that fills no window: "drop", "keep" (a shorter window) or "pad" (with silence). With
            "drop" a shorter sound has no window and is counted; `audio_check: {min_seconds: …}` drops it with a reason.
        format: "flac" or "wav".
        depth: bits of a sample: "16", "24", or, in wav, "float".
        max_decoded_bytes: as of audio_check.
    """

    seconds: float = 10.0
    every: float | None = None
    tail: Literal["drop", "keep", "pad"] = "keep"
    format: Container = "flac"
    depth: Depth = "16"
    max_decoded_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        in_range("audio_windows.seconds", self.seconds, 1e-3)
        in_range("audio_windows.every", self.every, 1e-3)
        check_encoding("audio_windows", self.format, self.depth)


def audio_windows(table: pa.Table, keys: Keys, *, options: AudioWindowsOptions) -> pa.Table:
    """Sounds → windows.

    Args:
        table: `row_id: string, audio: binary` (or struct<bytes, path>), and others, which are carried along.
        keys: not used.
        options: see AudioWindowsOptions.

    Returns:
        The windows: `row_id: string`, `audio: large_binary`, `sample_rate: int32`, `frames: int64`, `channels: int32`,
        `seconds: float64`, `start_frame: int64`, and the other columns.

    Raises:
        ConfigError: there is no such column, or a package is not installed.
        StepError: a sound cannot be decoded: audio_check, put before this step, quarantines it.
    """
    del keys
    import pyarrow as pa

    ids = row_ids(table).to_pylist()
    found: list[tuple[Any, ...]] = []
    for number, data in enumerate(sounds(file_bytes(table, AUDIO))):
        try:
            sound = read_sound(data, max_bytes=options.max_decoded_bytes)
        except AudioFault as fault:
            raise StepError(
                f"the sound of row {ids[number]} cannot be decoded: {fault.reason} ({fault.detail})",
                expected="sounds that can be",
                fix="put the step audio_check before audio_windows",
            ) from fault
        for start, window in _windows(sound, options):
            stored = encoded(window, options.format, options.depth)
            window_id = f"{ids[number]}#{start}"
            found.append((number, window_id, stored, window.rate, window.frames, window.channels, start))
    columns: list[list[Any]] = [list(each) for each in zip(*found, strict=True)] or [[] for _ in range(7)]
    numbers, row_id, audio, rates, frames, channels, starts = columns
    seconds = [n / rate for n, rate in zip(frames, rates, strict=True)]
    rest = table.drop_columns([AUDIO]).take(pa.array(numbers, pa.int64()))
    for name, values, kind in (
        ("row_id", row_id, pa.string()), (AUDIO, audio, pa.large_binary()), (RATE, rates, pa.int32()),
        (FRAMES, frames, pa.int64()), (CHANNELS, channels, pa.int32()), (SECONDS, seconds, pa.float64()),
        (START, starts, pa.int64()),
    ):  # fmt: skip
        rest = set_column(rest, name, pa.array(values, kind))
    return rest


def _windows(sound: Sound, options: AudioWindowsOptions) -> Iterator[tuple[int, Sound]]:
    """(first frame, window) of each window."""
    import numpy as np

    size = max(1, round(options.seconds * sound.rate))
    every = max(1, round((options.every or options.seconds) * sound.rate))
    for start in range(0, sound.frames, every):
        part = sound.samples[start : start + size]
        # An end that an earlier window holds already, of windows that overlap, is no end that would be lost.
        seen = start > 0 and start - every + size >= sound.frames
        if len(part) < size:
            if seen or options.tail == "drop":
                return
            if options.tail == "pad":
                part = np.pad(part, ((0, size - len(part)), (0, 0)))
        yield start, replace(sound, samples=part)


def windows_counts(table: pa.Table, windows: pa.Table) -> dict[str, int]:
    """What cutting cost, for the report.

    Args:
        table: what `audio_windows` was given. windows: what it gave.

    Returns:
        "audio_windows.no_window": sounds of which there is no window, because they are shorter than one.
    """
    import pyarrow.compute as pc

    # Every other sound has one window that begins where it begins.
    begun = pc.sum(pc.equal(windows.column(START), 0)).as_py() or 0
    return {"audio_windows.no_window": table.num_rows - begun}


def build(options: AudioWindowsOptions) -> Step:
    """The step with its options bound."""
    return partial(audio_windows, options=options)


SPEC: Final = StepSpec(
    name="audio_windows",
    version=1,
    kind="reshape",
    options=AudioWindowsOptions,
    build=build,
    summary="sounds → windows of one length, each a row",
    needs=("row_id", AUDIO),
    gives=("row_id", AUDIO, RATE, FRAMES, CHANNELS, SECONDS, START),
)
