"""Targets: pictures, sounds, and the tar files and tables that hold them.

The promise: bytes become pixels or samples, or a reason of the list; a member of a tar costs its row alone.
"""

from __future__ import annotations

import functools
import io
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mutations import plain_mutation
from place import written
from target import Target
from text_targets import read_file

from datapipe.corpus import ReadOptions

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

MOST_PIXELS = 1 << 22
MOST_SOUND = 16 << 20
IMAGES = ReadOptions(text_column=None, media="image")
SOUNDS = ReadOptions(text_column=None, media="audio")


@functools.cache
def _pictures() -> dict[str, bytes]:
    from PIL import Image, features

    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "a.jpg": (picture, "JPEG", {"exif": exif}),
        "progressive.jpg": (picture, "JPEG", {"progressive": True}),
        "cmyk.jpg": (picture.convert("CMYK"), "JPEG", {}),
        "a.png": (picture, "PNG", {}),
        "palette.png": (picture.convert("P"), "PNG", {"transparency": 0}),
        "deep.png": (picture.convert("I;16"), "PNG", {}),
        "a.gif": (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(90)]}),
        "a.bmp": (picture, "BMP", {}),
        "a.tif": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "raw.tif": (picture, "TIFF", {}),
    }
    if features.check("webp"):
        ways["a.webp"] = (picture, "WEBP", {"quality": 50})
        ways["lossless.webp"] = (picture.convert("RGBA"), "WEBP", {"lossless": True})
    found = {}
    for name, (image, kind, options) in ways.items():
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        found[name] = sink.getvalue()
    return found


@functools.cache
def _sounds() -> dict[str, bytes]:
    import soundfile

    samples = np.sin(np.linspace(0, 300, 4000)).astype(np.float32)
    stereo = np.stack([samples, -samples], axis=1)
    found = {}
    ways = (
        ("a.wav", "WAV", "PCM_16", stereo),
        ("float.wav", "WAV", "FLOAT", samples),
        ("a.flac", "FLAC", "PCM_16", stereo),
        ("adpcm.wav", "WAV", "MS_ADPCM", samples),
        ("a.ogg", "OGG", "VORBIS", samples),
        ("a.opus", "OGG", "OPUS", samples),
        ("a.mp3", "MP3", "MPEG_LAYER_III", samples),
        ("a.aiff", "AIFF", "PCM_24", stereo),
        ("a.au", "AU", "ULAW", samples),
    )
    for name, kind, subtype, data in ways:
        sink = io.BytesIO()
        soundfile.write(sink, data, 8000, format=kind, subtype=subtype)
        found[name] = sink.getvalue()
    return found


def _with_png_sums(data: bytes) -> bytes:
    """The checksum of every chunk made right."""
    found, at = bytearray(data), 8
    while data[:4] == b"\x89PNG" and at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


@functools.cache
def _ogg_table() -> list[int]:
    table = []
    for i in range(256):
        value = i << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


def _with_ogg_sums(data: bytes) -> bytes:
    """The checksum of every page made right (RFC 3533, section 6)."""
    found, at = bytearray(data), 0
    while found[at : at + 4] == b"OggS" and at + 27 <= len(found):
        segments = found[at + 26]
        end = at + 27 + segments + sum(found[at + 27 : at + 27 + segments])
        found[at + 22 : at + 26] = bytes(4)
        value = 0
        for byte in found[at:end]:
            value = ((value << 8) & 0xFFFFFFFF) ^ _ogg_table()[(value >> 24) ^ byte]
        found[at + 22 : at + 26] = struct.pack("<I", value)
        at = end
    return bytes(found[: len(data)])


def _with_tar_sums(data: bytes) -> bytes:
    """The checksum of every header made right."""
    found = bytearray(data)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def _repaired(*repairs: Callable[[bytes], bytes]) -> Callable[[bytes, random.Random], bytes]:
    def mutate(data: bytes, chance: random.Random) -> bytes:
        data = plain_mutation(data, chance)
        if chance.random() < 0.7:
            for repair in repairs:
                data = repair(data)
        return data

    return mutate


def _look_at(data: bytes) -> None:
    """A picture is decoded, whole and scaled, or refused with a reason; the offline check has the same mind."""
    from datapipe.errors import DecodeError
    from datapipe.steps.image_check import ImageCheckOptions, image_check
    from datapipe.steps.image_decode import decode_image
    from datapipe.steps.image_head import REASONS

    sizes: list[Any] = [None, (8, 8)]
    for size in sizes:
        try:
            pixels = decode_image(data, size, max_pixels=MOST_PIXELS)
        except DecodeError as error:
            if error.reason not in REASONS:
                raise AssertionError(error.reason) from error
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
    table = pa.table({"row_id": ["a"], "image": pa.array([data], pa.large_binary())})
    keys: Any = None
    image_check(table, keys, options=ImageCheckOptions(max_pixels=MOST_PIXELS)).validate(full=True)


def _listen_to(data: bytes) -> None:
    """A sound is decoded within the bound, or refused with a reason."""
    from datapipe.steps.audio_reading import FAULTS, AudioFault, read_head, read_sound

    for read in (read_head, read_sound):
        try:
            read(data, max_bytes=MOST_SOUND)  # type: ignore[operator]
        except AudioFault as fault:
            if fault.reason not in FAULTS:
                raise AssertionError(fault.reason) from fault


def _tar(kind: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        for i in range(3):
            for name, data in (
                (f"d/{i:03d}.jpg", _pictures()["a.jpg"][:200]), (f"d/{i:03d}.cls", b"%d" % i),
                (f"d/{i:03d}.json", b'{"a": 1, "b": "x"}'), (f"d/{i:03d}.txt", "ein Bild ß".encode()),
            ):  # fmt: skip
                member = tarfile.TarInfo(name)
                member.size = len(data)
                if kind == tarfile.PAX_FORMAT:
                    member.pax_headers = {"comment": "ü"}
                archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("../../etc/003.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        long = tarfile.TarInfo("x" * 180 + ".jpg")
        archive.addfile(long, io.BytesIO())
    return sink.getvalue()


def _read_tar(data: bytes) -> None:
    path = written("a.tar", data)
    read_file(path, IMAGES)
    read_file(path, SOUNDS)


def _media_table() -> list[bytes]:
    images = [{"bytes": data, "path": name} for name, data in list(_pictures().items())[:3]]
    found = []
    for column in (images, [each["bytes"] for each in images]):
        sink = io.BytesIO()
        pq.write_table(pa.table({"image": column, "label": [0, 1, 2]}), sink)
        found.append(sink.getvalue())
    return found


def _read_media_table(data: bytes) -> None:
    read_file(written("a.parquet", data), IMAGES)


IMAGE = Target(
    seeds=lambda: list(_pictures().values()), check=_look_at, mutate=_repaired(_with_png_sums), memory_mib=512
)
AUDIO = Target(seeds=lambda: list(_sounds().values()), check=_listen_to, mutate=_repaired(_with_ogg_sums))
TAR = Target(
    seeds=lambda: [_tar(), _tar(tarfile.GNU_FORMAT)],
    check=_read_tar,
    mutate=_repaired(_with_tar_sums),
)
MEDIA_PARQUET = Target(seeds=_media_table, check=_read_media_table, memory_mib=512)
