"""What a run leaves for later deliveries to be compared with, as its manifest names it.

What enters: a plan, and what was made by it. What leaves: entries of the index, in the order of stages and splits.
Invariant: an entry is called the same in every snapshot, so that what is compared with what is found by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.preprocess.prior_runs import run_name
from datapipe.preprocess.signals_file import SIGNALS
from datapipe.preprocess.stage import MAP, RUNS
from datapipe.preprocess.statistics_task import STATISTICS
from datapipe.preprocess.work import INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.dataset import FileEntry, IndexEntry
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.tasks import OutputFile


def index_entries(plan: Plan, made: Made, splits: int) -> Iterator[IndexEntry]:
    """The entries; `splits`: how many the run's ledger has."""
    from datapipe.dataset import IndexEntry

    for stage in plan.stages:
        kinds = (*stage.writes, SIGNALS) if stage.kind == MAP else stage.writes
        for kind in (kind for kind in kinds if kind != STATISTICS):
            for split, file in made.files(stage.number, kind):
                if file.path.startswith(f"{INDEX}/"):
                    name = made.index_name(stage.number, kind)
                    if kind.endswith(RUNS):
                        name = run_name(name, plan.first_split, plan.first_split + splits, stage.tasks)
                    yield IndexEntry(name=name, split=split, file=_entry(file))
        if STATISTICS in stage.writes:
            (file,) = (each for _, each in made.files(stage.number, STATISTICS))
            yield IndexEntry(name=f"{stage.owner}:{STATISTICS}", split=0, file=_entry(file))


def _entry(file: OutputFile) -> FileEntry:
    from datapipe.dataset import Checksum, FileEntry

    return FileEntry(path=file.path, bytes=file.bytes, checksum=Checksum(value=file.checksum))
