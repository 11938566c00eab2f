"""Small pictures for tests, in every format and with every defect."""

import io

import numpy as np
from PIL import Image


def scene(height=40, width=60):
    """uint8 [H, W, 3]: no two corners alike, smooth enough for JPEG."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    return np.stack([220 * down + 0 * across, 220 * across + 0 * down, 90 + 80 * down * across], -1).astype(np.uint8)


def encoded(pixels, form="JPEG", *, mode=None, orientation=None, **options):
    """An array (or a Pillow image) as a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image.convert(mode) if mode else image
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    out = io.BytesIO()
    image.save(out, form, **({"quality": 95, "subsampling": 0} if form == "JPEG" else {}) | options)
    return out.getvalue()
