"""What the first bytes of an image say: format, size, orientation, how many colours; no pixel is decoded.

What enters: encoded bytes, of anybody. What leaves: an `ImageHead`, or a DecodeError with its reason. Invariant: what a
head says of width and height is what `decode_image` gives without `at_least`; formats are told by the bytes, never by
a name, and none but those of `FORMATS` is opened (Pillow would run Ghostscript for EPS).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError, DecodeError, in_words

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "ppm")
"""What is decoded: JPEG by libjpeg-turbo, all others by Pillow."""

REASONS: Final = ("empty", "not_an_image", "truncated", "damaged", "zero_size", "too_large", "unsupported")
"""Why bytes are no picture. unsupported: its numbers have no known range (floats, 32-bit integers), or its colours
cannot be turned into RGB. too_large: more pixels than the limit, or more scans than `MOST_SCANS`."""

MOST_SCANS: Final = 100
"""A progressive JPEG of libjpeg's own script has 10 scans. Each costs a pass over the whole picture, and a scan of
nothing is a few bytes: a file of 1 MB can ask for hours (TJPARAM_SCANLIMIT of libjpeg-turbo is against the same)."""

MAX_PIXELS: Final = 89_478_485
"""Width times height that is decoded unless another limit is given: Pillow's, 256 MiB at three bytes a pixel."""

_ORIENTATION: Final = 0x0112
_EXIF: Final = b"Exif\0\0"
_UPRIGHT: Final = 1


@dataclass(frozen=True, kw_only=True)
class ImageHead:
    """What a header says.

    Attributes:
        format: one of FORMATS.
        width, height: in pixels, upright: `orientation` is applied.
        orientation: of Exif, 1 (upright) to 8; 5 to 8 swap the sides. What Pillow turns itself (TIFF) is 1 here.
        mode: of the pixels as stored, in Pillow's words: "RGB", "L", "P", "CMYK", "RGBA", "I;16" …
        animated: it has more than one frame; the first is what is decoded.
        alpha: some pixels may be transparent, by a channel or by an entry of the palette.
        deep: more than 8 bits a colour, as stored.
        many_scans: a JPEG whose pixels come in more than one pass over the picture.
    """

    format: str
    width: int
    height: int
    orientation: int = _UPRIGHT
    mode: str
    animated: bool = False
    alpha: bool = False
    deep: bool = False
    many_scans: bool = False

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def stored(self) -> tuple[int, int]:
        """(height, width) of the pixels before they are turned upright."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


def read_head(data: bytes | memoryview) -> ImageHead:
    """Format, size and orientation of an encoded image.

    Args:
        data: the whole file; bytes, or any buffer of bytes.

    Raises:
        DecodeError: with a reason of REASONS; too_large is for `decode_image` to say.
        ConfigError: Pillow is not installed.
    """
    data = memoryview(data).cast("B")  # Arrow's buffers are of signed bytes
    if is_jpeg(data):
        return _jpeg(data)
    image = opened(data)
    try:
        width, height = image.size
        orientation = orientation_of(image)
        animated = bool(getattr(image, "is_animated", False))
        alpha = bool(image.has_transparency_data)
        # The mode does not say it of colours: 16 bits of red are read as 8. How the file is read does ("RGB;16B").
        deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    except Exception as error:
        raise unreadable(error, image.format) from error
    if orientation > 4:
        width, height = height, width
    name = (image.format or "").lower()
    return _sized(
        ImageHead(
            format=name,
            width=width,
            height=height,
            orientation=orientation,
            mode=image.mode,
            animated=animated,
            alpha=alpha,
            deep=deep,
        )
    )


def is_jpeg(data: memoryview) -> bool:
    """Whether it begins as a JPEG does.

    Raises:
        DecodeError: there are no bytes.
    """
    if not data.nbytes:
        raise DecodeError("an image of no bytes", reason="empty", expected="an encoded image")
    return bytes(data[:3]) == b"\xff\xd8\xff"


def opened(data: memoryview) -> Image.Image:
    """The image as Pillow opens it: its header read, no pixel decoded.

    Raises:
        DecodeError: it is none of FORMATS, or its header is damaged.
        ConfigError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise missing("Pillow", error) from error

    try:
        return Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS])
    except UnidentifiedImageError as error:
        if (known := _signature(data)) is None:
            raise DecodeError(
                f"bytes that are no image; they begin with {bytes(data[:12])!r}",
                reason="not_an_image",
                expected=f"one of {', '.join(FORMATS)}",
            ) from error
        raise DecodeError(f"a {known} whose header cannot be read", reason="damaged") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError(in_words(error), reason="too_large") from error
    except Exception as error:
        raise unreadable(error, _signature(data)) from error


def orientation_of(image: Image.Image) -> int:
    """Exif's orientation of an image that Pillow has opened and not loaded, 1 to 8; 1 of a TIFF, which Pillow turns."""
    from PIL import Image

    if image.format == "TIFF":
        return _UPRIGHT
    try:
        # The base class's: that of PNG would decode all pixels on the way to a block behind them.
        return _known(Image.Image.getexif(image).get(_ORIENTATION))
    except Exception:  # a block of anybody's: pictures are shown whatever it says
        return _UPRIGHT


def unreadable(error: Exception, name: str | None) -> DecodeError:
    """What a decoder's own error comes to: truncated, where it says so, else damaged.

    Raises:
        MemoryError: it is one: that says what else the machine does, not what the picture is.
    """
    if isinstance(error, MemoryError):
        raise error
    said = in_words(error)
    short = any(word in said.lower() for word in ("truncated", "premature end", "unexpected end", "not enough"))
    what = f"an image ({name.lower()})" if name else "an image"
    return DecodeError(f"{what} that cannot be decoded: {said}", reason="truncated" if short else "damaged")


def missing(package: str, error: ImportError) -> ConfigError:
    """The error for a decoder that is not installed."""
    return ConfigError(
        f"images cannot be decoded: {error}",
        expected=f"{package} to be installed",
        fix="pip install 'datapipe-toolkit[image]'",
    )


def _jpeg(data: memoryview) -> ImageHead:
    """By a walk over the segments before the first scan (ISO/IEC 10918-1, annex B): a few microseconds."""
    at, end, frame, orientation = 2, data.nbytes, None, _UPRIGHT
    progressive, together = False, 0
    while at + 4 <= end:
        if data[at] != 0xFF:
            raise DecodeError(f"a JPEG with no marker at byte {at}", reason="damaged")
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind in {0xDA, 0xD9}:  # the first scan, of so many colours; the end
            together = data[at + 4] if at + 4 < end else 0
            break
        size = data[at + 2] << 8 | data[at + 3]
        body = data[at + 4 : at + 2 + size]
        if 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC} and len(body) >= 6:
            frame, progressive = body, kind & 3 == 2
        elif kind == 0xE1 and bytes(body[:6]) == _EXIF:
            orientation = _exif(bytes(body))
        at += 2 + max(size, 2)
    if frame is None:
        raise DecodeError(
            "a JPEG without a frame header", reason="truncated" if at + 4 > end else "damaged", expected="a whole file"
        )
    height, width, colours = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4], frame[5]
    mode = {1: "L", 4: "CMYK"}.get(colours, "RGB")
    if orientation > 4:
        width, height = height, width
    return _sized(
        ImageHead(
            format="jpeg",
            width=width,
            height=height,
            orientation=orientation,
            mode=mode,
            many_scans=progressive or together < colours,
        )
    )


def _exif(body: bytes) -> int:
    """The orientation that an Exif block gives; 1 where it gives none, or cannot be read."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(body)
        return _known(exif.get(_ORIENTATION))
    except Exception:
        return _UPRIGHT


def _known(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else _UPRIGHT


def _sized(head: ImageHead) -> ImageHead:
    if not head.pixels:
        raise DecodeError(f"an image of {head.width} × {head.height} pixels", reason="zero_size", expected="a pixel")
    return head


def _signature(data: memoryview) -> str | None:
    """The format that the first bytes promise."""
    start = bytes(data[:16])
    marks = {b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp", b"II*\0": "tiff", b"MM\0*": "tiff"}
    for mark, name in marks.items():
        if start.startswith(mark):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    return "avif" if start[4:12] in {b"ftypavif", b"ftypavis"} else None
