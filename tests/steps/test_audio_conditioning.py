"""Mono, rate, silence and loudness: each as the library or the standard that it follows has it."""

from __future__ import annotations

import numpy as np
import pytest
from sounds import tone

from datapipe.errors import ConfigError
from datapipe.steps.audio_conditioning import Conditioning, conditioned, loud_part, loudness_of
from datapipe.steps.audio_reading import AudioFault, Sound

TRIMMED = {20: (2048, 12288), 60: (2048, 12288), 80: (2048, 16000)}


def test_nothing_asked():
    """Without options the samples are the same object."""
    sound = Sound(samples=tone(0.1), rate=16000)
    assert conditioned(sound, Conditioning())[0] is sound
    assert not Conditioning(sample_rate=16000, mono=True).changes(16000, 1)
    assert Conditioning(mono=True).changes(16000, 2)


def test_mono_and_rate():
    """Mono is the mean of the channels; at another rate a tone keeps pitch and level; above half of it is nothing."""
    pair = np.stack([np.ones(100), np.zeros(100)], 1).astype(np.float32)
    mixed, _ = conditioned(Sound(samples=pair, rate=8000), Conditioning(mono=True))
    assert np.allclose(mixed.samples, 0.5)
    time = np.arange(44100) / 44100
    for hz, level in ((1000, 0.5), (12000, 0.0)):
        high = (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)[:, None]
        low, _ = conditioned(Sound(samples=high, rate=44100), Conditioning(sample_rate=16000))
        assert (low.rate, low.frames) == (16000, 16000)
        expected = level * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
        assert np.abs(low.samples[200:-200, 0] - expected[200:-200]).max() < 1e-3


def test_trim_is_that_of_librosa():
    """First and last frames by librosa 0.11's effects.trim, of the same sound (computed with it)."""
    part = np.arange(5000)
    sound = np.concatenate([np.zeros(3000), 0.5 * np.sin(np.arange(8000) * 0.1), 1e-4 * np.sin(part)])
    sound = sound.astype(np.float32)[:, None]
    assert {db: loud_part(sound, db) for db in (20, 60, 80)} == TRIMMED
    assert loud_part(np.zeros((500, 2), np.float32), 60) == (0, 0)
    assert loud_part(np.zeros((0, 1), np.float32), 60) == (0, 0)


def test_loudness():
    """A 1 kHz tone of -23 dBFS in both channels is -23 LUFS (EBU Tech 3341, test 1); a sound comes to what is asked."""
    time = np.arange(48000) / 48000
    wave = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * time)
    sound = Sound(samples=np.stack([wave, wave], 1).astype(np.float32), rate=48000)
    assert loudness_of(sound) == pytest.approx(-23, abs=0.1)
    louder, before = conditioned(sound, Conditioning(loudness=-16.0))
    assert before == pytest.approx(-23, abs=0.1)
    assert loudness_of(louder) == pytest.approx(-16, abs=0.01)
    # What would exceed full scale is held at it, and what has no loudness stays.
    loudest, _ = conditioned(sound, Conditioning(loudness=0.0))
    assert np.abs(loudest.samples).max() == pytest.approx(1, abs=1e-6)
    for odd in (sound.samples[:1000], sound.samples * 0, np.zeros((48000, 6), np.float32)):
        same, measured = conditioned(Sound(samples=odd, rate=48000), Conditioning(loudness=-23.0))
        assert measured is None
        assert same.samples is odd


def test_options_are_checked():
    """Rates and levels out of range are refused."""
    for wrong in ({"sample_rate": 0}, {"trim_db": -1.0}, {"loudness": 3.0}):
        with pytest.raises(ConfigError):
            Conditioning(**wrong)


def test_a_rate_that_is_a_bomb():
    """A header of one frame a second is refused before it is made sixteen thousand times as long."""
    slow = Sound(samples=tone(0.1), rate=1)
    with pytest.raises(AudioFault, match="audio_bomb"):
        conditioned(slow, Conditioning(sample_rate=16000), max_bytes=1 << 24)
