"""What `preprocess --dry-run` says beside what the run then takes, at three sizes; and far beyond, as it assumes.

    python benchmarks/cost_model.py                        # the recipes text and web, 6, 24 and 96 MB
    python benchmarks/cost_model.py --scheduler            # what a task costs a scheduler, a driver and their memory

The corpus is this machine's documentation and Python's own source, in rows of some 3 kB; `--corpus FILE` is another
(JSON lines with "text"). Every size is forecast from a sample of 4 MiB of it, then run in this process (processor time,
bytes, tasks) and on two workers (wall time, memory), which a busy machine makes longer: the load is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gzip
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

SIZES = (6, 24, 96)
WORKERS = 2


def write_corpus(target: Path, megabytes: int) -> None:
    """Rows of some 3 kB from the documentation and source files of this machine, in a seeded order."""
    texts: list[str] = []
    for path in [
        *sorted(Path("/usr/share/doc").rglob("*")),
        *sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")),
    ]:
        if not path.is_file() or path.suffix not in ("", ".gz", ".txt", ".py"):
            continue
        with contextlib.suppress(OSError, UnicodeDecodeError, EOFError):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            text = data.decode()
            texts += [text[start : start + 3000] for start in range(0, len(text), 3000)]
    random.Random(0).shuffle(texts)
    left = megabytes * 10**6
    with target.open("w") as file:
        while left > 0:
            for text in texts:
                line = json.dumps({"text": text}) + "\n"
                left -= file.write(line)
                if left <= 0:
                    break


@contextlib.contextmanager
def largest_worker():
    """The most memory of its own that any process below this one held; {"bytes": …} once the block has ended."""
    import psutil

    from datapipe.preprocess.limits import memory_of

    found = {"bytes": 0}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process().children(recursive=True):
                    found["bytes"] = max(found["bytes"], memory_of(child.pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield found
    over.set()
    thread.join()


def stored(folder: Path) -> int:
    """Bytes of all files that tasks wrote."""
    kept = ("_work", "data", "index")
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] in kept)


def one_size(recipe: str, corpus: Path, folder: Path, *, alone_only: bool) -> dict[str, object]:
    """Forecast and run; `alone_only`: not on workers."""
    import datapipe
    from datapipe.preprocess import forecast_run, plan_run

    plan = plan_run(corpus, folder / "out", recipe)
    cost = forecast_run(plan, str(folder / "out"), WORKERS)
    cpu = time.process_time()
    alone = datapipe.preprocess(corpus, folder / "alone", recipe, workers=0)
    cpu = time.process_time() - cpu
    written = stored(folder / "alone")
    pairs = {
        "tasks": (cost.tasks, alone.tasks_run),
        "documents": (cost.documents, alone.documents_in),
        "cpu_s": (cost.cpu_seconds, cpu),
        "written_MB": (sum(stage.written for stage in cost.stages) / 1e6, written / 1e6),
    }
    if not alone_only:
        with largest_worker() as held:
            began = time.perf_counter()
            datapipe.preprocess(corpus, folder / "out", recipe, workers=WORKERS)
            wall = time.perf_counter() - began
        pairs |= {"wall_s": (cost.seconds, wall), "worker_MB": (cost.worker_memory / 1e6, held["bytes"] / 1e6)}
    return {"recipe": recipe, "MB": corpus.stat().st_size / 1e6, "sample_s": cost.sample_seconds} | {
        name: {"forecast": round(told, 2), "run": round(was, 2), "error": f"{told / max(was, 1e-9) - 1:+.0%}"}
        for name, (told, was) in pairs.items()
    }


def far_beyond(recipe: str, corpus: Path, folder: Path) -> None:
    """10^9 documents on up to 10^4 workers, over an object store."""
    from datapipe.preprocess import plan_run
    from datapipe.preprocess.cost_model import Cluster, run_cost
    from datapipe.preprocess.sampled_run import run_samples

    plan = plan_run(corpus, folder / "far", recipe)
    samples = run_samples(plan)
    for workers in (100, 1_000, 10_000):
        cost = run_cost(plan, samples, Cluster(workers=workers), 10**9)
        print(cost if workers == 10_000 else str(cost).partition("\n    assumed")[0])
        for stage in cost.stages:
            times = f"{stage.tasks:>9,} tasks {stage.seconds / 3600:9.2f} h {stage.task_seconds:9.1f} s a task"
            sent = f"{stage.memory / 1e6:8.0f} MB {stage.task_bytes / 1e6:12,.0f} MB sent"
            print(f"        {stage.name:<22} {times} {stage.gets:>16,} GET {sent}")


def scheduler_load(workers: int, tasks: int) -> None:
    """Tasks that do nothing, on workers that are threads of one process, by a scheduler in a process of its own."""
    import psutil

    from datapipe.preprocess import Scheduler, engine
    from datapipe.preprocess.clusters import client_of
    from datapipe.preprocess.tasks import Place, Task, TaskRecord

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Nothing(Task):
        def run(self) -> TaskRecord:
            raise NotImplementedError

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder) / "scheduler.json"
        server = subprocess.Popen(
            [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--scheduler-file", str(file)], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(server.wait)
        stack.callback(server.kill)
        while not (file.exists() and file.stat().st_size):
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        process = psutil.Process(server.pid)
        fixed = process.memory_info().rss
        program = (
            "import asyncio, distributed\nasync def main():\n"
            "    each = dict(nthreads=1, dashboard=False)\n"
            f"    made = [await distributed.Worker({address!r}, **each) for _ in range({workers})]\n"
            "    await asyncio.gather(*[each.finished() for each in made])\nasyncio.run(main())"
        )
        there = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        stack.callback(there.wait)
        stack.callback(there.kill)
        engine.execute_in_worker = nothing
        watching = stack.enter_context(client_of(Scheduler(address)))
        watching.wait_for_workers(workers, timeout=300)
        made = engine.open_engine(None, address, splits=tasks)
        idle, peak = process.memory_info().rss, 0
        before, own, began = process.cpu_times(), time.process_time(), time.perf_counter()
        some = (
            Nothing(key=f"{n:032}", stage=0, name="nothing", split=n, output=Place(url=folder)) for n in range(tasks)
        )
        for n, _ in enumerate(made.run(some)):
            if n % 50 == 0:
                peak = max(peak, process.memory_info().rss)
        after, wall = process.cpu_times(), time.perf_counter() - began
        own = time.process_time() - own
        used = after.user + after.system - before.user - before.system
        print(
            f"{workers} workers, {tasks} tasks: scheduler {used / tasks * 1e3:.2f} ms of CPU a task, driver"
            f" {own / tasks * 1e3:.2f} ms, {tasks / wall:.0f} tasks/s; scheduler {fixed / 1e6:.0f} MB, with its workers"
            f" {idle / 1e6:.0f} MB, at work {peak / 1e6:.0f} MB"
        )
        made.close()


def nothing(task, *_, **__):
    """What a worker does in the benchmark of the scheduler."""
    from datapipe.preprocess.tasks import TaskRecord

    return TaskRecord(key=task.key, stage=task.name, split=task.split, seconds=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["text", "web"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="MB")
    parser.add_argument("--scheduler", action="store_true")
    parser.add_argument("--alone", action="store_true", help="no runs on workers: for a machine that is busy")
    parser.add_argument("--far", action="store_true", help="the extrapolation alone")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if arguments.scheduler:
        for workers in (2, 40):
            scheduler_load(workers, 3000)
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus
        for size in arguments.sizes:
            if arguments.corpus is None:
                corpus = Path(folder) / f"{size}.jsonl"
                write_corpus(corpus, size)
            for recipe in [] if arguments.far else arguments.recipes:
                with tempfile.TemporaryDirectory() as place:
                    found = one_size(recipe, corpus, Path(place), alone_only=arguments.alone)
                    print(json.dumps(found), f"load {os.getloadavg()[0]:.1f}", flush=True)
        for recipe in arguments.recipes:
            far_beyond(recipe, corpus, Path(folder))


if __name__ == "__main__":
    main()
