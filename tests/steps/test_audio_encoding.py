"""What is stored comes back: of the same depth exactly, however often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import tone

from datapipe.errors import ConfigError
from datapipe.steps.audio_encoding import check_encoding, encoded
from datapipe.steps.audio_reading import Sound, read_sound


@given(values=st.lists(st.integers(-32768, 32767), min_size=1, max_size=40), container=st.sampled_from(["flac", "wav"]))
@settings(max_examples=25, deadline=None)
def test_sixteen_bits_are_kept(values, container):
    """Every value of 16 bits, the lowest and the highest too, survives decoding and encoding."""
    sound = Sound(samples=(np.array(values, np.float32) / 32768)[:, None], rate=8000)
    once = encoded(sound, container, "16")
    again = read_sound(once)
    assert np.array_equal(again.samples, sound.samples)
    assert encoded(again, container, "16") == once


def test_depths():
    """More bits keep more; beyond full scale is held at it, in 32 bits of floating point it is kept."""
    sound = Sound(samples=tone(0.1, level=0.9) * 1.2, rate=16000)
    far = {}
    for container, depth in (("flac", "16"), ("flac", "24"), ("wav", "24"), ("wav", "float")):
        back = read_sound(encoded(sound, container, depth))
        far[container, depth] = np.abs(back.samples - np.clip(sound.samples, -1, 1)).max()
    assert 1e-6 < far["flac", "16"] <= 2**-15
    assert far["flac", "24"] == far["wav", "24"] <= 2**-23
    assert np.array_equal(back.samples, sound.samples)


def test_what_flac_cannot_hold():
    """Nine channels go into a wav; floating-point samples in flac are refused."""
    wide = Sound(samples=tone(0.01, channels=9), rate=16000)
    assert encoded(wide, "flac", "16")[:4] == b"RIFF"
    with pytest.raises(ConfigError, match="wav"):
        check_encoding("audio_convert", "flac", "float")
