"""Pixels → a 64-bit perceptual hash: pictures that look alike differ in few bits.

What enters: uint8 [H, W, 3]. What leaves: an int64, the bit pattern of the hash. Invariant: a function of the pixels.

The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), 3.2.1, as the
package ImageHash 4.3 has it (`phash`): grey ((R + 2G + B) / 4 here), 32 × 32, the 8 × 8 lowest frequencies of a DCT-II,
one bit each: whether it is above their median. It sees shapes of light and dark: another size, another quality or a
slight change of brightness leave it nearly as it was; a crop, a mirror image, a turn do not; it sees no colour. A
picture that is nearly of one grey has no shapes to compare: its hash is one of its bytes, which is near no other's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIDE: Final = 32
"""Pixels a side that are enough to decode."""
FLAT: Final = 2.0
"""Standard deviation of the 32 × 32 greys, of 255, below which a picture is nearly of one grey: what JPEG's
quantisation leaves of a single colour is less, and the median would turn it into random bits."""
_BITS: Final = 8


def image_hash(pixels: npt.NDArray[np.uint8], data: bytes | memoryview) -> int:
    """The hash of a picture.

    Args:
        pixels: uint8[H, W, 3], of the whole picture or scaled down to no less than `SIDE` a side.
        data: its encoded bytes, for pictures without shapes.
    """
    import numpy as np
    import xxhash
    from PIL import Image

    # Every n-th pixel, which leaves 4 a side for each of the 32, and a filter of three of them: all pixels and the
    # filter of ImageHash took a third of the time of decoding, these take a twentieth.
    every = max(1, min(pixels.shape[:2]) // (4 * SIDE))
    few = pixels[::every, ::every].astype(np.uint16)
    grey = ((few[..., 0] + 2 * few[..., 1] + few[..., 2]) >> 2).astype(np.uint8)
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.HAMMING), np.float64)
    if small.std() < FLAT:
        return xxhash.xxh3_64_intdigest(data) - (1 << 63)
    basis = _basis()
    low = basis @ small @ basis.T
    bits = low > np.median(low)
    return int(np.packbits(bits.ravel()).view(">i8")[0])


@cache
def _basis() -> npt.NDArray[np.float64]:
    """The first 8 rows of the 32-point DCT-II."""
    import numpy as np

    frequency, place = np.arange(_BITS)[:, None], np.arange(SIDE)[None]
    found: Any = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE))
    found.flags.writeable = False
    return np.asarray(found)
