"""The whole run: recipe and inputs → plan → tasks, stage by stage → ledger → published dataset.

What enters: what the user typed. What leaves: a `RunSummary`, and a dataset at the output. Invariant: the records
in the work folder are the only memory. Whenever it is killed, whatever the number of workers, the next run does what is
not recorded, and publishes the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

from datapipe.errors import ConfigError, CorpusError, PreprocessError
from datapipe.preprocess.admission import admission_for
from datapipe.preprocess.delivery import put_sources
from datapipe.preprocess.encrypting import sealing_of
from datapipe.preprocess.engine import Engine, open_engine, refuse_inside_worker
from datapipe.preprocess.evaluation_items import evaluation_counters
from datapipe.preprocess.index_entries import index_entries
from datapipe.preprocess.limits import BATCH_SECONDS, MEMORY, Limits
from datapipe.preprocess.made import Made
from datapipe.preprocess.meter import Meter
from datapipe.preprocess.output_folder import check_ours, claim, sweep
from datapipe.preprocess.poison import PoisonRow, keys_with_poison, known_task, poison_error, poison_file
from datapipe.preprocess.publishing import REJECTS, nothing_left, publish_run, store_tokenizer
from datapipe.preprocess.recipe_file import load_recipe
from datapipe.preprocess.rejects import RejectSample
from datapipe.preprocess.row_ledger import RowLedger
from datapipe.preprocess.run_files import run_files
from datapipe.preprocess.sealed_file import sealed
from datapipe.preprocess.stage import MAP
from datapipe.preprocess.stage_tasks import tasks_of
from datapipe.preprocess.statistics_task import STATISTICS
from datapipe.preprocess.summary import RunSummary, nothing_new
from datapipe.preprocess.suppression import read_suppression
from datapipe.preprocess.survey import survey
from datapipe.preprocess.survivors import with_survivors
from datapipe.preprocess.tasks import PASSING, OutputFile, Place, StepCost, TaskRecord
from datapipe.preprocess.telling import TELLING, finish_telling, put_aside, put_in_place
from datapipe.preprocess.warnings_of_run import columns_never_there, warnings_of
from datapipe.steps.safety_score import has_classifier
from datapipe.steps.user_steps import is_user_step

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datapipe.dataset import FileEntry, Manifest
    from datapipe.preprocess.delivery import Before
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.progress import Progress
    from datapipe.preprocess.scheduler import Scheduler
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.survey import Inputs
    from datapipe.preprocess.tasks import Task
    from datapipe.preprocess.work import WorkFolder
    from datapipe.storage import Store


def preprocess(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    recipe: Any = "text",
    workers: int | None = None,
    scheduler: str | Scheduler | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    fresh: bool = False,
    on_error: Literal["quarantine", "stop"] = "quarantine",
    on_progress: Callable[[Progress], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    worker_memory: int = MEMORY,
    batch_seconds: float = BATCH_SECONDS,
    keep_work: bool = True,
    append: bool = False,
    **more_overrides: Any,
) -> RunSummary:
    """Clean, filter, deduplicate, tokenize and shard raw inputs; every document is accounted for.

    Args:
        inputs: files, folders, globs or URLs.
        output: a folder or URL: empty, or written by an earlier run.
        recipe: a shipped recipe's name, a YAML file, or a mapping of the same shape.
        workers: processes on this machine; 0: in this process; None: one per core, and this process for an input of
            one split without steps of the user's own. The bytes that are written do not depend on it.
        scheduler: a Dask scheduler to use instead: its address ("tls://host:8786", "tcp://127.0.0.1:8786"), or a
            `Scheduler` with the files for TLS.
        overrides: values by "step.option"; `**{"pack.seq_len": 512}` says the same.
        fresh: forget what an earlier run has done.
        on_error: what a document that cannot be read does: "quarantine" counts it, "stop" ends the run.
        on_progress: called after each task, in this process.
        storage_options: for remote inputs and outputs, as fsspec takes them.
        worker_memory: bytes that a worker may hold; a row that makes it hold more is quarantined. 0: no limit.
        batch_seconds: how long a batch of 8 MiB may take (larger ones in proportion) before its worker is ended, and
            the row that hangs is quarantined. A worker on this machine that is silent for twice as long as a task may
            take (a minute at least) is replaced. 0: no limit. Neither limit holds where this process does the work.
        keep_work: keep the rows between stages, so that a change of a late step, or added input, reruns only what it
            must. Without them the output is smaller, and the next run starts anew.
        append: add the files that are new to the dataset at the output, as a snapshot of its own, compared with all
            that was delivered before; the vocabulary stays as it is. The recipe must be the one that made it. Where
            there is no dataset yet, this is a first run like any other.

    Raises:
        ConfigError: an argument or the recipe is wrong. CorpusError: there is nothing to read.
        OutputError: the output holds something else, or another run holds it.
        PreprocessError: the run could not finish. StorageError: bytes could not be read or written.
        What was published before is left as it was by all of these.
    """
    started = time.perf_counter()
    if on_error not in ("quarantine", "stop"):
        raise ConfigError(f"on_error={on_error!r}", expected="'quarantine' or 'stop'")
    limits = Limits(memory=worker_memory, batch_seconds=batch_seconds)
    refuse_inside_worker()
    from datapipe.storage import open_store

    store = open_store(str(output), storage_options=storage_options)
    # A worker elsewhere has another working folder.
    place = Place(url=str(output) if store.local_path("x") is None else store.url, options=storage_options)
    if place.url.startswith("memory:") and workers != 0:
        raise ConfigError(f"output {place.url} and worker processes", expected="a place they share", fix="workers=0")
    loaded = load_recipe(recipe, {**(overrides or {}), **more_overrides})
    check_ours(store)
    # Before the folder is claimed, so that a mistyped input leaves nothing behind.
    found = survey(inputs, store, loaded, storage_options, append=append)
    with claim(store) as work, contextlib.ExitStack() as stack:
        if append:
            # Again, under the lock: what is added to must be the newest snapshot until this one is published.
            found = survey(inputs, store, loaded, storage_options, append=True, known=found)
            if not found.redone:
                finish_telling(store)
        if found.before is not None and not found.plan.splits:
            return nothing_new(store, found, started)
        if fresh:
            work.discard()
        place = replace(place, sealing=sealing_of(found.plan.recipe, store))
        stack.enter_context(sealed(place.secret()))
        run = _Run(found.plan, place, store, work, storage_options, found.before)
        run.stop, run.report = on_error == "stop", on_progress
        run.open_engine = lambda: open_engine(
            workers,
            scheduler,
            splits=len(found.plan.splits),
            limits=limits,
            foreign=_foreign(found.plan),
            admission=lambda: admission_for(found.plan, place, storage_options),
        )
        stack.callback(run.close)
        for stage in found.plan.stages:
            run.stage(stage)
        return run.finish(started, found, keep_work=keep_work)


@final
class _Run:
    """The state of a run in progress."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        store: Store,
        work: WorkFolder,
        storage_options: Mapping[str, Any] | None,
        before: Before | None = None,
    ) -> None:
        self.plan = plan
        self.store = store
        self.work = work
        self.before = before
        self.ledger = RowLedger(len(plan.splits), plan.first_split)
        self.rejects = RejectSample(plan.recipe.seed)
        self.stop = False
        self.report: Callable[[Progress], None] | None = None
        self.open_engine: Callable[[], Engine]
        self.workers = 0
        self._engine: Engine | None = None
        self._ran = self._reused = 0
        self._costs: dict[str, StepCost] = {}
        self._counters: dict[str, int] = {}
        self._poison: dict[str, PoisonRow] = {}
        self._keys: set[str] = set()
        self._interrupted = work.interrupted()
        # Listed once, not by every stage: records of all deliveries before are there, too.
        self._poisoned, self._recorded = keys_with_poison(work), set(work.recorded())
        self._seconds: dict[str, float] = {}
        self._text_bytes = 0
        self._input_options = storage_options
        # Files that options name, copied to where every worker can read them.
        copies = {path: work.copy_file("resource", checksum, path) for path, checksum in plan.resources.items()}
        self._made = Made(plan, place, copies)
        self._made.erased = read_suppression(store).digest
        if before is not None:
            self._made.given = dict(before.given)
            self._made.prior = dict(before.index)

    def stage(self, stage: Stage) -> None:
        """Do what is not done of a stage."""
        began = time.perf_counter()
        tasks = list(tasks_of(stage, self._made, self._input_options))
        meter = Meter(stage, len(self.plan.stages), len(tasks), began, self.report)
        meter.bytes_total = sum(task.bytes for task in tasks)
        records: dict[int, TaskRecord] = {}
        self._made.records[stage.number] = records
        # Two splits of equal rows are one task: what it writes is the same, and it is done once.
        pending: dict[str, list[Task]] = {}
        self._keys.update(task.key for task in tasks)
        for task in tasks:
            as_known = task
            if task.key in self._poisoned:
                as_known = known_task(task, self.work)
            record = self.work.done(as_known.key) if as_known.key in self._recorded else None
            if record is None or any(reason in record.quarantined for reason in PASSING):
                pending.setdefault(task.key, []).append(task)
                continue
            self._reused += 1
            self._take(stage, record, task.split, records)
            meter.tell(task, record, reused=True)
        if pending:
            if self._engine is None:
                self._engine = self.open_engine()
            meter.dashboard = self._engine.dashboard
            to_do = [same[0] for same in pending.values()]
            with contextlib.closing(self._engine.run(to_do, self._interrupted)) as running:
                for done, record in running:
                    self._ran += 1
                    self._recorded.add(done.key)
                    for task in pending[done.key]:
                        self._take(stage, record, task.split, records)
                        meter.tell(task, record, reused=False)
        if stage.moves:
            assert stage.source is not None
            self.ledger.move(stage.name, self._made.records[stage.source], records)
        if stage.in_ledger:
            self.ledger.add(stage.name, records)
            total = self.ledger.total()
            # A delivery may hold nothing, or nothing but what is there already; a dataset of its own may not be empty.
            if self.before is None and not total["documents_in"]:
                raise CorpusError("the input holds no document", expected="at least one row", fix="check the files")
            if self.before is None and not total["documents_out"]:
                raise nothing_left(self.ledger)
            self._text_bytes = self._text_bytes or sum(record.text_bytes for record in records.values())
        self._seconds[stage.name] = time.perf_counter() - began

    def _take(self, stage: Stage, record: TaskRecord, split: int, records: dict[int, TaskRecord]) -> None:
        for row in record.found.get("poison", ()):
            found = PoisonRow(row_id=row[0], step=row[1], reason=row[2], detail=row[3])
            # A row may do harm in a stage that only looks at it, and again where it is handed on.
            self._poison.setdefault(found.row_id, found)
            if self.stop:
                raise poison_error(found)
        if stage.in_ledger:
            if self.stop and record.first_bad is not None:
                self._raise_bad(record)
            self.rejects.add(record.rejects)
            for name, n in record.counters.items():
                self._counters[name] = self._counters.get(name, 0) + n
        for cost in record.steps:
            before = self._costs.get(cost.name)
            self._costs[cost.name] = cost if before is None else before.plus(cost)
        # Samples and costs are summed up: what is kept of a record is small, and there may be 10^5 of them.
        records[split] = replace(record, rejects=(), steps=())

    @staticmethod
    def _raise_bad(record: TaskRecord) -> None:
        bad = record.first_bad
        assert bad is not None
        error = PreprocessError(
            f"{bad.row_id}: {bad.reason}" + (f" ({bad.detail})" if bad.detail else ""),
            expected="no bad data (on_error is 'stop')",
            fix="repair or remove the row, or count bad rows instead: --on-error quarantine",
        )
        error.add_note(f"step {bad.step}, split {record.split}")
        raise error

    def finish(self, started: float, inputs: Inputs, *, keep_work: bool) -> RunSummary:
        """Publish, tidy up, sum up."""
        self.close()
        sweep(self.work)  # a worker may have died in the middle of a file
        last = self.plan.stages[-1].number
        rejects = with_survivors(self.rejects.rows(), self._made, self.store)
        told: list[tuple[RunSummary, dict[str, bytes]]] = []

        def tell(manifest: Manifest) -> None:
            summary = self._summary(manifest, rejects, started, inputs)
            files = {f"{REJECTS}/{name}": data for name, data in rejects.files().items()}
            files |= run_files(self.store, self.plan, manifest, self.ledger, summary)
            told.append((summary, files))
            if self.before is not None:
                put_aside(self.store, manifest, files)

        publish_run(
            self.store,
            self.plan,
            self._made.records[last],
            self.ledger,
            self._vocabulary(),
            tell=tell,
            before=self.before,
            sources=put_sources(
                self.store, (file for record in self._readers() for file in record.found.get("sources", ()))
            ),
            index=list(index_entries(self.plan, self._made, len(self.ledger.entries()))),
            statistics=self._statistics(),
            encryption=None if self._made.output.sealing is None else self._made.output.sealing.entry(),
        )
        if keep_work and self.before is not None:
            pass  # the records of earlier deliveries are not of this plan, and may be wanted again
        elif keep_work:
            records = [record for found in self._made.records.values() for record in found.values()]
            files = [*(file.path for file in self._made.resources.values()), *map(poison_file, self._keys)]
            self.work.prune(records, files=files)
        else:
            self.work.discard(keep=TELLING)
        ((summary, to_tell),) = told
        put_in_place(self.store, to_tell)
        return summary

    def _summary(self, manifest: Manifest, rejects: RejectSample, started: float, inputs: Inputs) -> RunSummary:
        seconds = time.perf_counter() - started
        total = self.ledger.total()
        gone = {**total["dropped"], **total["quarantined"]}
        crashed = {row.step for row in self._poison.values()}
        return RunSummary(
            output=self.store.url,
            fingerprint=manifest.fingerprint,
            recipe=self.plan.recipe.name,
            documents_in=total["documents_in"],
            documents_out=total["documents_out"],
            dropped=total["dropped"],
            duplicates=total["duplicates"],
            quarantined=total["quarantined"],
            rows=manifest.rows,
            tokens=manifest.tokens,
            shards=len(manifest.shards),
            bytes_in=self.plan.bytes,
            text_bytes=self._text_bytes,
            seconds=seconds,
            tasks_run=self._ran,
            tasks_reused=self._reused,
            workers=self.workers,
            steps=tuple(self._costs.values()),
            counters=dict(sorted({**self._counters, **evaluation_counters(self.plan.recipe)}.items())),
            stages={name: round(value, 6) for name, value in self._seconds.items()},
            warnings=(
                *([] if inputs.replaced is None else [inputs.replaced]),
                *inputs.unlabelled,
                *columns_never_there(self.plan, self._readers()),
                *warnings_of(self.plan, tuple(self._costs.values()), inputs.skipped, gone, crashed),
            ),
            rejects=rejects.rows(),
            poison=tuple(self._poison[row_id] for row_id in sorted(self._poison)),
            snapshot=manifest.snapshot,
            files_known=inputs.known,
        )

    def _vocabulary(self) -> FileEntry | None:
        file = self._tokenizer()
        if file is None:
            return None
        from tokenizers import Tokenizer

        data = self.store.read(file.path)
        return store_tokenizer(self.store, data, Tokenizer.from_str(data.decode()).get_vocab_size())

    def _statistics(self) -> dict[str, Any]:
        """What the steps of the recipe were given of the kind, by step."""
        found = {}
        for step in self.plan.recipe.steps:
            for file in self._made.files_of(step).get(STATISTICS, ()):
                found[step.name] = json.loads(self.store.read(file.path))
        return found

    def _readers(self) -> Iterator[TaskRecord]:
        """The records of the tasks that read the corpus."""
        for stage in self.plan.stages:
            if stage.kind == MAP and stage.source is None:
                yield from self._made.records[stage.number].values()

    def _tokenizer(self) -> OutputFile | None:
        """What the step tokenize was given; without one, the vocabulary that was trained."""
        for step in self.plan.recipe.steps:
            if step.name == "tokenize":
                return self._made.files_of(step)["tokenizer"][0]
        return self._made.product("vocabulary")

    def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            self.workers = self._engine.workers
            self._engine.close()
            self._engine = None


def _foreign(plan: Plan) -> bool:
    """Whether a step is the user's own, or runs a classifier that is."""
    return any(is_user_step(step.name) or has_classifier(step.options) for step in plan.recipe.steps)
