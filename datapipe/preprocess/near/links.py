"""Pairs → links: the shingles that are needed are read, and each pair is verified.

What enters: pair records, sets files. What leaves: link records. Invariant: results are a function of the set of pairs;
of shingles no more is held at a time than was asked for.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from datapipe.preprocess.near.clusters import link_type
from datapipe.preprocess.near.record_file import in_order
from datapipe.preprocess.near.sets_file import SetsFile
from datapipe.preprocess.near.verification import jaccards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.storage import Store

_TABLES: Final = 64 << 20
"""Bytes of tables of sets files held; 36 for each document of a split."""
_OPEN: Final = 4096
"""How many are held: mapped ones are in nobody's memory, but a process may have some 65,000 maps."""


def verified(
    store: Store, sets: Mapping[int, str], pairs: npt.NDArray[np.void], threshold: float | None, limit: int
) -> Iterator[npt.NDArray[np.void]]:
    """The pairs that are links.

    Args:
        sets: sets files by split. pairs: records of `pair_type`, any order, repeats allowed.
        threshold: the least similarity; None: every pair is a link, and none has a similarity.
        limit: bytes of shingles held at a time (one pair's at least).

    Yields:
        Records of `link_type`.
    """
    import numpy as np

    pairs = in_order(pairs, distinct=True)
    # Neighbours of one document stand together, so that its shingles are read once or twice.
    pairs = pairs[np.lexsort((pairs["a"], pairs["a_split"], pairs["b"], pairs["b_split"]))]
    tables: OrderedDict[int, SetsFile] = OrderedDict()
    held = 0

    def table(split: int) -> SetsFile:
        nonlocal held
        if split not in tables:
            tables[split] = SetsFile(store, sets[split])
            held += tables[split].held
            while len(tables) > 1 and (held > _TABLES or len(tables) > _OPEN):
                held -= tables.popitem(last=False)[1].held
        tables.move_to_end(split)
        return tables[split]

    records = {}
    for side in ("a", "b"):
        found = np.zeros(len(pairs), [("kept", "<i8"), ("size", "<i8"), ("score", "<f8")])
        for split in np.unique(pairs[f"{side}_split"]).tolist():
            mine = np.flatnonzero(pairs[f"{side}_split"] == split)
            rows = table(split).records[table(split).rows_of(pairs[side][mine])]
            for name in ("kept", "size", "score"):
                found[name][mine] = rows[name]
        records[side] = found
    links = np.zeros(len(pairs), link_type())
    for side in ("a", "b"):
        links[side] = (pairs[f"{side}_split"].astype(np.uint64) << np.uint64(32)) | pairs[side]
        links[f"{side}_score"] = records[side]["score"]
    if threshold is None:
        links["jaccard"] = np.nan
        yield links
        return
    cost = np.cumsum(4 * (records["a"]["kept"] + records["b"]["kept"]))
    begin = 0
    while begin < len(pairs):
        base = int(cost[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(cost, base + limit)))
        part = slice(begin, end)
        one, two = links["a"][part], links["b"][part]
        places, ends = np.unique(np.concatenate([one, two]), return_inverse=True)
        shingles: list[npt.NDArray[np.uint32]] = []
        whole = np.zeros(len(places), bool)
        splits = places >> np.uint64(32)
        for first, last in itertools.pairwise([0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(places)]):
            file = table(int(splits[first]))
            numbers = file.rows_of((places[first:last] & np.uint64(0xFFFFFFFF)).astype(np.uint32))
            shingles += file.shingles(numbers)
            whole[first:last] = file.records["kept"][numbers] == file.records["size"][numbers]
        made = links[part]
        made["jaccard"] = jaccards(shingles, whole, ends[: len(one)], ends[len(one) :])
        # A quotient of counts is rounded: 4/5 equals a threshold written 0.8, and nothing is below it by rounding.
        yield made[made["jaccard"] >= threshold]
        begin = end
