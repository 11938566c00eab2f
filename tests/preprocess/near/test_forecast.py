"""The forecast is near what a run then takes, and says what the formula says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import datapipe
from datapipe.preprocess.near.forecast import forecast
from datapipe.steps.min_hash import recall
from datapipe.steps.near_duplicates import NearDuplicatesOptions


@pytest.mark.parametrize("sketch", [64, 2048])
def test_disk_is_that_of_a_run(tmp_path, sketch):
    """The index within a factor of 1.5, pairs and links within 4: who is alike is not known before."""
    draw = random.Random(0)
    words = [f"{draw.choice('bcdfgh')}{draw.choice(['a', 'ee', 'ou'])}{i}" for i in range(2000)]
    texts = []
    for _ in range(400):
        text = " ".join(draw.choice(words) for _ in range(int(draw.expovariate(1 / 300)) + 5))
        texts += [text, text + " more"] if draw.random() < 0.4 else [text]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = {"steps": ["decode", {"near_duplicates": {"sketch": sketch}}], "output": {"split_bytes": 1 << 24}}
    datapipe.preprocess(tmp_path / "in.jsonl", tmp_path / "out", recipe, workers=0)
    size = sum(len(text.encode()) for text in texts)
    found = forecast(len(texts), size, NearDuplicatesOptions(sketch=sketch))

    def stored(*kinds):
        files = [path for path in (tmp_path / "out").rglob("*") if path.parent.name in kinds]
        return sum(path.stat().st_size for path in files)

    header = 8 * 4097  # of a record file: nothing in a corpus of ordinary size
    assert 1 / 1.5 < found.index_bytes / (stored("bands", "sets") - header) < 1.5
    assert 1 / 4 < found.scratch_bytes / (stored("pairs", "links") - header * len(list_of(tmp_path, "pairs"))) < 4


def list_of(folder, kind):
    return list(Path(folder, "out", "_work", kind).iterdir())


def test_it_grows_as_it_should():
    """Disk and time with the corpus, a worker's memory with nothing; half the time on twice the workers."""
    options = NearDuplicatesOptions()
    small, large = (forecast(n, 5000 * n, options) for n in (10**6, 10**9))
    assert large.index_bytes == pytest.approx(1000 * small.index_bytes)
    assert large.seconds["sign"] == pytest.approx(1000 * small.seconds["sign"])
    assert large.worker_bytes == small.worker_bytes < 1 << 30
    assert forecast(10**6, 5 * 10**9, options, workers=2).seconds["verify"] == small.seconds["verify"] / 2


def test_recall_is_the_formula():
    """What is below the threshold is never linked; unverified bands link it."""
    curve = forecast(10, 1000, NearDuplicatesOptions(threshold=0.7)).recall
    assert curve[0.6] == 0
    assert curve[0.8] == recall(0.8, 14, 8)
    assert forecast(10, 1000, NearDuplicatesOptions(verify=False)).recall[0.6] == recall(0.6, 14, 8)


@pytest.mark.parametrize(("documents", "size"), [(0, 0), (1, 0), (5, 100), (10**10, 10**14)])
def test_it_can_be_printed(documents, size):
    """Whatever the corpus; and as JSON."""
    found = forecast(documents, size, NearDuplicatesOptions(), workers=3)
    assert f"{documents:,} document{'' if documents == 1 else 's'} on 3 workers" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["documents"] == documents
