"""The last task of a pass that drops near duplicates, whatever they are duplicates by: links → clusters → drop lists.

What enters: the stage, and the files of links and of clusters of earlier snapshots. What leaves: its one task.
Invariant: the task's key names those files by their content, and nothing of where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.preprocess.near.near_tasks import ClustersTask
from datapipe.preprocess.tasks import task_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.preprocess.made import Made
    from datapipe.preprocess.prior_runs import PriorRun
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import OutputFile

    Files = Sequence[tuple[int, OutputFile]]
    """(split or part, file) of each."""


def clusters_task(
    stage: Stage,
    made: Made,
    *,
    links: Files,
    before: Files,
    compared: int,
    rule: tuple[Any, ...] = (),
    runs: tuple[PriorRun, ...] | None = None,
    keeps: str = "",
) -> ClustersTask:
    """The task of a stage of clusters.

    Args:
        before: clusters of earlier snapshots. runs: and those of them that are in runs; None: of a pass without runs.
        compared: the map stage whose rows were compared. rule: what else names the work, first in the key.
        keeps: see `ClustersTask`.
    """
    first = made.plan.first_split
    inputs = [*rule, first, *([file.checksum for _, file in files] for files in (links, before))]
    if runs is not None:
        inputs.append([run.checksum for run in runs])
    return ClustersTask(
        key=task_key(made.plan.definition(stage), inputs),
        stage=stage.number,
        name=stage.name,
        split=0,
        output=made.output,
        bytes=sum(file.bytes for _, file in links),
        links=tuple(file.path for _, file in links),
        before=tuple(file.path for _, file in before),
        first=first,
        documents=sum(record.rows_out for record in made.records[compared].values()),
        step=stage.owner,
        runs=runs or (),
        keeps=keeps,
    )
