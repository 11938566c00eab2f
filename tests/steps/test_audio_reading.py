"""Sounds are decoded the same every time, and every one that cannot be is refused by a reason."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sounds import stored, tone

from datapipe.steps import audio_reading
from datapipe.steps.audio_formats import flac_counts
from datapipe.steps.audio_reading import FAULTS, AudioFault, OpenSound, read_head, read_sound

KINDS = [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


def reason(data, **options):
    with pytest.raises(AudioFault) as caught:
        read_sound(data, **options)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_decoded(container, subtype):
    """Samples are what was stored, as near as the codec keeps them; the head says so before; threads change nothing."""
    samples = tone(0.3, channels=2)
    data = stored(samples, container=container, subtype=subtype)
    sound = read_sound(data)
    assert (sound.rate, sound.channels, sound.frames) == (16000, 2, 4800)
    assert sound.samples.dtype == np.float32
    assert np.abs(sound.samples[500:-500] - samples[500:-500]).mean() < (0.05 if container in ("OGG", "MP3") else 1e-4)
    head = read_head(data)
    assert (head.rate, head.channels, head.frames) == (16000, 2, 4800)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(each.samples, sound.samples) for each in pool.map(read_sound, [data] * 8))


def test_refused():
    """Nothing, no sound, no frames, one cut, one too large, one that was not asked for: each by its own reason."""
    flac = stored(tone(0.5), container="FLAC")
    assert reason(None) == reason(b"") == reason(stored(tone(0))) == "audio_empty"
    assert reason(b"<html>") == "not_audio"
    for number in (np.nan, np.inf):
        assert reason(stored(np.full((9, 1), number, np.float32), subtype="FLOAT")) == "audio_not_finite"
    assert reason(stored(np.full((9, 1), 1e300), subtype="DOUBLE")) == "audio_not_finite"
    assert reason(b"RIFF\x24\0\0\0WAVEfmt garbage" * 4) == "audio_truncated"
    long = stored(tone(4.0), container="FLAC")
    assert reason(long[:10_000] + b"\0" * 5000 + long[15_000:]) == "audio_broken"
    assert reason(flac, formats=("wav",)) == "audio_format"
    assert reason(flac, max_bytes=1000) == "audio_bomb"
    assert reason(flac[: len(flac) // 2]) == "audio_truncated"
    mp3 = stored(tone(1.0), container="MP3")
    assert reason(mp3[: len(mp3) // 2]) == "audio_truncated"
    assert read_sound(mp3[: len(mp3) // 2], whole=False).frames < 16000


def test_header_that_claims_too_much():
    """A FLAC header of 2^36 - 1 frames costs no memory: it is refused before anything is allocated."""
    flac = bytearray(stored(tone(0.1), container="FLAC"))
    # STREAMINFO: after 8 bytes of head, total samples are the low 36 bits of bytes 13 to 17 (RFC 9639, section 8.2).
    flac[8 + 13] |= 0x0F
    flac[8 + 14 : 8 + 18] = b"\xff" * 4
    assert reason(bytes(flac)) == "audio_bomb"


def test_a_stream_of_unknown_length():
    """A FLAC that does not say its length is refused: the decoder cannot read one to its end."""
    flac = bytearray(stored(tone(0.1), container="FLAC"))
    flac[8 + 13] &= 0xF0
    flac[8 + 14 : 8 + 18] = bytes(4)
    assert reason(bytes(flac)) == "audio_broken"


def test_damaged_bytes_never_escape():
    """Whatever bytes are changed or cut, a sound comes out or an AudioFault does."""
    draw = random.Random(5)
    for container, subtype in KINDS:
        whole = stored(tone(0.1), container=container, subtype=subtype)
        for _ in range(12):
            data = bytearray(whole)
            for _ in range(draw.randrange(1, 9)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            try:
                sound = read_sound(
                    bytes(data[: draw.choice([len(data), draw.randrange(len(data))])]), max_bytes=1 << 24
                )
            except AudioFault as fault:
                assert fault.reason in FAULTS  # noqa: PT017  (either outcome is right)
            else:
                assert sound.samples.nbytes <= 1 << 24


def test_files_in_memory_are_given_back(monkeypatch):
    """Once, by whoever reads a sound, whole or not: descriptors are not left to the collector, and none has two."""
    taken, back = [], []
    file_of, give_back = audio_reading.file_of, audio_reading.give_back
    monkeypatch.setattr(audio_reading, "file_of", lambda data: taken.append(file_of(data)) or taken[-1])
    monkeypatch.setattr(audio_reading, "give_back", lambda file: back.append(file) or give_back(file))
    flac = stored(tone(0.5), container="FLAC")
    read_sound(flac)
    read_head(flac)
    assert reason(flac, max_bytes=9) == "audio_bomb"
    assert reason(flac[: len(flac) // 2]) == "audio_truncated"
    opened = OpenSound(flac)
    opened.close()
    opened.close()
    assert len(taken) == 5
    assert [id(file) for file in back] == [id(file) for file in taken]


def verdict(data, **options):
    """The samples of a sound, or why there are none."""
    try:
        return OpenSound(data, **options).read().samples.tobytes()
    except AudioFault as fault:
        return fault.reason


@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_says_its_length_without_a_decoder(channels):
    """What its first block says is what the decoder says, and of a changed one the same becomes, sooner or later."""
    data = stored(tone(0.3, 22050, channels=channels), 22050, container="FLAC")
    opened = OpenSound(data, later=True)
    assert opened.head == read_head(data)
    assert np.array_equal(opened.read().samples, read_sound(data).samples)
    assert flac_counts(b"ID3\x04\x00\x00\x00\x00\x00\x05" + bytes(5) + data) == (22050, channels, opened.head.frames)
    for place in (4, 8, 18, 20, 21, 22, 25, 60, len(data) // 2):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert verdict(changed, later=True) == verdict(changed)
    with pytest.raises(AudioFault, match="audio_bomb"):
        OpenSound(data, later=True, max_bytes=9)
    for unknown in (data[:20], b"fLaC\x01" + data[5:], data[:21] + b"\xf0" + bytes(4) + data[26:]):
        assert flac_counts(unknown) is None
