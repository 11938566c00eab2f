"""What a run has made so far, as the tasks of later stages need it.

What enters: the records of finished stages. What leaves: paths of files with their checksums, drop lists split by
split. Invariant: everything is in the order of splits and buckets, whatever finished first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.passes import feeder_of, pass_of
from datapipe.preprocess.prior_runs import prior_of
from datapipe.preprocess.signals_file import SIGNALS
from datapipe.preprocess.stage import IDS, RUNS
from datapipe.preprocess.tasks import DropList, OutputFile, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.prior_runs import PriorRun
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import TaskRecord


@final
class Made:
    """Files and records by stage.

    Attributes:
        plan: what is being done. output: where.
        records: of each finished stage, by split or bucket.
        resources: by path as an option has it, the copy in the work folder.
        prior: by "<place of the global step in the recipe>:<kind>", (split, file) of earlier snapshots, for passes that
            compare with them.
        given: products of an earlier snapshot, by global step.
        erased: names the list of rows that have been erased (`Suppression.digest`); "" where none have.
    """

    def __init__(self, plan: Plan, output: Place, resources: Mapping[str, OutputFile] | None = None) -> None:
        self.plan = plan
        self.output = output
        self.records: dict[int, dict[int, TaskRecord]] = {}
        self.resources = dict(resources or {})
        self.prior: dict[str, list[tuple[int, OutputFile]]] = {}
        self.given: dict[str, OutputFile] = {}
        self.erased = ""

    def product(self, step: str) -> OutputFile | None:
        """The file that a global step has made for later ones; None where there is none (yet)."""
        if step in self.given:
            return self.given[step]
        for stage in self.plan.stages:
            if stage.owner == step and stage.number in self.records:
                made = pass_of(step).product(stage, self)
                if made is not None:
                    return made
        return None

    def files_of(self, step: RecipeStep) -> dict[str, list[OutputFile]]:
        """The files that a step's options stand for, by option: what the user named, or what a pass made."""
        found: dict[str, list[OutputFile]] = {}
        if step.spec.kind == "global" and not pass_of(step.name).by_rows:
            return found
        for option in step.spec.resources:
            value = getattr(step.options, option)
            paths = [value] if isinstance(value, str) else list(value)
            if any(paths):
                found[option] = [self.resources[path] for path in paths if path]
            elif (feeder := feeder_of(step.name, option)) and (made := self.product(feeder)):
                found[option] = [made]
        return found

    def files(self, stage: int, kind: str) -> list[tuple[int, OutputFile]]:
        """What a stage's tasks wrote of a kind, by split."""
        return [
            (split, record.files[kind]) for split, record in sorted(self.records[stage].items()) if kind in record.files
        ]

    def index_name(self, stage: int, kind: str) -> str:
        """What the index calls files of a kind that map stage `stage` writes: the same in every snapshot."""
        steps = self.plan.stages[stage].steps
        mine = [step for step in steps if step.spec.kind == "global" or kind == SIGNALS]
        # By identity: a recipe may have the same step twice.
        places = [place for place, step in enumerate(self.plan.recipe.steps) if any(step is each for each in mine)]
        if kind == SIGNALS:
            return f"{SIGNALS}:{','.join(map(str, places))}"
        return f"{'input' if kind.removesuffix(RUNS) == IDS else places[0]}:{kind}"

    def prior_files(self, stage: int, kind: str) -> list[tuple[int, OutputFile]]:
        """What earlier snapshots have kept of a kind, by split."""
        return self.prior.get(self.index_name(stage, kind), [])

    def prior_runs(self, stage: int, kind: str) -> tuple[list[tuple[int, OutputFile]], tuple[PriorRun, ...]]:
        """The same where there are runs of it: files of splits that no run has, and the runs (`prior_runs`)."""
        name = self.index_name(stage, kind)
        return prior_of(self.prior, f"{name}{RUNS}", self.prior.get(name, []))

    def drops(self, stage: Stage, split: int) -> tuple[tuple[DropList, ...], list[list[Any]]]:
        """The parts of the drop lists a stage is to apply that are one split's, and what names them in a task's key."""
        found: list[DropList] = []
        digests: list[list[Any]] = []
        for number in stage.drops:
            removal = self.plan.stages[number].removal
            assert removal is not None
            for _, record in sorted(self.records[number].items()):
                if (part := record.lists.get(str(split))) is not None:
                    batch, _, digest = part
                    found.append(DropList(path=record.files["drops"].path, batch=batch, removal=removal))
                    digests.append([removal.kind, removal.reason, digest])
        return tuple(found), digests
