"""Which container a sound is in, and whether it ends before its header says: from the bytes alone, without decoding.

What enters: the encoded bytes of one sound. What leaves: a container's name, and what is missing. Invariant: only
containers named here reach the decoder (libsndfile opens many more, some of which have no mark to be known by, so that
any bytes may pass for them), and nothing is allocated by what a header claims.

Marks: RIFF (Multimedia Programming Interface 1.0, IBM and Microsoft 1991), RF64 (EBU Tech 3306), AIFF (Apple 1989), AU
(Sun), CAF (Apple Core Audio Format 1.0), W64 (Sony Wave64), FLAC (RFC 9639, section 8.1), Ogg (RFC 3533, section 6),
MPEG audio (ISO 11172-3, section 2.4.1.3), ID3v2.
"""

from __future__ import annotations

from typing import Final

from datapipe.steps.audio_mpeg import after_tag

CONTAINERS: Final = ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64")
_W64: Final = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_UNKNOWN: Final = 0xFFFFFFFF
"""A length that says: not known when the header was written (a stream)."""
_PAGE_HEAD: Final = 27
_MOST_CHUNKS: Final = 10_000


def container_of(data: bytes) -> str | None:
    """The container by its mark; None: none of CONTAINERS."""
    head = data[:12]
    if head[:4] in {b"RIFF", b"RIFX", b"RF64"} and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}:
        return "aiff"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:4] == b".snd":
        return "au"
    if head[:4] == b"caff":
        return "caf"
    if data[:16] == _W64:
        return "w64"
    if head[:3] == b"ID3":
        # A FLAC file may have an ID3 tag before it, against its own specification.
        start = after_tag(data)
        return "flac" if data[start : start + 4] == b"fLaC" else "mp3"
    # Eleven bits of sync, a version, a layer, a bit rate and a sampling rate that exist.
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        version, layer, rate, sampling = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
        if version != 1 and layer != 0 and rate != 15 and sampling != 3:
            return "mp3"
    return None


def flac_counts(data: bytes) -> tuple[int, int, int] | None:
    """(rate, channels, frames) of a FLAC by its STREAMINFO (RFC 9639, section 8.2); None where that does not say."""
    start = after_tag(data)
    block = data[start + 4 : start + 42]
    if len(block) < 38 or block[0] & 0x7F or int.from_bytes(block[1:4], "big") != 34:
        return None
    bits = int.from_bytes(block[14:22], "big")  # 20 bits rate, 3 channels less one, 5 depth less one, 36 frames
    rate, channels, frames = bits >> 44, (bits >> 41 & 7) + 1, bits & (1 << 36) - 1
    return (rate, channels, frames) if rate and frames else None


def missing(data: bytes, container: str) -> str:
    """What the bytes lack of what their header promises; "" where they lack nothing, or the container does not say.

    FLAC and MP3 say how many frames there are: whoever decodes them counts. An MP3 without a Xing header says nothing.
    """
    if container == "wav":
        return _of_chunks(data, b"data", "big" if data[:4] == b"RIFX" else "little")
    if container == "aiff":
        return _of_chunks(data, b"SSND", "big")
    if container == "au" and len(data) >= 12:
        start, size = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        return "" if size == _UNKNOWN else _short(size, len(data) - start)
    if container == "ogg":
        return _of_pages(data)
    return _of_wide_chunks(data, container) if container in {"caf", "w64"} else ""


def _of_chunks(data: bytes, wanted: bytes, order: str) -> str:
    """Of RIFF and AIFF: the chunk that holds the samples is all there."""
    place = 12
    wide: int | None = None
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data):
            return f"no chunk {wanted.decode()!r}"
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], order)  # type: ignore[arg-type]
        place += 8
        if name == b"ds64":  # RF64: lengths of 64 bits
            wide = int.from_bytes(data[place + 8 : place + 16], "little")
        if name == wanted:
            if size == _UNKNOWN:
                return "" if wide is None else _short(wide, len(data) - place)
            return _short(size, len(data) - place)
        place += size + (size & 1)
    return f"no chunk {wanted.decode()!r} among {_MOST_CHUNKS:,}"


def _of_wide_chunks(data: bytes, container: str) -> str:
    """Of CAF and W64, whose lengths have 64 bits; W64 counts a chunk's head too, and begins each at a multiple of 8."""
    caf = container == "caf"
    place = 8 if caf else 40
    for _ in range(_MOST_CHUNKS):
        head = data[place : place + (12 if caf else 24)]
        if len(head) < (12 if caf else 24):
            break
        size = int.from_bytes(head[4:12], "big", signed=True) if caf else int.from_bytes(head[16:24], "little") - 24
        place += len(head)
        if head[:4] == b"data":
            return "" if size < 0 else _short(size, len(data) - place)
        place += max(0, size) if caf else (max(0, size) + 7) & ~7
    return "no chunk 'data'"


def _of_pages(data: bytes) -> str:
    """Of Ogg: the last page is whole, and marked as the last (header type flag 0x04)."""
    last = data.rfind(b"OggS")
    # Four bytes of a packet may look like a page's: a page begins with version 0.
    while last > 0 and data[last + 4 : last + 5] != b"\0":
        last = data.rfind(b"OggS", 0, last)
    if last < 0 or len(data) < last + _PAGE_HEAD:
        return "the last page has no header"
    segments = data[last + 26]
    end = last + _PAGE_HEAD + segments
    table = data[last + _PAGE_HEAD : end]
    if len(table) < segments or end + sum(table) > len(data):
        return "the last page is cut"
    return "" if data[last + 5] & 4 else "the stream's last page is not there"


def _short(promised: int, there: int) -> str:
    return f"{there:,} of {promised:,} bytes of samples" if there < promised else ""
