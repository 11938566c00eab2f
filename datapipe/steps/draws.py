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


def uniforms(ids: Sequence[str], keys: Keys, name: str, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) for each row id: float64[n, count]. More of them leave the first ones as they were.

    SplitMix64 (Steele, Lea, Flood 2014; constants as in Vigna's splitmix64.c) from the row's `bits`.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = bits(ids, keys, name)[:, None] + steps
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)
