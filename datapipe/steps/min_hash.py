"""Sets → MinHash signatures → bands: documents that share a band are candidates for being near duplicates.

What enters: sets of 32-bit hashes (`shingles`). What leaves: one 64-bit hash per band. Invariant: two sets agree in
each place of a signature with probability J, their Jaccard similarity; so they share a band of r places with about
J^r, and at least one of b bands with about 1 - (1 - J^r)^b (Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4).

The signature is that of Dahlgaard, Knudsen and Thorup, "Fast Similarity Sketching" (FOCS 2017, arXiv:1704.04370): in
round i each element falls into one of the k places and leaves (i, hash) there, and a place keeps its least. A document
is done as soon as each of its places has something, mostly after one round or two, where classical MinHash hashes each
element k times; the guarantee is the same (each place agrees with probability J, concentrated as if independent), for
small sets too. From round k on all elements fall into place i - k, so 2k rounds are always enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RULE: Final = "fast similarity sketch 1"
_ROUND: Final = 0x9E3779B97F4A7C15
_ONE: Final = 0xBF58476D1CE4E5B9
_TWO: Final = 0x94D049BB133111EB
_BAND: Final = 0xD1342543DE82EF95


AT_ONCE: Final = 1 << 17
"""Elements signed at a time: arrays of 1 MiB stay in a core's cache, and cost no page faults."""
FEW: Final = 64
"""Smaller sets go together: they take up to 2k rounds, whose fixed cost is then paid once for thousands of them."""


def bands_of(
    hashes: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], bands: int, rows: int
) -> npt.NDArray[np.uint64]:
    """Sets as `signatures` takes them → uint64[n, bands], as `band_hashes` gives them."""
    import numpy as np

    sizes = np.diff(offsets)
    made = np.empty((len(sizes), bands), np.uint64)
    small = sizes < FEW
    for group in (small, ~small):
        chosen = np.flatnonzero(group)
        mine = hashes[np.repeat(group, sizes)] if len(chosen) < len(sizes) else hashes
        ends = np.concatenate([[0], np.cumsum(sizes[chosen])])
        begin = 0
        while begin < len(chosen):
            limit = int(np.searchsorted(ends, ends[begin] + AT_ONCE, "right")) - 1
            end = min(len(chosen), begin + AT_ONCE // 32, max(begin + 1, limit))
            table = signatures(mine[ends[begin] : ends[end]], ends[begin : end + 1] - ends[begin], bands * rows)
            made[chosen[begin:end]] = band_hashes(table, bands, rows)
            begin = end
    return made


def signatures(
    hashes: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], places: int
) -> npt.NDArray[np.uint64]:  # fmt: skip
    """The signature of each set.

    Args:
        hashes: uint32[m], the sets one after the other, each ascending and distinct.
        offsets: int64[n + 1].
        places: k, the length of a signature.

    Returns:
        uint64[n, k]: (round, least hash) of each place, the round in the high 32 bits. An empty set has the greatest
        number in every place.
    """
    import numpy as np

    n = len(offsets) - 1
    nothing = np.uint64(0xFFFFFFFFFFFFFFFF)
    made = np.full(n * places, nothing, np.uint64)
    sizes = np.diff(offsets)
    owners = np.repeat(np.arange(n, dtype=np.int64), sizes)
    elements = hashes.astype(np.uint64)
    # Round 0. A set is ascending and a place is the element's leading bits, so the first of a place is its least.
    place = owners * places
    place += ((elements * np.uint64(places)) >> np.uint64(32)).astype(np.int64)
    first = np.ones(len(place), bool)
    np.not_equal(place[1:], place[:-1], out=first[1:])
    made[place[first]] = elements[first]
    table = made.reshape(n, places)
    for number in range(1, 2 * places):
        open_ = (table == nothing).any(axis=1) & (sizes > 0)
        if not open_.any():
            break
        if number == 1 or not open_[owners].all():
            left = open_[owners]
            owners, elements = owners[left], elements[left]
        mixed = _mixed(elements, number)
        if number < places:
            place = owners * places
            place += (((mixed >> np.uint64(32)) * np.uint64(places)) >> np.uint64(32)).astype(np.int64)
        else:
            place = owners * places + (number - places)
        value = (mixed & np.uint64(0xFFFFFFFF)) | np.uint64(number << 32)
        # A place that has something keeps it: what comes later is greater.
        empty = made[place] == nothing
        np.minimum.at(made, place[empty], value[empty])
    return table


def band_hashes(table: npt.NDArray[np.uint64], bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """One hash per band: uint64[n, bands] from signatures uint64[n, bands * rows]; bands of another number differ."""
    import numpy as np

    cut = table.reshape(len(table), bands, rows)
    made = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), (len(table), bands)) * np.uint64(_ROUND)
    for row in range(rows):
        made = (made ^ _scrambled(cut[:, :, row])) * np.uint64(_BAND)
        made ^= made >> np.uint64(32)
    return _scrambled(made)


def recall(jaccard: float, bands: int, rows: int) -> float:
    """The chance that two sets of this similarity share a band: 1 - (1 - J^r)^b."""
    return 1.0 - (1.0 - jaccard**rows) ** bands


def _mixed(elements: npt.NDArray[np.uint64], number: int) -> npt.NDArray[np.uint64]:
    import numpy as np

    return _scrambled(elements + np.uint64((number * _ROUND) & 0xFFFFFFFFFFFFFFFF))


def _scrambled(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits."""
    import numpy as np

    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(_ONE)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_TWO)
    mixed ^= mixed >> np.uint64(31)
    return mixed
