"""SIGKILL of driver, worker and scheduler, over a recipe with every global pass, at moments drawn by chance."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time

import pytest

import datapipe
from datapipe.dataset import verify_dataset
from datapipe.errors import PreprocessError
from tests.preprocess.test_kill import killed_run

RECIPE = """
steps:
  - decode
  - unicode
  - gopher_quality@datatrove
  - exact_duplicates
  - near_duplicates
  - vocabulary: {size: 300}
  - tokenize
  - pack: {seq_len: 64}
output: {split_bytes: 6000}
"""
SLOW = pytest.mark.slow
FEW, MANY = 1, 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tools):
    """A corpus with exact and near duplicates, its recipe, and what an undisturbed run publishes."""
    folder = tmp_path_factory.mktemp("all_passes")
    draw = random.Random(5)
    texts = [tools.document(draw, 70, 70) for _ in range(60)]
    texts += texts[:5] + [text + " one more word" for text in texts[5:12]] + ["short"] * 3
    (folder / "in").mkdir()
    for number in range(5):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[number::5])
        (folder / "in" / f"{number}.jsonl").write_text(lines)
    (folder / "recipe.yaml").write_text(RECIPE)
    events = []
    summary = datapipe.preprocess(
        folder / "in", folder / "out", folder / "recipe.yaml", workers=0, on_progress=events.append
    )
    assert summary.duplicates == 12
    assert summary.shards >= 3
    return folder, len(events)


def run(whole, output, workers=0, **options):
    folder, _ = whole
    return datapipe.preprocess(folder / "in", output, folder / "recipe.yaml", workers=workers, **options)


def kill(whole, output, workers, moment):
    folder, _ = whole
    return killed_run(folder / "in", output, workers, moment, {}, recipe=folder / "recipe.yaml")


def same(whole, output, tools):
    assert tools.published(output) == tools.published(whole[0] / "out")
    assert verify_dataset(str(output)).ok


def chances(kind):
    """Seeds: a few in every run, many in the slow suite."""
    return [pytest.param(n, id=f"{kind}{n}", marks=[] if n < FEW else SLOW) for n in range(MANY)]


@pytest.mark.parametrize("seed", chances("driver"))
def test_the_driver(whole, tmp_path, tools, seed):
    """Killed after a time drawn by chance, again and again; then another number of workers ends the work."""
    draw = random.Random(seed)
    workers = draw.choice([0, 1, 2])
    for _ in range(draw.choice([1, 1, 2])):
        if not kill(whole, tmp_path, workers, f"seconds:{draw.uniform(0, 1.5):.3f}"):
            break
    run(whole, tmp_path, draw.choice([0, 1, 2]))
    same(whole, tmp_path, tools)


@pytest.mark.parametrize("seed", chances("worker"))
def test_a_worker(whole, tmp_path, tools, seed):
    """One of two workers is killed at an event drawn by chance: the run itself goes on to the same end."""
    event = random.Random(seed).randrange(1, whole[1])
    assert not kill(whole, tmp_path, 2, f"worker:{event}")
    same(whole, tmp_path, tools)


@pytest.mark.parametrize("seed", chances("power"))
def test_a_power_cut(whole, tmp_path, tools, seed):
    """The driver dies, and of the newest files, published ones among them, the ends are lost: made again."""
    draw = random.Random(100 + seed)
    kill(whole, tmp_path, 0, f"event:{draw.randrange(1, whole[1] + 1)}")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("lock", "datapipe.json")]
    newest = sorted(files, key=lambda path: path.stat().st_mtime_ns)[-draw.randrange(1, 20) :]
    for path in newest:
        if path.name != "manifest.json":  # synced and renamed last: what it names was synced before it
            os.truncate(path, int(path.stat().st_size * draw.random()))
    run(whole, tmp_path, draw.choice([0, 2]))
    same(whole, tmp_path, tools)


@contextlib.contextmanager
def dask(*arguments):
    """A Dask process of the user's own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(path):
    for _ in range(600):
        if path.exists() and path.stat().st_size:
            return json.loads(path.read_text())["address"]
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")


def test_the_scheduler(whole, tmp_path, tools):
    """It dies in the middle: the run ends with an error that says so, and the next one ends the work."""
    file = tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        )
        address = wait_for(file)
        stack.enter_context(dask("worker", address, "--nthreads", "1", "--no-dashboard"))
        done = []

        def told(progress):
            done.append(progress)
            if len(done) == 3:
                scheduler.kill()
                scheduler.wait()

        with pytest.raises(PreprocessError, match="scheduler is gone"):
            run(whole, tmp_path / "out", None, scheduler=address, on_progress=told)
    summary = run(whole, tmp_path / "out")
    assert summary.tasks_reused >= 3
    same(whole, tmp_path / "out", tools)
