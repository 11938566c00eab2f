"""SIGKILL at many moments, then the same command again: the bytes of a run that nobody disturbed, nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import datapipe
from datapipe.dataset import verify_dataset
from datapipe.storage.local import LocalStore

PROGRAM = Path(__file__).parent / "killed.py"


def killed_run(corpus, output, workers, moment, overrides, recipe="text"):
    """Whether the program was killed (else it ended well)."""
    arguments = [corpus, output, workers, moment, json.dumps(overrides), recipe]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.fixture(scope="module")
def small(tmp_path_factory, tools):
    """A corpus of a few splits, its overrides, and what an undisturbed run of it publishes."""
    folder = tmp_path_factory.mktemp("small")
    draw = random.Random(3)
    (folder / "in").mkdir()
    texts = [tools.document(draw, 70, 70) for _ in range(40)]
    for number in range(4):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in [*texts[number::4], texts[0], "short"])
        (folder / "in" / f"{number}.jsonl").write_text(lines)
    overrides = {"vocabulary.size": 300, "pack.seq_len": 64, "output.split_bytes": 3000}
    writes = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "put_file"):
            real = getattr(LocalStore, name)

            def counted(self, path, source, real=real):
                writes.append(path)
                return real(self, path, source)

            patch.setattr(LocalStore, name, counted)
        summary = datapipe.preprocess(folder / "in", folder / "undisturbed", workers=0, overrides=overrides)
    assert summary.shards >= 3
    assert writes[-5] == "manifest.json"
    return folder / "in", overrides, folder / "undisturbed", summary, writes


MOMENTS = [("before", 1), ("after", 19), ("before", -24), ("after", -6), ("after", -5), ("before", -2)]
MORE = [("after", 2), ("before", 4), ("after", 5), ("before", 10), ("before", 26), ("before", 28), ("after", 31),
        ("after", -23), ("before", -19), ("after", -14), ("before", -6), ("before", -4), ("before", -1)]  # fmt: skip
"""Of the writes of a run of `small`: each task's files, then its record; the last six are tokenizer, manifest, two
files of rejects, timings, report. Negative: counted from the end."""


@pytest.mark.parametrize(
    ("when", "number"), [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE)]
)
def test_killed_at_a_write(small, tmp_path, tools, when, number):
    """Before or after any write: the next run publishes the same bytes and does no recorded task again."""
    corpus, overrides, undisturbed, whole, writes = small
    if number < 0:
        number += len(writes) + 1
    assert killed_run(corpus, tmp_path, 0, f"{when}:{number}", overrides)
    there = (tmp_path / writes[number - 1]).exists()
    assert there == (when == "after")
    records = len(list((tmp_path / "_work" / "records").glob("*.json")))
    summary = datapipe.preprocess(corpus, tmp_path, workers=0, overrides=overrides)
    assert tools.published(tmp_path) == tools.published(undisturbed)
    assert summary.tasks_reused == records
    assert summary.tasks_run == whole.tasks_run - records
    assert not list(tmp_path.rglob(".datapipe-tmp-*"))
    assert not list((tmp_path / "_work" / "scratch").iterdir())


@pytest.mark.slow
def test_killed_again_and_again(small, tmp_path, tools):
    """A run that is killed at every 14th write gets to its end all the same."""
    corpus, overrides, undisturbed, *_ = small
    for _ in range(40):
        if not killed_run(corpus, tmp_path, 0, "after:14", overrides):
            break
    else:
        pytest.fail("forty runs of 14 writes did not end the work")
    assert tools.published(tmp_path) == tools.published(undisturbed)


@pytest.mark.parametrize("event", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 15) if n != 7)])
def test_the_driver_of_workers_killed(small, tmp_path, tools, event):
    """With worker processes at work: they end with the driver, and the next run, with another number, ends the work."""
    corpus, overrides, undisturbed, *_ = small
    assert killed_run(corpus, tmp_path, 2, f"event:{event}", overrides)
    datapipe.preprocess(corpus, tmp_path, workers=0, overrides=overrides)
    assert tools.published(tmp_path) == tools.published(undisturbed)


def test_killed_while_replacing_a_dataset(small, tmp_path, tools):
    """Until the new manifest is there, the dataset that was there before is whole."""
    corpus, overrides, undisturbed, *_ = small
    datapipe.preprocess(corpus, tmp_path, workers=0, overrides={**overrides, "pack.seq_len": 32})
    old = json.loads((tmp_path / "manifest.json").read_text())["fingerprint"]
    fingerprints = []
    for number in (2, 5, 8, 11):
        if not killed_run(corpus, tmp_path, 0, f"after:{number}", overrides):
            break
        report = verify_dataset(str(tmp_path))
        assert report.ok, report.faults
        fingerprints.append(report.fingerprint)
    assert fingerprints[0] == old
    datapipe.preprocess(corpus, tmp_path, workers=0, overrides=overrides)
    assert tools.published(tmp_path) == tools.published(undisturbed)


@pytest.mark.parametrize("keep", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 0.99])
def test_work_that_was_cut_short_is_done_again(small, tmp_path, tools, keep):
    """A disk that lost the end of the newest files: they are found out by checksum, and made again."""
    corpus, overrides, undisturbed, *_ = small
    datapipe.preprocess(corpus, tmp_path, workers=0, overrides=overrides)
    files = [path for path in (tmp_path / "_work").rglob("*") if path.is_file() and path.name != "lock"]
    newest = sorted([*files, *(tmp_path / "data").iterdir()], key=lambda path: path.stat().st_mtime_ns)[-12:]
    for path in newest:
        os.truncate(path, int(path.stat().st_size * keep))
    summary = datapipe.preprocess(corpus, tmp_path, workers=0, overrides=overrides)
    assert summary.tasks_run > 0
    assert tools.published(tmp_path) == tools.published(undisturbed)
    assert verify_dataset(str(tmp_path)).ok
