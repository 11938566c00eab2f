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


def first_seen(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """The index of the first key equal to each, int32[n].

    Every key writes its index into a slot of a table, backwards, so that the first one stays; who finds an equal key
    in his slot is done, and who finds another goes on to the next round with other slots. Every round settles all
    keys equal to one slot's, so some two thirds go in the first; keys that still share slots after some rounds (which
    takes keys made for it) are sorted.
    """
    import numpy as np

    n = len(keys)
    first = np.arange(n, dtype=np.int32)
    if n < 2:
        return first
    left = first
    left_keys = keys
    for factor in (*_FACTORS, *_FACTORS[::-1]):
        bits = min(max(len(left).bit_length() + 1, 4), _MAX_BITS)
        slots = ((left_keys ^ (left_keys >> np.uint64(29))) * np.uint64(factor)) >> np.uint64(64 - bits)
        table = np.empty(1 << bits, np.int32)
        slots = slots.astype(np.int32)
        # numpy keeps the last of the values given to one index; backwards, that is the first.
        table[slots[::-1]] = left[::-1]
        found = table[slots]
        equal = keys[found] == left_keys
        first[left] = np.where(equal, found, left)
        if equal.all():
            return first
        left, left_keys = left[~equal], left_keys[~equal]
    order = np.argsort(left_keys, kind="stable")
    sorted_keys = left_keys[order]
    new = np.ones(len(order), bool)
    new[1:] = sorted_keys[1:] != sorted_keys[:-1]
    heads = left[order][np.flatnonzero(new)]
    first[left[order]] = heads[np.cumsum(new) - 1]
    return first
