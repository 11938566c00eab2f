"""An MP3 without a count of its frames is decoded to its end."""

from __future__ import annotations

import numpy as np
import pytest
from sounds import stored, tone

from datapipe.steps.audio_mpeg import _next_frame, _size, after_tag, counted, counts_frames
from datapipe.steps.audio_reading import read_sound


def bare(data):
    """The MP3 without its first frame, which is the count."""
    assert counts_frames(data)
    return data[_size(data[:4]) :]


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (32000, 1), (16000, 1), (22050, 2), (8000, 1)])
def test_every_frame_is_decoded(rate, channels):
    """MPEG-1, 2 and 2.5, mono and stereo: as many samples as with the count, and the same ones but for the delay."""
    rng = np.random.default_rng(0)
    # Loud noise after silence: the first frames' bit rate is far from that of the rest.
    wave = np.concatenate([np.zeros((rate // 4, channels)), 0.3 * rng.standard_normal((rate, channels))])
    whole = stored(wave.astype(np.float32), rate, "MP3")
    told = read_sound(whole).samples
    found = read_sound(bare(whole)).samples
    assert 0 <= len(found) - len(told) < 3 * 1152
    shift = int(np.abs(found[:, 0]).argmax()) - int(np.abs(told[:, 0]).argmax())
    assert np.allclose(found[shift : shift + len(told) - 2500], told[: len(told) - 2500], atol=2e-2)
    # A tag before it, junk within it and a tag behind it change nothing of the count.
    at = _next_frame(bare(whole), len(whole) // 2, None)
    odd = b"ID3\4\0\0\0\0\0\5xxxxx" + bare(whole)[:at] + b"junk" * 9 + bare(whole)[at:] + b"TAG".ljust(128, b"\0")
    assert abs(len(read_sound(odd).samples) - len(found)) <= 2 * 1152


def test_what_is_left_alone():
    """A file that counts its frames, and bytes that are no layer III, stay as they are."""
    whole = stored(tone(0.2), container="MP3")
    assert counted(whole) is whole
    for data in (b"", b"\xff", b"\xff\xfb", b"ID3", b"ID3\4\0\0\0\0\0\5", b"\xff\xfb\x00\x00" * 50, b"\xff\xff" * 500):
        assert counted(data) == data
    assert after_tag(b"ID3\4\0\0\0\0\1\5") == 10 + 133


def test_hostile_bytes_end():
    """A frame and then megabytes that might each begin one are looked through to a bound."""
    whole = stored(tone(0.2), container="MP3")
    frame = bare(whole)
    assert len(counted(frame + b"\xff" * (4 << 20))) > len(frame)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_frame_whose_head_is_cut_ends_the_count(cut):
    """The frame, a byte that is none, and the beginning of another's head: one frame, found by fuzzing."""
    head = bytes((0xFF, 0xFB, 0x90, 0xC0))
    frame = head.ljust(_size(head), b"\0")
    told = counted(frame * 2 + b"\0" + head[:cut])
    assert int.from_bytes(told[told.index(b"Xing") + 8 :][:4], "big") == 2
