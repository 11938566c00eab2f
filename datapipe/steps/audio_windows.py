"""audio_windows: sounds of any length become windows of one length, each a row.

What enters: `row_id`, `audio` (encoded bytes), and whatever else. What leaves, as new rows: `row_id` of the sound with
"#" and the frame where the window begins, `audio` (the window, encoded), `sample_rate`, `frames`, `channels`,
`seconds`, `start_frame`, and the other columns of the sound (its label) once for each window. Invariant: without
overlap, padding and dropped ends, the windows of a sound one after the other are its samples; windows come in order.
A sound that has no window, being shorter than one, is marked by a reason of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import StepError
from datapipe.steps.audio_bytes import AUDIO, CHANNELS, FRAMES, RATE, SECONDS, sounds
from datapipe.steps.audio_encoding import Container, Depth, check_encoding, encoded
from datapipe.steps.audio_reading import MAX_BYTES, MP3_SLACK, AudioFault, read_head, read_sound
from datapipe.steps.columns import file_bytes, mark, row_ids, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.steps.audio_reading import Sound
    from datapipe.steps.step import Keys, Step

START: Final = "start_frame"
NO_WINDOW: Final = "audio_no_window"


@dataclass(frozen=True, kw_only=True)
class AudioWindowsOptions:
    """Options of audio_windows.

    Attributes:
        seconds: of a window.
        every: seconds from the beginning of one window to that of the next; null: `seconds`, so that none overlap.
        tail: the end of a sound that fills no window: "drop", "keep" (a shorter window) or "pad" (with silence). With
            "drop" a shorter sound has no window, and is dropped by "audio_no_window".
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
        `seconds: float64`, `start_frame: int64`, and the other columns. A sound without a window is a row of its own
        id, marked drop by "audio_no_window".

    Raises:
        ConfigError: there is no such column, or a package is not installed.
        StepError: a sound cannot be decoded: audio_check, put before this step, quarantines it.
    """
    del keys
    import pyarrow as pa

    ids = row_ids(table).to_pylist()
    found: list[tuple[Any, ...]] = []
    none: list[str | None] = []
    for number, data in enumerate(sounds(file_bytes(table, AUDIO))):
        try:
            sound = read_sound(data, max_bytes=options.max_decoded_bytes)
        except AudioFault as fault:
            raise StepError(
                f"the sound of row {ids[number]} cannot be decoded: {fault.reason} ({fault.detail})",
                expected="sounds that can be",
                fix="put the step audio_check before audio_windows",
            ) from fault
        if options.tail == "drop" and sound.frames < _frames(options.seconds, sound.rate):
            found.append((number, ids[number], None, sound.rate, sound.frames, sound.channels, None))
            none.append(NO_WINDOW)
            continue
        for start, window in _windows(sound, options):
            stored = encoded(window, options.format, options.depth)
            window_id = f"{ids[number]}#{start}"
            found.append((number, window_id, stored, window.rate, window.frames, window.channels, start))
            none.append(None)
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
    return mark(rest, pa.array(none, pa.string()))


def _windows(sound: Sound, options: AudioWindowsOptions) -> Iterator[tuple[int, Sound]]:
    """(first frame, window) of each window."""
    import numpy as np

    size = _frames(options.seconds, sound.rate)
    every = _frames(options.every or options.seconds, sound.rate)
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


def _frames(seconds: float, rate: int) -> int:
    return max(1, round(seconds * rate))


def without_window(table: pa.Table, keys: Keys, *, options: AudioWindowsOptions) -> pa.Table:
    """The sounds that are shorter than a window, marked: from their headers, which are enough of nearly all.

    Args:
        table: as `audio_windows` takes it. keys: not used.

    Returns:
        The table; a sound of which `audio_windows` would make no row is marked drop by "audio_no_window". One that
        cannot be decoded is not: `audio_windows` says so.
    """
    del keys
    import pyarrow as pa

    short = [_has_none(data, options) for data in sounds(file_bytes(table, AUDIO))]
    return mark(table, pa.array([NO_WINDOW if each else None for each in short], pa.string()))


def _has_none(data: bytes | None, options: AudioWindowsOptions) -> bool:
    """Whether a sound is shorter than a window."""
    try:
        head = read_head(data, max_bytes=options.max_decoded_bytes)
        size = _frames(options.seconds, head.rate)
        if head.exact or head.frames < size or head.frames >= size + MP3_SLACK:
            return head.frames < size
        return read_sound(data, max_bytes=options.max_decoded_bytes).frames < size
    except AudioFault:
        return False


def build(options: AudioWindowsOptions) -> Step:
    """The step with its options bound."""
    return partial(audio_windows, options=options)


def resolve(spec: StepSpec, options: AudioWindowsOptions) -> StepSpec:
    """Where ends are kept, every sound has a window."""
    return spec if options.tail == "drop" else replace(spec, reasons=(), sieve=None)


def build_sieve(options: AudioWindowsOptions) -> Step:
    """`without_window` with its options bound."""
    return partial(without_window, options=options)


SPEC: Final = StepSpec(
    name="audio_windows",
    version=2,
    kind="reshape",
    options=AudioWindowsOptions,
    build=build,
    summary="sounds → windows of one length, each a row",
    reasons=(NO_WINDOW,),
    needs=("row_id", AUDIO),
    gives=("row_id", AUDIO, RATE, FRAMES, CHANNELS, SECONDS, START),
    resolve=resolve,
    sieve=build_sieve,
)
