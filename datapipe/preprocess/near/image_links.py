"""Which pictures have hashes that differ in few bits: links, each once, exact for the threshold.

What enters: records (hash, position, pixels) over all splits. What leaves: links (`clusters.link_type`) between places.
Invariant: every two distinct hashes within the threshold are linked through their first places, and every further
picture of a hash to the first of it, whatever the order of splits and the number of ranges.

By pigeonhole (Manku, Jain, Das Sarma, "Detecting Near-Duplicates for Web Crawling", WWW 2007, section 3): the 64 bits
are dealt out to threshold + 2 blocks. Two hashes that differ in `threshold` bits are equal in two blocks at least, so
hashes are compared that share a pair of blocks; a pair of hashes is taken where the first such pair of blocks is.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from datapipe.preprocess.near.clusters import link_type
from datapipe.preprocess.near.record_file import put_records
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

BITS: Final = 64
_SPREAD: Final = 0x9E3779B97F4A7C15


def record_type() -> Any:
    """The type of a record of a file of image hashes."""
    import numpy as np

    return np.dtype([("hash", "<u8"), ("position", "<u4"), ("pixels", "<u4")])


@final
@dataclass(frozen=True, kw_only=True)
class ImageLinksTask(Task):
    """Links between the hashes whose shared blocks fall into one of `parts` ranges.

    Memory: 50 bytes a picture of all splits, about.

    Attributes:
        hashes: (split, path) of the files of hashes. threshold: bits. largest: whether the survivor is the largest.
        first: splits below it belong to earlier snapshots: what is linked among them was found before.
    """

    counts: ClassVar[str] = "picture"
    hashes: tuple[tuple[int, str], ...] = field(repr=False)
    threshold: int
    largest: bool
    part: int
    parts: int
    first: int = 0

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        import numpy as np

        clock = TaskClock(self)
        store = self.output.open()
        work = WorkFolder(store)
        read = [(split, np.frombuffer(store.read(path), record_type())) for split, path in self.hashes]
        records = np.concatenate([np.zeros(0, record_type()), *(each for _, each in read)])
        splits = np.concatenate([np.zeros(0, np.uint64), *(np.full(len(e), s, np.uint64) for s, e in read)])
        del read
        files, linked = {}, 0
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(work.scratch_file("links"))
            with open(path, "wb") as file:  # noqa: PTH123
                for links in find_links(
                    records, splits, self.threshold, largest=self.largest, first=self.first,
                    part=self.part, parts=self.parts,
                ):  # fmt: skip
                    linked += len(links)
                    put_records(file, links)
            if linked:
                files["links"] = work.put_file("links", self.key, path)
        return clock.record(
            "image_duplicates: links", rows_in=len(records), rows_out=linked, bytes_in=records.nbytes, files=files
        )


def find_links(
    records: npt.NDArray[np.void],
    splits: npt.NDArray[np.uint64],
    threshold: int,
    *,
    largest: bool = False,
    first: int = 0,
    part: int = 0,
    parts: int = 1,
) -> Iterator[npt.NDArray[np.void]]:
    """The links of one part, in batches.

    Args:
        records: of `record_type`, any order. splits: uint64[n], the split of each.
        threshold: bits of 64 in which two linked hashes differ at most.
        largest: score places by pixels, so that the largest survives.
        first: links of two places of splits below it are left out.
        part, parts: of the links, those of one of so many ranges; all parts together give each once.

    Yields:
        Records of `link_type`; `jaccard` is the share of bits that are equal.
    """
    import numpy as np

    places = (splits << np.uint64(32)) | records["position"]
    order = np.lexsort((places, records["hash"]))
    places, hashes, pixels = places[order], records["hash"][order], records["pixels"][order]
    score = pixels.astype(np.float64) if largest else np.zeros(len(places))
    new = np.ones(len(places), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    heads = np.flatnonzero(new)
    mine = None if first == 0 else (places[heads] >> np.uint64(32)) >= np.uint64(first)

    def links(one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
        swap = places[one] > places[two]
        a, b = np.where(swap, two, one), np.where(swap, one, two)
        ours = (places[b] >> np.uint64(32)) >= np.uint64(first)
        a, b = a[ours], b[ours]
        found = np.zeros(len(a), link_type())
        found["a"], found["b"], found["a_score"], found["b_score"] = places[a], places[b], score[a], score[b]
        found["jaccard"] = 1 - differing(hashes[a], hashes[b]) / BITS
        return found

    if part == 0:
        leader = heads[np.cumsum(new) - 1]
        again = np.flatnonzero(~new)
        yield links(leader[again], again)
    for one, two in near_pairs(hashes[heads], threshold, part, parts, mine):
        yield links(heads[one], heads[two])


def near_pairs(
    hashes: npt.NDArray[np.uint64],
    threshold: int,
    part: int = 0,
    parts: int = 1,
    mine: npt.NDArray[np.bool_] | None = None,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Pairs of places in `hashes` (distinct uint64[n]) that differ in at most `threshold` bits, in batches.

    Args:
        mine: which are of the delivery, bool[n]: pairs of two others are neither looked at nor given. None: all are.
    """
    import numpy as np

    if threshold == 0:
        return
    masks = block_masks(threshold)
    keys = [masks[a] | masks[b] for a, b in itertools.combinations(range(len(masks)), 2)]
    for number, mask in enumerate(keys):
        key = hashes & mask
        chosen = np.arange(len(hashes)) if mine is None else _with_any(key, mine)
        if parts > 1:
            chosen = chosen[((key[chosen] * np.uint64(_SPREAD)) >> np.uint64(40)) % np.uint64(parts) == part]
        chosen = chosen[np.argsort(key[chosen], kind="stable")]
        ordered = key[chosen]
        begins = np.flatnonzero(np.concatenate([np.ones(min(1, len(ordered)), bool), ordered[1:] != ordered[:-1]]))
        counts = np.diff(np.append(begins, len(ordered)))
        left = np.repeat(begins + counts, counts) - np.arange(len(ordered))
        # Each with the one `step` further on, as long as that has the same key: in the end each with each.
        here = np.flatnonzero(left > 1)
        step = 1
        while len(here):
            one, two = chosen[here], chosen[here + step]
            if mine is not None:
                ours = mine[one] | mine[two]
                one, two = one[ours], two[ours]
            near = differing(hashes[one], hashes[two]) <= threshold
            one, two = one[near], two[near]
            earlier = np.zeros(len(one), bool)
            for before in keys[:number]:
                earlier |= (hashes[one] & before) == (hashes[two] & before)
            if not earlier.all():
                yield one[~earlier], two[~earlier]
            step += 1
            here = here[left[here] > step]


def _with_any(key: npt.NDArray[np.uint64], mine: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The places whose key a place of `mine` has, ascending, and some others: keys go by 20 bits of a product."""
    import numpy as np

    there = np.zeros(1 << 20, bool)
    slots = (key * np.uint64(_SPREAD)) >> np.uint64(44)
    there[slots[mine]] = True
    return np.flatnonzero(there[slots])


def block_masks(threshold: int) -> list[np.uint64]:
    """The bits of each of threshold + 2 blocks: every so-manieth bit, so that each has high and low frequencies."""
    import numpy as np

    blocks = threshold + 2
    return [np.uint64(sum(1 << bit for bit in range(block, BITS, blocks))) for block in range(blocks)]


def differing(one: npt.NDArray[np.uint64], two: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Bits in which two hashes differ, int64[n]: the sum over halves, quarters, … (Warren, Hacker's Delight, 5-1)."""
    import numpy as np

    bits = one ^ two
    for shift, mask in (
        (1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)
    ):  # fmt: skip
        bits = (bits & np.uint64(mask)) + ((bits >> np.uint64(shift)) & np.uint64(mask))
    return ((bits * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
