"""Which runs and which files of earlier deliveries a pass is to be compared with.

What enters: the index as a manifest names it. What leaves: runs (`sorted_run`), and the files of those splits that no
run has. Invariant: each split of an earlier delivery is in a run or in a file, and never in both; runs are made of the
files and may be left out at any time (erasing a row does), since the files say all that they say.

An index entry of runs is named "<place of the step>:<kind>_runs@<first>-<end>/<parts>": it holds the splits from first
to end - 1, and its number is that of its part of the classes of hashes.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.near.record_file import CLASSES, in_order
from datapipe.preprocess.sorted_run import RunWriter, matching
from datapipe.preprocess.stage import RUNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.tasks import OutputFile
    from datapipe.preprocess.work import WorkFolder
    from datapipe.storage import Store

_NAME: Final = re.compile(rf"(.+{RUNS})@(\d+)-(\d+)/(\d+)")


def written(work: WorkFolder, kind: str, records: npt.NDArray[np.void], low: int, high: int) -> OutputFile:
    """Store records, any order, as the run of classes [low, high) that later deliveries are compared with."""
    with work.scratch_file(kind) as path:
        with closing(RunWriter(path, records.dtype, low, high)) as writer:
            writer.add(in_order(records))
            writer.finish()
        return work.keep_file(kind, path)


@final
@dataclass(frozen=True, kw_only=True)
class PriorRun:
    """One part of the runs of one or more deliveries: classes [low, high) of hashes."""

    low: int
    high: int
    path: str
    checksum: str


def run_name(name: str, first: int, end: int, parts: int) -> str:
    """What an entry of the index is called."""
    return f"{name}@{first}-{end}/{parts}"


def runs_named(name: str) -> tuple[str, int, int, int] | None:
    """The inverse of `run_name`; None for an entry that is no part of runs."""
    match = _NAME.fullmatch(name)
    return None if match is None else (match[1], int(match[2]), int(match[3]), int(match[4]))


def is_run(name: str) -> bool:
    """Whether an entry of the index is a part of runs."""
    return runs_named(name) is not None


def prior_of(
    index: Mapping[str, Sequence[tuple[int, OutputFile]]], name: str, files: Sequence[tuple[int, OutputFile]]
) -> tuple[list[tuple[int, OutputFile]], tuple[PriorRun, ...]]:
    """Files of splits that no run has, and the runs.

    Args:
        index: files by name. name: of the runs, without the splits. files: by split.
    """
    runs: list[PriorRun] = []
    covered: list[range] = []
    for each, entries in sorted(index.items()):
        named = runs_named(each)
        if named is None or named[0] != name:
            continue
        _, first, end, parts = named
        held = dict(entries)
        if set(held) != set(range(parts)):
            continue  # not whole: the files say the same
        covered.append(range(first, end))
        for part, file in sorted(held.items()):
            low, high = CLASSES * part // parts, CLASSES * (part + 1) // parts
            runs.append(PriorRun(low=low, high=high, path=file.path, checksum=file.checksum))
    return [(split, file) for split, file in files if not any(split in each for each in covered)], tuple(runs)


def known_of(store: Store, runs: Sequence[PriorRun], kind: Any, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    """The records of earlier deliveries that have one of these hashes (any order, repeats allowed)."""
    import numpy as np

    return matching(store, [run.path for run in runs], kind, np.unique(hashes))


def of_classes(runs: Sequence[PriorRun], low: int, high: int) -> tuple[PriorRun, ...]:
    """The runs that have hashes of classes [low, high)."""
    return tuple(run for run in runs if run.low < high and low < run.high)
