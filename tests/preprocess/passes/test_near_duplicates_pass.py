"""Near duplicates end to end: what is found, what stays, that nothing but the rows decides it."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.preprocess.near import components, near_tasks, resolution
from datapipe.preprocess.passes import near_duplicates_pass

STEPS = {"steps": ["decode", "near_duplicates"], "output": {"split_bytes": 40_000}}


def grams(text):
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def jaccard(a, b):
    return len(a & b) / len(a | b)


def planted(seed=0, n=120):
    """Random documents, and of a third of them a copy with some words changed."""
    draw = random.Random(seed)
    texts = []
    for _ in range(n):
        words = [f"w{draw.randrange(3000)}" for _ in range(draw.choice([3, 30, 120, 300]))]
        texts.append(" ".join(words))
        if draw.random() < 0.4:
            rate = draw.choice([0, 0.01, 0.02, 0.03, 0.1])
            texts.append(" ".join(f"x{draw.randrange(3000)}" if draw.random() < rate else word for word in words))
    draw.shuffle(texts)
    return texts


def deliver(folder, texts, files=3):
    folder.mkdir(exist_ok=True)
    for number in range(files):
        part = texts[len(texts) * number // files : len(texts) * (number + 1) // files]
        path = folder / f"{len(list(folder.iterdir()))}.jsonl"
        path.write_text("".join(json.dumps({"text": text, "score": len(text) % 7}) + "\n" for text in part))


def kept(dataset):
    opened = datapipe.open_dataset(dataset, columns=["text"])
    return [row["text"] for row in opened.take(range(len(opened))).to_pylist()]


def clusters(dataset):
    (path,) = Path(dataset, "index", "clusters").iterdir()
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def texts():
    return planted()


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("near") / "in"
    deliver(folder, texts)
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """(dataset, summary) of a plain run."""
    out = tmp_path_factory.mktemp("near") / "out"
    return out, datapipe.preprocess(corpus, out, STEPS, workers=0)


def test_only_near_duplicates_go_and_most_of_them_do(texts, run):
    """Every document that went is at least 0.8 alike to one in its cluster; of all such pairs 92% are found."""
    out, summary = run
    sets = [grams(text) for text in texts]
    alike = [(a, b) for (a, x), (b, y) in itertools.combinations(enumerate(sets), 2) if jaccard(x, y) >= 0.8]
    place = {}
    for index, text in enumerate(texts):
        place.setdefault(text, []).append(index)
    stays = kept(out)
    gone = len(texts) - len(stays)
    assert summary.duplicates == gone
    reachable = {index for pair in alike for index in pair}
    left = {text: stays.count(text) for text in stays}
    went = [text for text in set(texts) if left.get(text, 0) < len(place[text])]
    assert all(set(place[text]) & reachable for text in went)
    both = [pair for pair in alike if all(texts[i] in left for i in pair) and texts[pair[0]] != texts[pair[1]]]
    assert len(alike) >= 30
    assert len(both) <= 0.08 * len(alike)


def test_the_cluster_table_names_the_survivor(texts, run):
    """A row for each member; similarities are the true ones; the survivor is the longest."""
    out, summary = run
    rows = clusters(out)
    by_place = {(row["split"], row["position"]): row for row in rows}
    assert sum(not row["kept"] for row in rows) == summary.duplicates
    for row in rows:
        assert row["jaccard"] >= 0.8
        assert by_place[row["survivor_split"], row["survivor_position"]]["kept"]
        assert by_place[row["link_split"], row["link_position"]]["cluster"] == row["cluster"]
    true = sorted(jaccard(grams(a), grams(b)) for a, b in itertools.combinations(texts, 2))
    for row in rows:
        at = np.searchsorted(true, row["jaccard"])
        assert (
            min(abs(true[max(at - 1, 0)] - row["jaccard"]), abs(true[min(at, len(true) - 1)] - row["jaccard"])) < 1e-9
        )


@pytest.mark.parametrize("batch", [7, 1 << 20])
def test_more_links_than_memory_holds(corpus, run, tmp_path, monkeypatch, batch):
    """Resolved on disk: the same shards, drop lists and cluster table, byte for byte."""
    monkeypatch.setattr(components, "IN_MEMORY", 5)
    monkeypatch.setattr(resolution, "BATCH", batch)
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    for folder in ("data", "index", "_work/drops"):
        ours, theirs = (
            sorted(path.read_bytes() for path in (out / folder).rglob("*") if path.is_file())
            for out in (tmp_path / "out", run[0])
        )
        assert ours == theirs


@pytest.mark.parametrize(("workers", "tasks"), [(0, 1), (0, 64), (2, 3)])
def test_buckets_and_workers_change_nothing(corpus, run, tmp_path, monkeypatch, workers, tasks):
    """The same shards, byte for byte, and the same cluster table."""
    monkeypatch.setattr(near_duplicates_pass, "TASKS_A_BUCKET", tasks)
    monkeypatch.setattr(near_tasks, "RECORDS", 100)
    monkeypatch.setattr(near_tasks, "SETS", 5_000)
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=workers)
    for folder in ("data", "index"):
        ours, theirs = (
            {
                path.name: path.read_bytes()
                for path in sorted((out / folder).rglob("*"))
                # In how many parts a run lies follows from the buckets.
                if path.is_file() and not path.name.endswith("_runs")
            }
            for out in (tmp_path / "out", run[0])
        )
        assert ours == theirs
    assert clusters(tmp_path / "out") == clusters(run[0])


def test_an_append_removes_what_is_near_the_old(texts, tmp_path):
    """Through the index alone: no old document goes, no new one stays that is near an old one."""
    old, new = planted(1), planted(2)
    draw = random.Random(3)
    for text in old[:40]:
        words = text.split()
        words[draw.randrange(len(words))] = "changed"
        new.append(" ".join(words))
    deliver(tmp_path / "in", old)
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", STEPS, workers=0, append=True)
    before = kept(tmp_path / "out")
    deliver(tmp_path / "in", new)
    added = datapipe.preprocess(tmp_path / "in", tmp_path / "out", STEPS, workers=0, append=True)
    after = kept(tmp_path / "out")
    assert after[: len(before)] == before
    assert added.duplicates == len(new) - (len(after) - len(before))
    sets = [grams(text) for text in old]
    alike = [text for text in new if any(jaccard(grams(text), other) >= 0.8 for other in sets)]
    assert len(alike) > 20
    assert sum(text in set(after[len(before) :]) for text in alike) <= 0.08 * len(alike)


def test_what_went_is_remembered(tmp_path):
    """A new document near one that went before goes for the one that stayed then, delivery after delivery."""
    draw = random.Random(7)
    words = [f"w{draw.randrange(9000)}" for _ in range(300)]

    def changed(*places):
        return " ".join("x" if place in places else word for place, word in enumerate(words))

    texts = [
        changed() + " the longest",
        changed(10, 60),
        changed(10, 60, 110, 160, 200),
        changed(10, 60, 110, 160, 200, 230, 260, 280),
    ]
    assert jaccard(grams(texts[0]), grams(texts[3])) < 0.8
    for text in texts:
        deliver(tmp_path / "in", [text], files=1)
        datapipe.preprocess(tmp_path / "in", tmp_path / "out", STEPS, workers=0, append=True)
    assert kept(tmp_path / "out") == texts[:1]
    rows = [
        row for path in Path(tmp_path, "out", "index", "clusters").iterdir() for row in pq.read_table(path).to_pylist()
    ]
    assert {(row["split"], row["survivor_split"], row["kept"]) for row in rows} == {(i, 0, False) for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("survivor", "best"),
    [("first", lambda texts: texts[0]), ("longest", lambda texts: max(texts, key=len)),
     ("highest:score", lambda texts: max(texts, key=lambda text: len(text) % 7))],
)  # fmt: skip
def test_survivors(tmp_path, survivor, best):
    """Each rule keeps the one it says."""
    draw = random.Random(5)
    base = " ".join(f"w{draw.randrange(900)}" for _ in range(200))
    texts = [base + tail for tail in (" a", " and so on", " b cc", " dddd")]
    deliver(tmp_path / "in", texts, files=1)
    steps = {"input": {"columns": ["score"]}, "steps": ["decode", {"near_duplicates": {"survivor": survivor}}]}
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", steps, workers=0)
    assert kept(tmp_path / "out") == [best(texts)]


def test_bands_alone(corpus, run, tmp_path):
    """Without verification no fewer go, and the table has no similarities."""
    steps = {"steps": ["decode", {"near_duplicates": {"verify": False}}], "output": STEPS["output"]}
    summary = datapipe.preprocess(corpus, tmp_path / "out", steps, workers=0)
    assert summary.duplicates >= run[1].duplicates
    assert {row["jaccard"] for row in clusters(tmp_path / "out")} == {None}


def test_refused(corpus, tmp_path):
    """A survivor by a column that is not there, or by nothing at all."""
    for survivor, message in (("highest:rank", "rank"), ("highest:", "highest:COLUMN"), ("best", "highest:COLUMN")):
        steps = {"steps": ["decode", {"near_duplicates": {"survivor": survivor}}]}
        with pytest.raises(ConfigError, match=message):
            datapipe.preprocess(corpus, tmp_path / "out", steps, workers=0)


def test_nothing_alike(tmp_path):
    """A corpus without near duplicates, one of empty texts, one of short ones: only equal words go."""
    deliver(tmp_path / "in", ["", "", "…", "one two", "One, two!", "two one", "three"], files=1)
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", STEPS, workers=0)
    assert kept(tmp_path / "out") == ["", "", "…", "One, two!", "two one", "three"]
    assert summary.duplicates == 1
