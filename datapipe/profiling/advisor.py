"""Which fixes a run has, and what each would gain: candidates of its loader, each replayed.

What enters: a run and the facts of its loader. What leaves: `Advice`.
Invariant: only what can be done is advised, an option of the loader that was used, or a command; every figure comes
from a replay; the same run gives the same advice.

A run is judged by at most its first `MOST_SPANS` spans of work, whole steps of them: that bounds what advice costs
(measured: 1.1 ms of CPU time a span, so under 2 s) and leaves the interval, which the shorter sample widens, honest.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ProfileError
from datapipe.profiling.advice import LEAST, Advice, Fix
from datapipe.profiling.advice_reasons import nothing_gains
from datapipe.profiling.changes import Change, Prediction
from datapipe.profiling.loader_changes import crew, in_processes, processes, thread_counts, worker_counts
from datapipe.profiling.loader_changes import workers as workers_in_words
from datapipe.profiling.loader_facts import DATAPIPE, TORCH, Setting, option_of
from datapipe.profiling.replay import replay
from datapipe.profiling.what_if import changes_for, predict, work_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.workload import Workload

MOST_SPANS: Final = 1_500
_NEARLY: Final = 0.03
"""Of several counts of threads the smallest is advised that comes this close to the best: threads cost memory."""


def advise(run: RawRun) -> Advice | None:
    """The fixes of one run, best first; None where there is too little of it to replay.

    Args:
        run: the spans, with the loader's facts among its notes (`loader_facts`).
    """
    try:
        work = work_of(_first_steps(run))
        base = replay(work)
        if len(base) < len(work.takes):
            return None
        found = list(_fixes(work, run.notes))
    except ProfileError:
        return None
    worth = [fix for fix in found if fix.gain >= LEAST and fix.high < fix.recorded_ns]
    worth.sort(key=lambda fix: -fix.rank)
    loader = str(run.notes.get("loader") or "")
    return Advice(fixes=tuple(worth), sentence=_sentence(worth, found, loader, work, run), loader=loader)


def _sentence(fixes: list[Fix], found: list[Fix], loader: str, work: Workload, run: RawRun) -> str:
    if fixes:
        return f"{len(fixes)} fix{'es' if len(fixes) > 1 else ''}, each predicted alone: gains do not add up."
    if not loader:
        return "No advice: the loader that was used is not one whose options are known."
    said = nothing_gains(run, work, found)
    try:
        faster = predict(work, Change(kind="device", factor=2.0))
    except ProfileError:
        return said
    return f"{said} Compute 2× faster would gain {faster.gain:.0%}." if faster.gain >= LEAST else said


def _first_steps(run: RawRun) -> RawRun:
    """The run up to the end of a step by which it has about `MOST_SPANS` spans."""
    import numpy as np

    if len(run.spans) <= MOST_SPANS:
        return run
    spans = run.spans[np.argsort(run.spans["end"], kind="stable")]
    steps = spans["end"][spans["stage"] == run.stages.index("step")]
    ends = steps[steps <= spans["end"][MOST_SPANS]]
    if len(ends) < 20:  # so many spans a step that fewer steps would say too little
        ends = steps[:20]
    if not len(ends):
        return run
    kept = spans[spans["end"] <= ends[-1]]
    kept = kept[np.argsort(kept["start"], kind="stable")]
    return dataclasses.replace(run, spans=kept, ended=int(ends[-1]), wall=int(ends[-1]) - run.began)


def _fixes(work: Workload, notes: Mapping[str, Any]) -> Iterator[Fix]:
    loader = notes.get("loader")
    if loader == TORCH:
        yield from _of_torch(work, notes)
    elif loader == DATAPIPE:
        yield from _of_datapipe(work, notes)
    kinds = {change.kind for change in changes_for(work)}
    for kind, title, line, cost in _DATASET if loader == DATAPIPE else ():
        if kind in kinds:
            stage = "transform" if kind == "offline" else None
            found = predict(work, Change(kind=kind, stage=stage))
            yield _fix(found, title, line, cost, effort=2 if kind != "cache warm" else 1)


_DATASET: Final = (
    ("cache warm", "a cache on this machine", 'datapipe.open_dataset(URL, cache="cache/")',
     "disk for what is read; the first epoch stays as it is"),
    ("row groups", "row groups twice as large", "output: {row_group_rows: 2048}  # in the recipe; then preprocess",
     "the dataset is written anew; more memory a row group"),
    ("decode", "a codec twice as fast", "output: {compression: lz4}  # in the recipe; then preprocess",
     "the dataset is written anew, and larger"),
    ("offline", "the transform moved offline", "steps: […, the transform]  # in the recipe; then preprocess",
     "the dataset is written anew; random augmentation cannot move"),
)  # fmt: skip


def _of_torch(work: Workload, notes: Mapping[str, Any]) -> Iterator[Fix]:
    workers, ahead = option_of(notes, "num_workers"), option_of(notes, "prefetch_factor")
    if isinstance(workers, int) and any(segment.stage for job in work.jobs for segment in job.work):
        found = _smallest(worker_counts(work, notes))
        if found is not None:
            n, prediction = found
            options: dict[str, Setting] = {"num_workers": n, "persistent_workers": True}
            line = f"DataLoader(…, num_workers={n}, persistent_workers=True)"
            cost = f"{n} process{'es' if n > 1 else ''}, each with its own copy of what the dataset holds"
            yield _fix(prediction, workers_in_words(n), line, cost, options=options)
    if isinstance(workers, int) and workers > 0:
        factor = ahead if isinstance(ahead, int) else 2
        line = f"DataLoader(…, prefetch_factor={2 * factor})"
        cost = f"memory for {factor * workers} more batches"
        options = {"prefetch_factor": 2 * factor}
        found_one = predict(work, Change(kind="prefetch"))
        yield _fix(found_one, "twice as many batches ahead", line, cost, options=options)
        if workers > 1 and option_of(notes, "in_order"):
            line, cost = "DataLoader(…, in_order=False)", "batches in another order each run"
            prediction = predict(work, Change(kind="order"))
            yield _fix(prediction, "batches as they are ready", line, cost, options={"in_order": False})
    copied = any(segment.stage == "h2d" for take in work.takes for segment in take.work)
    if copied and option_of(notes, "pin_memory") is False:
        line = "DataLoader(…, pin_memory=True), and batch.to(device, non_blocking=True)"
        prediction = predict(work, Change(kind="pinned"))
        yield _fix(prediction, "page-locked batches", line, "page-locked memory", options={"pin_memory": True})


def _of_datapipe(work: Workload, notes: Mapping[str, Any]) -> Iterator[Fix]:
    (threads, _), ahead = crew(work), option_of(notes, "prefetch")
    if threads:
        found = _smallest(thread_counts(work))
        if found is not None:
            n, prediction = found
            line, cost = f"DataLoader(…, num_threads={n})", f"memory for {n - threads} more row groups in the making"
            yield _fix(prediction, f"{n} threads", line, cost, options={"num_threads": n})
    if isinstance(ahead, int) and ahead > 0 and work.jobs:
        line, cost = f"DataLoader(…, prefetch={2 * ahead})", f"memory for {ahead} more batches"
        prediction = predict(work, Change(kind="prefetch"))
        yield _fix(prediction, "twice as many batches ahead", line, cost, options={"prefetch": 2 * ahead})
    if (wanted := processes(work)) is not None:
        prediction = in_processes(work, wanted)
        line, cost = f'DataLoader(…, workers="process", num_threads={wanted})', f"{wanted} processes"
        options: dict[str, Setting] = {"workers": "process", "num_threads": wanted}
        yield _fix(prediction, "the transform in processes", line, cost, options=options)
    if any(segment.stage in ("gather", "collate", "h2d") for job in work.jobs for segment in job.work):
        prediction = predict(work, Change(kind="dtypes"))
        line = 'DataLoader(…, dtypes="stored")'
        yield _fix(prediction, "integers as narrow as they are stored", line, "the model widens them", effort=1)


def _smallest(tried: list[tuple[int, Prediction]]) -> tuple[int, Prediction] | None:
    if not tried:
        return None
    best = min(prediction.step_ns for _, prediction in tried)
    return next(pair for pair in tried if pair[1].step_ns <= best * (1 + _NEARLY))


def _fix(
    found: Prediction, title: str, do: str, cost: str, *, effort: int = 0, options: dict[str, Setting] | None = None
) -> Fix:
    return Fix(
        title=title, do=do, cost=cost, effort=effort, gain=found.gain, recorded_ns=found.recorded_ns,
        step_ns=found.step_ns, low=found.low, high=found.high, extrapolated=found.extrapolated, reason=found.reason,
        options=options or {},
    )  # fmt: skip
