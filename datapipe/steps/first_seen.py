"""Where each key was seen first: the grouping that counts repeated lines and n-grams, without sorting.

What enters: keys, uint64. What leaves: for each, the index of the first key equal to it. Invariant: exact, for any
keys; `first[i] <= i`, and `first[i] == i` exactly where a key is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FACTORS: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_MAX_BITS: Final = 24


def first_seen(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The index of the first key equal to each, int64[n].

    Every key writes its index into a slot of a table, backwards, so that the first one stays; who finds an equal key
    in his slot is done, and who finds another goes on to the next round with other slots. The first round's slots are
    the keys' highest bits: keys that are alike in these take more rounds. What is left after eight is sorted.
    """
    import numpy as np

    n = len(keys)
    first = np.arange(n)
    if n < 2:
        return first
    left, left_keys = first, keys
    for factor in (None, *_FACTORS, *_FACTORS[:3]):
        bits = min(max(len(left).bit_length() + 1, 4), _MAX_BITS)
        mixed = left_keys if factor is None else (left_keys ^ (left_keys >> np.uint64(29))) * np.uint64(factor)
        slots = (mixed >> np.uint64(64 - bits)).view(np.int64)
        table = np.empty(1 << bits, np.int64)
        # numpy keeps the last of the values given to one index; backwards, that is the first.
        table[slots[::-1]] = left[::-1]
        found = table.take(slots)
        equal = keys.take(found) == left_keys
        others = np.flatnonzero(~equal)
        if left is first:
            found[others] = others
            first = found
        else:
            settled = np.flatnonzero(equal)
            first[left[settled]] = found[settled]
        if not len(others):
            return first
        left = others if left_keys is keys else left[others]
        left_keys = left_keys[others]
    order = np.argsort(left_keys, kind="stable")
    sorted_keys = left_keys[order]
    new = np.ones(len(order), bool)
    new[1:] = sorted_keys[1:] != sorted_keys[:-1]
    heads = left[order][np.flatnonzero(new)]
    first[left[order]] = heads[np.cumsum(new) - 1]
    return first
