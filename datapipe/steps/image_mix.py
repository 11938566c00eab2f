"""mixup and cutmix: pictures of a batch and their labels, mixed two by two.

What enters: uint8 [B, H, W, 3], row ids and keys. What leaves: the same memory, mixed, and of each row how much of it
is its own. Invariant: rows are mixed with their neighbour, 0 with 1, 2 with 3 and so on (the last of an odd number
stays as it is), each by a draw of its own row id: so that ranks that share a global batch in even parts mix what one
rank alone would mix.

    mixup    w·x + (1 - w)·y of the whole pictures (Zhang et al. 2018)
    cutmix   a box of y put into x; w is the share of x that is left to be seen (Yun et al. 2019)

w is drawn from Beta(alpha, alpha), in steps of 1/256 for mixup: pixels are mixed in whole numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from datapipe.steps.draws import uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.step import Keys

_TRIES: Final = 24
"""Of Jöhnk's rule (1964); for alpha up to 1 at least every second one is good, and all fail once in 10^7 rows."""


def partners(rows: int) -> npt.NDArray[np.int64]:
    """Of each row the row that it is mixed with: int64[rows]."""
    import numpy as np

    at = np.arange(rows)
    return np.where((at ^ 1) < rows, at ^ 1, at)


def mix_images(
    images: npt.NDArray[np.uint8], ids: Sequence[str], keys: Keys, *, mixup: float, cutmix: float
) -> npt.NDArray[np.float32]:
    """Mix the pictures of a batch, in place.

    Args:
        images: uint8[B, H, W, 3].
        ids: row ids. keys: seed and epoch.
        mixup, cutmix: alpha of each, above 0 and at most 1; 0: not that one. With both, a row is given either, by
            chance.

    Returns:
        float32[B]: of each row the share of its own label; the rest is its partner's.
    """
    import numpy as np

    rows, height, width, _ = images.shape
    draws = uniforms(ids, keys, "image.mix", 3 + 2 * _TRIES)
    share = np.ones(rows, np.float32)
    for first in range(0, rows - 1, 2):
        pair = images[first : first + 2].copy()
        for row, own, other in ((first, pair[0], pair[1]), (first + 1, pair[1], pair[0])):
            drawn = draws[row].tolist()
            if mixup and not (cutmix and drawn[0] < 0.5):
                weight = round(256 * _beta(drawn[3:], mixup))
                share[row] = weight / 256
                images[row] = _blended(own, other, weight)
            elif cutmix:
                left = _beta(drawn[3:], cutmix)
                box = _box(drawn[1], drawn[2], math.sqrt(1 - left), height, width)
                images[row][box] = other[box]
                covered = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
                share[row] = 1 - covered / (height * width)
    return share


def _blended(own: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], weight: int) -> npt.NDArray[np.uint8]:
    """(weight·own + (256 - weight)·other) / 256, rounded."""
    import numpy as np

    # At most 255 · 256 + 128, which 16 bits hold.
    total = own.astype(np.uint16)
    total *= np.uint16(weight)
    rest = other.astype(np.uint16)
    rest *= np.uint16(256 - weight)
    total += rest
    total += np.uint16(128)
    total >>= np.uint16(8)
    return total.astype(np.uint8)


def _box(down: float, across: float, side: float, height: int, width: int) -> tuple[slice, slice]:
    """A box of `side` times the picture's sides around a place in it, cut off at its edges."""
    half_height, half_width = side * height / 2, side * width / 2
    centre_down, centre_across = down * height, across * width
    return (
        slice(max(0, round(centre_down - half_height)), min(height, round(centre_down + half_height))),
        slice(max(0, round(centre_across - half_width)), min(width, round(centre_across + half_width))),
    )


def _beta(draws: Sequence[float], alpha: float) -> float:
    """A number from Beta(alpha, alpha) by Jöhnk's rule: x / (x + y) of two powers whose sum is at most 1."""
    if alpha == 1:
        return draws[0]
    for at in range(0, len(draws), 2):
        x, y = math.pow(draws[at], 1 / alpha), math.pow(draws[at + 1], 1 / alpha)
        if 0 < x + y <= 1:
            return x / (x + y)
    return 0.5
