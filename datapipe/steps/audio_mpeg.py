"""MP3s that do not say how long they are, made to say it.

What enters: the bytes of an MP3. What leaves: the same, with a frame before them that counts the others, unless there
is one already. Invariant: what is decoded of the frames that were there is the same, and it is all of them.

Without a Xing, Info or VBRI header the decoder estimates the length from the first frame's bit rate, and no more than
that is read: of a file of varying bit rate (0.6 s of 1 s in one that a common encoder wrote) the end would be lost
without a word. So the frames are counted here, by their heads (ISO 11172-3 and 13818-3, section 2.4.2.3), and a Xing
header is put in front (as `lame` writes it: its flag 1, and the number of frames).
"""

from __future__ import annotations

from typing import Final

_KBPS: Final = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Of layer III, by index: in MPEG-1, and in MPEG-2 and 2.5."""
_HZ: Final = (44100, 48000, 32000)
_MOST_KBPS: Final = 14  # the index of the highest bit rate: a frame that has room for the header
_LAYER_III: Final = 1
_MOST_JUNK: Final = 1 << 18
"""Bytes between frames that are looked through for the next: each is a step of a loop in Python."""


def after_tag(data: bytes) -> int:
    """Where the sound begins: after an ID3v2 tag."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def counts_frames(data: bytes) -> bool:
    """Whether an MP3 says how many frames it has, in a Xing, Info or VBRI header."""
    start = after_tag(data)
    # It stands in the first frame, which has at most 1,441 bytes; before it there may be padding of the tag.
    head = data[start : start + 4096]
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def counted(data: bytes) -> bytes:
    """The MP3 with a header that counts its frames; as it is, where it has one, or is not of layer III."""
    if counts_frames(data):
        return data
    first = _next_frame(data, after_tag(data), None)
    if first < 0:
        return data
    head = data[first : first + 4]
    frames, place, junk = 0, first, 0
    while place >= 0 and junk <= _MOST_JUNK:
        size = _size(data[place : place + 4])
        if size and place + size <= len(data):
            frames += 1
            place += size
            if data[place : place + 2] == head[:2]:
                continue
        else:
            place += 1
        lost, place = place, _next_frame(data, place, head)
        junk += place - lost
    if not frames:
        return data
    new = bytes((0xFF, head[1] | 1, _MOST_KBPS << 4 | head[2] & 0x0C, head[3]))
    mono, mpeg1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    told = new + bytes(side) + b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return told.ljust(_size(new), b"\0") + data[first:]


def _next_frame(data: bytes, start: int, like: bytes | None) -> int:
    """Where the next frame begins, of the same kind as `like`, with another or the end after it; -1: nowhere near."""
    end = start + _MOST_JUNK
    place = data.find(b"\xff", start, end)
    while place >= 0:
        head = data[place : place + 4]
        size = _size(head)
        # Of fewer than four bytes, at the end, nothing more is asked: they have no size.
        same = size and (like is None or (head[1] == like[1] and head[2] & 0x0C == like[2] & 0x0C))
        if same and (place + size >= len(data) or data[place + size : place + size + 2] == head[:2]):
            return place
        place = data.find(b"\xff", place + 1, end)
    return -1


def _size(head: bytes) -> int:
    """Bytes of a layer III frame by its head; 0: it is none, or of a free bit rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] >> 1 & 3 != _LAYER_III:
        return 0
    version, rate, sampling = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in {0, 15} or sampling == 3:
        return 0
    mpeg1 = version == 3
    hz = _HZ[sampling] // (1 if mpeg1 else 2 if version == 2 else 4)
    return (144 if mpeg1 else 72) * _KBPS[mpeg1][rate] * 1000 // hz + (head[2] >> 1 & 1)
