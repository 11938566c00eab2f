"""Small sounds, made: what the tests of the audio steps share."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pyarrow as pa


def tone(seconds=0.25, rate=16000, *, hz=440.0, level=0.3, channels=1, seed=0):
    """A sine with a little noise: float32[frames, channels]."""
    frames = round(seconds * rate)
    wave = level * np.sin(2 * np.pi * hz * np.arange(frames) / rate)
    noise = 0.01 * np.random.default_rng(seed).standard_normal((frames, channels))
    return (wave[:, None] + noise).astype(np.float32)


def stored(samples, rate=16000, container="WAV", subtype=None):
    """The bytes of a file."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


def sounds_table(sounds, **columns):
    """`row_id, audio` of encoded sounds, and further columns."""
    ids = [f"clips/{i}.wav:0" for i in range(len(sounds))]
    return pa.table({"row_id": pa.array(ids, pa.string()), "audio": pa.array(sounds, pa.large_binary()), **columns})


def of_texts(texts, *, broken):
    """A sound for each text, of up to 0.05 s; if `broken`, of every seventh something that is none."""
    sounds = []
    for text in texts:
        seed = zlib.crc32((text or "").encode("utf-8", "surrogatepass"))
        if broken and seed % 7 == 0:
            sounds.append(b"" if seed % 2 else b"RIFF no sound")
        else:
            sounds.append(stored(tone((seed % 50 + 1) / 1000, seed=seed), 16000, "FLAC" if seed % 2 else "WAV"))
    return sounds_table(sounds)
