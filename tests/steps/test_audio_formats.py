"""A container is known by its mark, and one that ends too early by its own lengths."""

from __future__ import annotations

import pytest
from sounds import stored, tone

from datapipe.steps.audio_formats import container_of, missing

KINDS = [
    ("WAV", None, "wav"), ("WAVEX", None, "wav"), ("RF64", None, "wav"), ("AIFF", None, "aiff"), ("AU", None, "au"),
    ("CAF", None, "caf"), ("W64", None, "w64"), ("FLAC", None, "flac"), ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "ogg"), ("MP3", None, "mp3"),
]  # fmt: skip
COUNTED = ("flac", "mp3")  # whoever decodes them counts frames


@pytest.mark.parametrize(("container", "subtype", "name"), KINDS)
def test_marks_and_ends(container, subtype, name):
    """Each container is known; a whole file lacks nothing, and no cut in its samples goes unseen."""
    data = stored(tone(0.05), container=container, subtype=subtype)
    assert container_of(data) == name
    assert missing(data, name) == ""
    if name not in COUNTED:
        for cut in (1, 7, len(data) // 3):
            assert missing(data[:-cut], name), cut


def test_what_is_no_sound():
    """Bytes without a mark have no container; libsndfile would take some of them for one (HTK, raw, MAT)."""
    for data in (b"", b"RIFF", b"RIFF\0\0\0\0AVI ", b"<html>", b"\0" * 64, b"\xff\xd8\xff\xe0", b"PK\3\4", b"OggX"):
        assert container_of(data) is None, data


def test_length_not_known():
    """A stream's header cannot say how long it is, and is not taken for one that is cut."""
    wav = bytearray(stored(tone(0.01)))
    at = wav.index(b"data") + 4
    wav[at : at + 4] = b"\xff" * 4
    assert missing(bytes(wav), "wav") == ""
    au = bytearray(stored(tone(0.01), container="AU"))
    au[8:12] = b"\xff" * 4
    assert missing(bytes(au), "au") == ""


def test_hostile_chunks_end():
    """A file of nothing but chunk heads is looked through to a bound, not for ever."""
    empty = b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000
    assert "no chunk" in missing(empty, "wav")
    assert "no chunk" in missing(b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", "wav")


def test_id3_before_flac():
    """A tag before the mark hides it from nobody."""
    assert container_of(b"ID3\4\0\0\0\0\0\5xxxxxfLaC") == "flac"
    assert container_of(b"ID3\4\0\0\0\0\0\5xxxxx\xff\xfb\x90\0") == "mp3"
