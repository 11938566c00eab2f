"""Samples → the bytes of a file: flac or wav.

What enters: float32 samples, full scale ±1. What leaves: encoded bytes. Invariant: the same samples give the same
bytes, and samples that came from a file of the same depth are stored as they were: a sound can be decoded and stored
again any number of times. They are rounded to the nearest step here, without dither, and what exceeds full scale is
held at it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.audio_reading import library

if TYPE_CHECKING:
    from datapipe.steps.audio_reading import Sound

Container = Literal["flac", "wav"]
Depth = Literal["16", "24", "float"]
_SUBTYPES: Final = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
_MOST_FLAC_CHANNELS: Final = 8
"""RFC 9639, section 9.1.3."""


def check_encoding(step: str, container: Container, depth: Depth) -> None:
    """Refuse what cannot be stored.

    Raises:
        ConfigError: flac holds no floating-point samples.
    """
    if container == "flac" and depth == "float":
        raise ConfigError(
            f"{step}.depth = 'float' with format = 'flac'",
            expected="16 or 24 bits: FLAC holds whole numbers (RFC 9639)",
            fix=f"--set {step}.format=wav",
        )


def encoded(sound: Sound, container: Container, depth: Depth) -> bytes:
    """The sound as a file. More than eight channels, or a rate beyond FLAC's 655,350 Hz, are stored as wav.

    Raises:
        ConfigError: soundfile is not installed.
    """
    import numpy as np

    soundfile = library()
    values: Any = sound.samples
    if depth != "float":
        bits = int(depth)
        full = 1 << (bits - 1)
        # In float64: 24 bits and a sign are more than float32 can round in.
        steps = np.multiply(sound.samples, full, dtype=np.float32 if bits == 16 else np.float64)
        np.clip(np.rint(steps, out=steps), -full, full - 1, out=steps)
        values = steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << 8
    if sound.channels > _MOST_FLAC_CHANNELS or sound.rate > 655_350:
        container = "wav"
    out = io.BytesIO()
    soundfile.write(out, values, sound.rate, format=container.upper(), subtype=_SUBTYPES[depth])
    return out.getvalue()
