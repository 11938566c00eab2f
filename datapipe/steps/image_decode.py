"""Encoded bytes → upright RGB pixels: the one decoder of every step and transform that looks at pictures.

What enters: the bytes of one image, of anybody, and how large a picture is wanted. What leaves: uint8 [H, W, 3], or a
DecodeError with its reason. Invariant: a function of the bytes and the options alone; no thread but the caller's (AVIF
apart: Pillow's decoder of it has threads of its own), and the interpreter's lock is released while pixels are decoded.

    orientation   Exif's is applied: the picture leaves upright
    grey, bilevel, palette   the same colours in RGB
    alpha         over white, as a page shows it; what lies hidden under it does not come out
    CMYK, YCCK    as Pillow converts it, without a colour profile
    16 bits       the high byte of each
    animated      the first frame
    float, 32 bits, Lab   refused as "unsupported": nobody says which numbers are black and white

JPEGs are decoded by simplejpeg (MIT; a wheel of 1 MB that holds libjpeg-turbo): against Pillow, OpenCV, pyvips and
imagecodecs none is faster by more than noise but pyvips, which decodes on threads of its own (benchmarks/LOG.md).
Where less than the whole size is wanted, the scale is 1/2, 1/4 or 1/8, never 3/8 to 7/8: libjpeg-turbo has vector code
for the former alone, and a picture at 5/8 takes longer than the whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.errors import DecodeError, in_words
from datapipe.steps.image_head import (
    MAX_PIXELS,
    MOST_SCANS,
    ImageHead,
    is_jpeg,
    missing,
    opened,
    orientation_of,
    read_head,
    unreadable,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

_SCALES: Final = (8, 4, 2)
_SCAN: Final = b"\xff\xda"


def decode_image(
    data: bytes | memoryview,
    at_least: tuple[int, int] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    head: ImageHead | None = None,
) -> npt.NDArray[np.uint8]:
    """The picture.

    Args:
        data: a whole file of one of `image_head.FORMATS`.
        at_least: (height, width) in pixels, upright, that are enough: a JPEG is then read at the least scale of 1/8,
            1/4, 1/2 and 1 that is not smaller on either side. Other formats come in their own size.
        max_pixels: width times height of the whole picture above which it is refused, before a pixel is decoded.
            Pillow's own limit of 178,956,970 stands besides.
        head: what `read_head` said of the same bytes, where it was asked.

    Returns:
        uint8[H, W, 3], C-contiguous.

    Raises:
        DecodeError: it cannot be decoded; its `reason` is one of `image_head.REASONS`. A JPEG of which libjpeg so much
            as warns is damaged.
        ConfigError: simplejpeg or Pillow is not installed.
    """
    data = memoryview(data).cast("B")  # Arrow's buffers are of signed bytes
    if not is_jpeg(data):
        return _by_pillow(data, max_pixels)
    head = head or read_head(data)
    check_size(head.width, head.height, max_pixels)
    # The two bytes of a scan's marker do not occur within its data (a byte 255 there is followed by 0).
    scans = bytes(data).count(_SCAN) if head.many_scans else 1
    if scans > MOST_SCANS:
        raise DecodeError(
            f"a JPEG of {scans:,} scans, each of which is a pass over all of it",
            reason="too_large",
            expected=f"at most {MOST_SCANS}",
        )
    if head.mode == "CMYK":
        return _by_pillow(data, max_pixels)
    height, width = head.stored
    if at_least is not None:
        wanted_height, wanted_width = at_least if head.orientation <= 4 else at_least[::-1]
        for scale in _SCALES:
            if -(-height // scale) >= wanted_height and -(-width // scale) >= wanted_width:
                height, width = -(-height // scale), -(-width // scale)
                break
    try:
        import simplejpeg
    except ImportError as error:
        raise missing("simplejpeg", error) from error

    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    except ValueError as error:
        raise unreadable(error, "jpeg") from error
    return _upright(pixels, head.orientation)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of more pixels than the limit: DecodeError, "too_large"."""
    if width * height > max_pixels:
        raise DecodeError(
            f"an image of {width:,} × {height:,} pixels",
            reason="too_large",
            expected=f"at most {max_pixels:,} pixels",
            fix="raise max_pixels, if it is what it says",
        )


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turned as Exif's orientation says (Exif 3.0, 4.6.5.1.6)."""
    import numpy as np

    if orientation == 1:
        return pixels
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _by_pillow(data: memoryview, max_pixels: int) -> npt.NDArray[np.uint8]:
    import numpy as np

    image = opened(data)
    name = image.format
    if 0 in image.size:
        raise DecodeError(f"an image of {image.width} × {image.height} pixels", reason="zero_size", expected="a pixel")
    check_size(*image.size, max_pixels)
    orientation = orientation_of(image)
    try:
        image.load()
        return _upright(np.array(_rgb(image)), orientation)
    except DecodeError:
        raise
    except Exception as error:
        raise unreadable(error, name) from error


def _rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, as the module's docstring says.

    Raises:
        DecodeError: nobody says what its numbers mean.
    """
    import numpy as np
    from PIL import Image as Pillow

    if image.mode.startswith("I;16"):
        image = Pillow.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in {"I", "F", "LAB", "HSV"}:
        raise DecodeError(f"an image of mode {image.mode}", reason="unsupported", expected="8 or 16 bits a colour")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        image = Pillow.alpha_composite(white, image)
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise DecodeError(in_words(error), reason="unsupported", expected="colours that convert to RGB") from error
