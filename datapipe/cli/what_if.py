"""`datapipe what-if`: what a change to a recorded run would bring, from a replay of what it recorded.

What enters: the folder of a run, and changes. What leaves: a line per change with its 80% interval, best first.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.profiling import Change
    from datapipe.profiling.loader_changes import Answer
    from datapipe.profiling.workload import Workload

Factor = float | None


def what_if(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run: the folder that holds spans.npz.")],
    threads: Annotated[
        int | None, typer.Option(help="So many threads, for --stage or the whole loader.", min=1)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="So many worker processes in their place.", min=1)] = None,
    stage: Annotated[str | None, typer.Option(help="The stage that --threads and --workers are for.")] = None,
    prefetch: Annotated[Factor, typer.Option(help="So many times the batches ahead.")] = None,
    storage: Annotated[Factor, typer.Option(help="Storage so many times faster (0.5: half as fast).")] = None,
    latency: Annotated[Factor, typer.Option(help="So many ms more (or less) on every fetch.")] = None,
    cache_warm: Annotated[bool, typer.Option("--cache-warm", help="Every read hits the cache.")] = False,
    row_groups: Annotated[Factor, typer.Option(help="Row groups so many times as large.")] = None,
    decode: Annotated[Factor, typer.Option(help="Decoding so many times cheaper: another codec.")] = None,
    offline: Annotated[str | None, typer.Option(help="This stage done before the run.", metavar="STAGE")] = None,
    relaxed_order: Annotated[bool, typer.Option("--relaxed-order", help="Take whichever batch is ready.")] = False,
    device: Annotated[Factor, typer.Option(help="A device so many times faster.")] = None,
    dtypes: Annotated[Factor, typer.Option(help="Dtypes so many times narrower.")] = None,
    pinned: Annotated[Factor, typer.Option(help="Copies to the device so many times faster.")] = None,
    cores: Annotated[Factor, typer.Option(help="CPUs to suppose; else those of the recording.")] = None,
    json: JsonOption = False,
) -> None:
    """Predict what changes to a recorded run would bring, one by one; without any: all that apply to it.

    Nothing is run: the recorded work is replayed with the change. An extrapolation rests on what the run never showed.

    Example: datapipe what-if runs/a --threads 4 --stage transform
    """
    from datapipe.errors import ConfigError
    from datapipe.profiling.changes import Change
    from datapipe.profiling.loader_changes import Answer, answers, crew, with_workers
    from datapipe.profiling.loader_changes import workers as in_words
    from datapipe.profiling.loader_facts import TORCH
    from datapipe.profiling.span_file import load_spans
    from datapipe.profiling.what_if import predict, work_of

    run = load_spans(_recorded(folder.parent if folder.is_file() else folder))
    work = work_of(run, cores=cores)
    asked: list[Change] = []
    found: list[Answer] = []
    torch = run.notes.get("loader") == TORCH
    if torch and (threads is not None or stage is not None):
        raise ConfigError(
            f"--{'threads' if threads is not None else 'stage'} for torch's DataLoader, whose worker processes run"
            " every stage", expected="--workers alone",
        )  # fmt: skip
    if torch and workers is not None:
        found.append(Answer(words=in_words(workers), prediction=with_workers(work, run.notes, workers)))
    for count, kind in ((threads, "threads"), (None if torch else workers, "workers")):
        if count is not None:
            factor = count / _threads(work, stage)
            asked.append(Change(kind=kind, stage=stage or crew(work)[1], factor=factor))  # type: ignore[arg-type]  # one of its kinds
    factors: dict[str, Factor] = {
        "prefetch": prefetch, "storage": storage, "row groups": row_groups, "decode": decode, "device": device,
        "dtypes": dtypes, "pinned": pinned, "latency": None if latency is None else latency * 1e6,
    }  # fmt: skip
    asked += [Change(kind=kind, factor=value) for kind, value in factors.items() if value is not None]  # type: ignore[arg-type]  # its kinds
    asked += [Change(kind="cache warm")] * cache_warm + [Change(kind="order")] * relaxed_order
    if offline:
        asked.append(Change(kind="offline", stage=offline))
    found += [Answer(words=str(c), prediction=predict(work, c)) for c in asked]
    found = sorted(found, key=lambda each: each.prediction.step_ns) or list(answers(work, run.notes))
    if json:
        console.emit({"ok": True, "recorded_ns": work.recorded_ns, "predictions": [_plain(each) for each in found]})
        return
    console.show(f"the recorded step: {work.recorded_ns / 1e6:.3f} ms")
    for each in found:
        console.show(str(each))


def _threads(work: Workload, stage: str | None) -> int:
    """Threads that run a stage, or those that do the loader's work."""
    from datapipe.errors import ConfigError
    from datapipe.profiling.loader_changes import crew

    if stage is None and (working := crew(work)[0]):
        return working
    counts = [n for n, names in zip(work.pools, work.stages, strict=True) if stage is None or stage in names]
    if not any(counts):
        known = sorted(frozenset[str]().union(*(s for n, s in zip(work.pools, work.stages, strict=True) if n)))
        raise ConfigError(
            f"no thread of the loader ran {stage or 'anything'} in this run",
            expected=f"one of {', '.join(known)}" if known else "a loader with threads",
        )
    return max(counts)


def _recorded(folder: Path) -> Path:
    """The folder of the spans: of a job's, that of the rank that the others wait for."""
    from datapipe.profiling.merging import has_ranks, load_run
    from datapipe.profiling.span_file import NAME

    if (folder / NAME).is_file() or not has_ranks(folder):
        return folder
    rank = load_run(folder).rank
    if rank is None:
        return folder
    console.say(f"  rank {rank.rank} of {rank.world_size}, alone: for others to wait is not part of it")
    return folder / rank.folder


def _plain(answer: Answer) -> dict[str, Any]:
    return {**asdict(answer.prediction), "what": answer.words, "gain": answer.prediction.gain}
