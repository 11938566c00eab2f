"""Which documents share a band: candidate pairs, each once.

What enters: band records (hash, position, size, digest) of a range of hashes over all splits. What leaves: pairs
(split, position, split, position), the earlier document first. Invariant: the pairs are a function of the records of
each band alone, whatever the order of splits and the number of ranges.

Of documents that share a band, those with the same digest (the same bands throughout) are paired with the first of
them; the firsts are paired each with each, up to `CROWD` of them. A greater crowd is paired with its first `LEADERS`
and, in the order of their sizes, with `NEXT` neighbours: pairs grow linearly, and who is alike is still linked, for
alike documents have alike sizes. A pair whose sizes alone rule the threshold out (J ≤ smaller / larger) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

CROWD: Final = 48
LEADERS: Final = 8
NEXT: Final = 8


def band_type() -> Any:
    """The type of a record of a band file."""
    import numpy as np

    return np.dtype([("hash", "<u8"), ("position", "<u4"), ("size", "<u4"), ("digest", "<u8")])


def pair_type() -> Any:
    """The type of a record of a pair file: `class` spreads the pairs over verification tasks by the first split."""
    import numpy as np

    return np.dtype([("class", "<u8"), ("a_split", "<u4"), ("a", "<u4"), ("b_split", "<u4"), ("b", "<u4")])


def band_records(
    bands: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint32], sizes: npt.NDArray[np.uint32]
) -> npt.NDArray[np.void]:
    """One record per band of each document with a shingle: from bands uint64[n, b], positions and sizes uint32[n]."""
    import numpy as np

    some = sizes > 0
    bands, positions, sizes = bands[some], positions[some], sizes[some]
    n, width = bands.shape
    digests = np.zeros(n, np.uint64)
    for place in range(width):
        digests = (digests ^ bands[:, place]) * np.uint64(0xD1342543DE82EF95)
        digests ^= digests >> np.uint64(32)
    records = np.zeros(n * width, band_type())
    records["hash"] = bands.ravel()
    for name, values in (("position", positions), ("size", sizes), ("digest", digests)):
        records[name] = np.repeat(values, width)
    return records


def find_pairs(
    records: npt.NDArray[np.void], splits: npt.NDArray[np.uint32], *, least: float, first: int = 0
) -> npt.NDArray[np.void]:
    """The candidate pairs among records that share a hash.

    Args:
        records: of `band_type`, any order. splits: uint32[n], the split of each.
        least: pairs with smaller / larger size below it are left out.
        first: pairs of two documents of splits below it are left out: they were compared before.

    Returns:
        Distinct records of `pair_type`, sorted.
    """
    import numpy as np

    from datapipe.preprocess.near.record_file import in_order

    order = np.argsort(records["hash"], kind="stable")
    hashes = records["hash"][order]
    shared = np.zeros(len(order), bool)
    same = hashes[1:] == hashes[:-1]
    shared[1:] |= same
    shared[:-1] |= same
    order = order[shared]
    if not len(order):
        return np.zeros(0, pair_type())
    rec, spl = records[order], splits[order].astype(np.uint64)
    place = (spl << np.uint64(32)) | rec["position"]
    order = np.lexsort((place, rec["digest"], rec["hash"]))
    rec, place = rec[order], place[order]
    parts = list(_pairs_in_order(rec["hash"], rec["digest"], rec["size"].astype(np.int64), place))
    one, two = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    sizes_one, sizes_two = (np.concatenate([part[side] for part in parts]) for side in (2, 3))
    keep = np.minimum(sizes_one, sizes_two) >= least * np.maximum(sizes_one, sizes_two)
    a, b = np.minimum(one, two)[keep], np.maximum(one, two)[keep]
    ours = (b >> np.uint64(32)) >= np.uint64(first)
    a, b = a[ours], b[ours]
    pairs = np.zeros(len(a), pair_type())
    low = np.uint64(0xFFFFFFFF)
    pairs["a_split"], pairs["a"] = a >> np.uint64(32), a & low
    pairs["b_split"], pairs["b"] = b >> np.uint64(32), b & low
    pairs["class"] = class_of(pairs["b_split"])
    return in_order(pairs, distinct=True)


def class_of(splits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """The class of pairs by the split of their later document: neighbours of one split are verified by one task."""
    import numpy as np

    spread = splits.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (spread >> np.uint64(52)) << np.uint64(52)


_Part = tuple["npt.NDArray[np.uint64]", "npt.NDArray[np.uint64]", "npt.NDArray[np.int64]", "npt.NDArray[np.int64]"]


def _pairs_in_order(
    hashes: npt.NDArray[np.uint64],
    digests: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    places: npt.NDArray[np.uint64],
) -> Iterator[_Part]:
    """Pairs of records sorted by (hash, digest, place): places and sizes of both sides."""
    import numpy as np

    n = len(hashes)
    new_band = np.ones(n, bool)
    new_band[1:] = hashes[1:] != hashes[:-1]
    new = new_band.copy()
    new[1:] |= digests[1:] != digests[:-1]
    # The same digest: each with the first.
    leader = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rest = np.flatnonzero(~new)
    yield places[rest], places[leader[rest]], sizes[rest], sizes[leader[rest]]
    firsts = np.flatnonzero(new)
    band = np.cumsum(new_band)[firsts]
    # By size, so that neighbours are alike; by place, so that the order is one.
    firsts = firsts[np.lexsort((places[firsts], sizes[firsts], band))]
    band = np.sort(band)
    starts = np.flatnonzero(np.diff(band, prepend=0))
    counts = np.diff(np.append(starts, len(band)))
    start_of, count_of = np.repeat(starts, counts), np.repeat(counts, counts)
    within = np.arange(len(band)) - start_of
    crowd = count_of > CROWD
    widest = int(counts[counts <= CROWD].max(initial=1))
    for step in range(1, max(widest, NEXT + 1)):
        # Each with the one `step` further on: in a small group that is, in the end, each with each.
        one = np.flatnonzero((within + step < count_of) & (~crowd | (step <= NEXT)))
        yield _sides(firsts[one], firsts[one + step], places, sizes)
    for start, count in zip(starts[counts > CROWD].tolist(), counts[counts > CROWD].tolist(), strict=True):
        members = firsts[start : start + count]
        leaders = members[np.argsort(places[members], kind="stable")[:LEADERS]]
        for chosen in leaders.tolist():
            others = members[members != chosen]
            yield _sides(others, np.full(len(others), chosen), places, sizes)


def _sides(
    one: npt.NDArray[np.int64], two: npt.NDArray[np.int64], places: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64]
) -> _Part:
    return places[one], places[two], sizes[one], sizes[two]
