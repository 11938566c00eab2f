"""The Jaccard similarity of pairs of documents, from their kept shingles.

What enters: pairs, the shingles of the documents in them. What leaves: a number in [0, 1] for each. Invariant: where
both documents have no more shingles than were kept, the similarity of their sets is exact (but for collisions of 32-bit
hashes). Where one has more, what was kept are its least hashes, and the sets are compared below the least of the
greatest hashes kept: a random sample of the union, so an unbiased estimate (Broder 1997, "On the resemblance and
containment of documents", section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

CHUNK: Final = 1 << 21
"""Shingles compared at a time: arrays of 16 MiB."""


def jaccards(
    sets: Sequence[npt.NDArray[np.uint32]],
    whole: npt.NDArray[np.bool_],
    one: npt.NDArray[np.int64],
    two: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The similarity of each pair.

    Args:
        sets: kept shingles, each ascending and distinct.
        whole: bool[s], whether those are all that the document has.
        one, two: int64[n], numbers of sets.

    Returns:
        float64[n]; 0 where both sets are empty.
    """
    import numpy as np

    lengths = np.fromiter((len(each) for each in sets), np.int64, len(sets))
    cost = np.cumsum(lengths[one] + lengths[two])
    found = np.zeros(len(one))
    begin = 0
    while begin < len(one):
        base = int(cost[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(cost, base + CHUNK)))
        found[begin:end] = _compared(sets, whole, one[begin:end], two[begin:end])
        begin = end
    return found


def _compared(
    sets: Sequence[npt.NDArray[np.uint32]],
    whole: npt.NDArray[np.bool_],
    one: npt.NDArray[np.int64],
    two: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    import numpy as np

    parts = []
    sizes = np.zeros((2, len(one)), np.int64)
    for number, (a, b) in enumerate(zip(one.tolist(), two.tolist(), strict=True)):
        left, right = sets[a], sets[b]
        if not (whole[a] and whole[b]):
            tops = [int(each[-1]) for each, all_ in ((left, whole[a]), (right, whole[b])) if not all_ and len(each)]
            top = min(tops, default=0xFFFFFFFF)
            left = left[: int(np.searchsorted(left, top, "right"))]
            right = right[: int(np.searchsorted(right, top, "right"))]
        parts += [left, right]
        sizes[0, number], sizes[1, number] = len(left), len(right)
    # The pair in the high half, the shingle in the low one: what both have stands there twice, side by side.
    key = np.repeat(np.arange(len(one), dtype=np.uint64) << np.uint64(32), sizes.sum(axis=0))
    key |= np.concatenate(parts)
    key.sort()
    twice = key[1:][key[1:] == key[:-1]] >> np.uint64(32)
    common = np.bincount(twice.astype(np.int64), minlength=len(one))
    union = sizes.sum(axis=0) - common
    found: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros(len(one)), where=union > 0)
    return found
