"""Pixels → a 64-bit perceptual hash: pictures that look alike differ in few bits.

What enters: uint8 [H, W, 3]. What leaves: an int64, the bit pattern of the hash. Invariant: a function of the pixels.

The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), 3.2.1, as the
package ImageHash 4.3 has it (`phash`): grey, 32 × 32, the 8 × 8 lowest frequencies of a DCT-II, one bit each: whether
it is above their median. Grey is the green, which is what most of luminance is made of, where that has any shapes:
turning all pixels grey would cost twice as much. The hash sees shapes of light and dark: another size, another quality
or a slight change of brightness leave it nearly as it was; a crop, a mirror image, a turn do not; it sees no colour. A
picture that is nearly of one grey has no shapes to compare: its hash is one of its bytes, which is near no other's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

SIDE: Final = 32
ENOUGH: Final = 2 * SIDE
"""Pixels a side that are enough to decode: what averaging leaves before its last step."""
FLAT: Final = 2.0
"""Standard deviation of the 32 × 32 greys, of 255, below which a picture is nearly of one grey: what JPEG's
quantisation leaves of a single colour is less, and the median would turn it into random bits."""
_BITS: Final = 8


def image_hash(pixels: npt.NDArray[np.uint8], data: bytes | memoryview) -> int:
    """The hash of a picture.

    Args:
        pixels: uint8[H, W, 3], of the whole picture or scaled down to no less than `ENOUGH` a side.
        data: its encoded bytes, for pictures without shapes.
    """
    import numpy as np
    import xxhash
    from PIL import Image

    small = _small(Image.fromarray(np.ascontiguousarray(pixels[:, :, 1])))
    if small.std() < FLAT:
        small = _small(Image.fromarray(pixels).convert("L"))
    if small.std() < FLAT:
        return xxhash.xxh3_64_intdigest(data) - (1 << 63)
    basis = _basis()
    low = basis @ small @ basis.T
    bits = low > np.median(low)
    return int(np.packbits(bits.ravel()).view(">i8")[0])


def _small(grey: Image.Image) -> npt.NDArray[np.float64]:
    """The 32 × 32 averages of a grey picture: float64[32, 32]."""
    import numpy as np
    from PIL import Image

    # By a whole number first, of which two are left for each of the 32: the filter has a quarter of the work.
    few = grey.reduce(max(1, min(grey.size) // (2 * SIDE)))
    return np.asarray(few.resize((SIDE, SIDE), Image.Resampling.HAMMING), np.float64)


@cache
def _basis() -> npt.NDArray[np.float64]:
    """The first 8 rows of the 32-point DCT-II."""
    import numpy as np

    frequency, place = np.arange(_BITS)[:, None], np.arange(SIDE)[None]
    found: Any = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE))
    found.flags.writeable = False
    return np.asarray(found)
