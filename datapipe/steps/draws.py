"""Keyed draws: what random steps take their chances from.

What enters: row ids, keys and the name of what is drawn. What leaves: numbers. Invariant: a draw is a function of
(seed, epoch, row id, name) alone, so that offline and online, on any number of workers and in any order, a row meets
the same fate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.step import Keys

_SEED = (1 << 64) - 1


def bits(ids: Sequence[str], keys: Keys, name: str) -> npt.NDArray[np.uint64]:
    """64 bits for each row id, uniform.

    Args:
        ids: row ids.
        keys: seed and epoch.
        name: what is drawn ("sample.keep"); draws of other names are independent.

    Returns:
        uint64[n]. XXH3 (Collet, xxHash 0.8) of the id, seeded by XXH3 of (name, seed, epoch).
    """
    import numpy as np
    from xxhash import xxh3_64_intdigest

    salt = xxh3_64_intdigest(f"{name}\0{keys.epoch}".encode(), keys.seed & _SEED)
    return np.fromiter((xxh3_64_intdigest(each.encode(), salt) for each in ids), np.uint64, len(ids))


def uniform(ids: Sequence[str], keys: Keys, name: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each row id: float64[n], the top 53 bits of `bits`."""
    import numpy as np

    return (bits(ids, keys, name) >> np.uint64(11)).astype(np.float64) * 2.0**-53
