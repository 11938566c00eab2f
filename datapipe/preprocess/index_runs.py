"""Merging the runs of many deliveries into those of one, so that the next delivery looks in one place.

What enters: a manifest. What leaves: the entries of its index with fewer runs; their files are stored. Invariant: the
merged runs hold the records of those that they take the place of; what is not whole is left as it is.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from datapipe.preprocess.near.record_file import CLASSES, in_order
from datapipe.preprocess.prior_runs import run_name, runs_named
from datapipe.preprocess.sorted_run import Run, RunWriter, with_split
from datapipe.preprocess.stage import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datapipe.dataset import IndexEntry, Manifest
    from datapipe.preprocess.tasks import OutputFile
    from datapipe.preprocess.work import WorkFolder

PART: Final = 48 << 20
"""Bytes of a part of merged runs, about: what a later task has in memory of it is less, what this has is twice that."""
_MOST_PARTS: Final = CLASSES


def compacted_index(work: WorkFolder, manifest: Manifest) -> tuple[IndexEntry, ...] | None:
    """The index with the runs of each kind merged; None where there is nothing to merge.

    Raises:
        IntegrityError: a run is damaged. StorageError: one cannot be read or written.
    """
    groups: dict[str, dict[tuple[int, int, int], dict[int, IndexEntry]]] = defaultdict(lambda: defaultdict(dict))
    for entry in manifest.index:
        named = runs_named(entry.name)
        if named is not None:
            name, *splits = named
            groups[name][tuple(splits)][entry.split] = entry  # type: ignore[index]  # three numbers
    made: dict[str, tuple[IndexEntry, ...]] = {}
    for name, runs in groups.items():
        held = sorted(runs)
        whole = all(set(runs[key]) == set(range(key[2])) for key in held)
        # Those of neighbouring deliveries alone: of splits in between nothing else knows.
        apart = any(before[1] != after[0] for before, after in itertools.pairwise(held))
        if len(held) > 1 and whole and not apart:
            entries = [entry for key in held for _, entry in sorted(runs[key].items())]
            made[name] = tuple(_merged(work, name, entries, held[0][0], held[-1][1]))
    if not made:
        return None
    rest = [entry for entry in manifest.index if (named := runs_named(entry.name)) is None or named[0] not in made]
    return (*rest, *(entry for name in sorted(made) for entry in made[name]))


def _merged(work: WorkFolder, name: str, entries: Iterable[IndexEntry], first: int, end: int) -> Iterable[IndexEntry]:
    from datapipe.dataset import Checksum, FileEntry, IndexEntry

    kind = name.rpartition(":")[2]
    record = _type_of(kind.removesuffix(RUNS))
    entries = list(entries)
    parts = 1
    while parts < _MOST_PARTS and parts * PART < sum(entry.file.bytes for entry in entries):
        parts *= 2
    runs = [Run(work.store, entry.file.path, record) for entry in entries]
    for part in range(parts):
        low, high = CLASSES * part // parts, CLASSES * (part + 1) // parts
        file = _written(work, kind, record, runs, low, high)
        named = FileEntry(path=file.path, bytes=file.bytes, checksum=Checksum(value=file.checksum))
        yield IndexEntry(name=run_name(name, first, end, parts), split=part, file=named)


def _written(work: WorkFolder, kind: str, record: Any, runs: list[Run], low: int, high: int) -> OutputFile:
    import numpy as np

    with work.scratch_file(kind) as path:
        with closing(RunWriter(path, record, low, high)) as writer:
            writer.add(in_order(np.concatenate([run.between(low, high) for run in runs])))
            writer.finish()
        return work.keep_file(kind, path)


def _type_of(kind: str) -> Any:
    """The type of the records of a kind of runs."""
    if kind == "clusters":
        from datapipe.preprocess.near.resolution import known_type

        return known_type()
    if kind == "bands":
        from datapipe.preprocess.near.candidates import band_type

        return with_split(band_type())
    if kind in ("hashes", "ids"):
        from datapipe.preprocess.hashes import record_type

        return with_split(record_type())
    from datapipe.preprocess.near.repeated_pieces import piece_type

    return with_split(piece_type())
