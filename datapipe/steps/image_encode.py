"""Pixels → encoded bytes: JPEG for what was a JPEG, PNG for all else.

What enters: uint8 [H, W, 3]. What leaves: a file. Invariant: of one version of the encoders a function of the pixels
and the quality; a PNG loses nothing.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from datapipe.steps.image_head import missing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

QUALITY: Final = 90
"""Of 1 to 100. libjpeg's usage.txt calls 75 right for looking at, 50 to 95 useful, and more than 95 a waste; above 75
here, because what is trained on is cropped, enlarged and encoded for the second time."""


def encode_image(pixels: npt.NDArray[np.uint8], form: str, quality: int = QUALITY) -> bytes:
    """A file of `form`, "jpeg" or "png".

    Args:
        pixels: uint8[H, W, 3], RGB.
        form: "jpeg" (4:2:0) or "png".
        quality: of a JPEG.

    Raises:
        ConfigError: the encoder is not installed.
    """
    import numpy as np

    if form == "jpeg":
        try:
            import simplejpeg
        except ImportError as error:
            raise missing("simplejpeg", error) from error
        encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420")
        return encoded
    try:
        from PIL import Image
    except ImportError as error:
        raise missing("Pillow", error) from error
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def form_for(stored: str) -> str:
    """What a picture of a format is written as anew."""
    return "jpeg" if stored == "jpeg" else "png"
