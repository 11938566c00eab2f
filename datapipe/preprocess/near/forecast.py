"""What near-duplicate removal of a corpus will need and find, before it is started.

What enters: how many documents and bytes, the step's options, the machine. What leaves: memory, disk, time and the
chance with which pairs are found. Invariant: a function of those numbers; nothing is read.

Sizes follow from the file formats. Times are measured (one core of an EPYC at 2.6 GHz, real text of 5 kB a document):
they are right within a factor of two or three on another machine, and say where the time goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.amounts import counted, size, spoken
from datapipe.steps.min_hash import recall

if TYPE_CHECKING:
    from datapipe.steps.near_duplicates import NearDuplicatesOptions

CHARACTERS_A_WORD: Final = 6.5
"""Bytes of text a word, with what parts it: 6.6 in the English of Debian's documentation, 6 in FineWeb."""
BYTES_A_SECOND: Final = 45e6
"""Of text, a core: words, shingles, signature, sorted bands."""
RECORDS_A_SECOND: Final = 3e6
"""Band records sorted and joined, a core."""
PAIRS_A_SECOND: Final = 60e3
"""Pairs read and compared, a core, at 600 shingles a document."""
PAIRS_A_DOCUMENT: Final = 1.5
"""Candidates: 1.6 in the documentation above, a sixth of it planted copies."""
LINKS_A_DOCUMENT: Final = 0.25
_FIXED: Final = 150 << 20
"""Bytes of a process that has Arrow, polars and numpy loaded."""


@final
@dataclass(frozen=True, kw_only=True)
class NearForecast:
    """What will be needed and found. `str()` is what `--dry-run` prints.

    Attributes:
        index_bytes: band and sets files, kept beside the dataset; scratch_bytes: pairs and links, in the work folder.
        worker_bytes: peak memory of a worker; clusters_bytes: of the one task that sees all links, on disk beyond
            `components.IN_MEMORY` of them.
        seconds: on `workers` cores, by stage.
        recall: of pairs by their Jaccard similarity: how many are compared, and linked if alike enough.
    """

    documents: int
    workers: int
    index_bytes: int
    scratch_bytes: int
    worker_bytes: int
    clusters_bytes: int
    seconds: dict[str, float] = field(repr=False)
    recall: dict[float, float] = field(repr=False)
    exact_shingles: int

    @property
    def total_seconds(self) -> float:
        """Of all stages."""
        return sum(self.seconds.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "documents": self.documents,
            "workers": self.workers,
            "index_bytes": self.index_bytes,
            "scratch_bytes": self.scratch_bytes,
            "worker_bytes": self.worker_bytes,
            "clusters_bytes": self.clusters_bytes,
            "seconds": self.seconds,
            "recall": {f"{jaccard:.2f}": chance for jaccard, chance in self.recall.items()},
            "exact_shingles": self.exact_shingles,
        }

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in self.seconds.items())
        curve = ", ".join(f"{jaccard:.2f}: {chance:.3f}" for jaccard, chance in self.recall.items())
        documents = counted(self.documents, "document")
        return "\n".join(
            [
                f"near_duplicates of about {documents} on {counted(self.workers, 'worker')}, about",
                f"    time    {spoken(self.total_seconds)} ({stages})",
                f"    disk    {size(self.index_bytes)} in the index, {size(self.scratch_bytes)} in the work folder",
                f"    memory  {size(self.worker_bytes)} a worker; the clusters once {size(self.clusters_bytes)}",
                f"    found   of pairs with a similarity of {curve}",
                f"    exact   similarities of documents of up to {self.exact_shingles:,} shingles; an estimate beyond",
            ]
        )


def forecast(documents: int, text_bytes: int, options: NearDuplicatesOptions, *, workers: int = 1) -> NearForecast:
    """What a run will need.

    Args:
        documents: how many. text_bytes: UTF-8 bytes of their texts, about.
        options: of the step.
        workers: processes, each with a core of its own.

    Returns:
        See NearForecast.
    """
    from datapipe.preprocess.near.candidates import band_type, pair_type
    from datapipe.preprocess.near.clusters import link_type
    from datapipe.preprocess.near.components import IN_MEMORY
    from datapipe.preprocess.near.near_tasks import RECORDS, SETS
    from datapipe.preprocess.near.record_file import SPILL
    from datapipe.preprocess.near.sets_file import record_type

    documents = max(documents, 0)
    mean = text_bytes / CHARACTERS_A_WORD / max(documents, 1)
    shingles = documents * _kept(mean, options.sketch)
    records = documents * options.bands
    pairs = documents * PAIRS_A_DOCUMENT
    links = documents * LINKS_A_DOCUMENT
    index = records * band_type().itemsize + documents * record_type().itemsize + 4 * shingles
    scratch = pairs * pair_type().itemsize + links * link_type().itemsize
    verify = pairs / PAIRS_A_SECOND * max(0.05, min(mean, options.sketch) / 600) if options.verify else pairs / 1e6
    cores = max(workers, 1)
    # Where a task sorts: what it holds, once more in order, and the order itself.
    held = min(max(SPILL * 3, RECORDS * (band_type().itemsize * 3 + 16), SETS * 3), 6 * (index + scratch))
    points = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    return NearForecast(
        documents=documents,
        workers=cores,
        index_bytes=round(index),
        scratch_bytes=round(scratch),
        worker_bytes=round(_FIXED + held),
        clusters_bytes=round(_FIXED + min(links, IN_MEMORY) * 150),
        seconds={
            "sign": text_bytes / BYTES_A_SECOND / cores,
            "pairs": records / RECORDS_A_SECOND / cores,
            "verify": verify / cores,
            "clusters": links / 1e6,
        },
        recall={
            jaccard: recall(jaccard, options.bands, options.rows)
            if jaccard >= options.threshold or not options.verify
            else 0.0
            for jaccard in points
        },
        exact_shingles=options.sketch,
    )


def _kept(mean: float, sketch: int) -> float:
    """Shingles kept of a document, if their numbers are spread like an exponential distribution of this mean."""
    import math

    return mean * (1 - math.exp(-sketch / mean)) if mean > 0 else 0.0
