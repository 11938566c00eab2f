"""Small real corpora, and what a run published."""

import gzip
import json
import random
from pathlib import Path

import pytest

from tests.preprocess.bucket import Bucket

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "is",
    "was",
    "he",
    "for",
    "it",
    "with",
    "as",
    "his",
    "on",
    "be",
    "at",
    "by",
    "had",
    "not",
    "are",
    "but",
    "from",
    "or",
    "have",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "more",
    "no",
    "if",
    "out",
    "so",
    "said",
    "what",
    "up",
    "its",
    "about",
    "than",
    "into",
    "them",
    "can",
    "only",
    "other",
    "new",
    "some",
    "could",
    "time",
    "these",
    "two",
    "may",
    "then",
    "do",
    "first",
    "any",
    "my",
    "now",
    "such",
    "like",
    "our",
    "over",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "did",
    "many",
    "before",
    "must",
    "through",
    "back",
    "years",
    "where",
    "much",
    "your",
    "way",
    "well",
    "down",
    "should",
    "because",
    "each",
    "just",
]

SMALL = {"vocabulary.size": 400, "pack.seq_len": 64, "output.split_bytes": 12_000, "output.row_group_rows": 16}
"""Overrides that make a run of a second out of the shipped text recipe, over several splits."""


def document(draw, low=60, high=140):
    """A text that the Gopher rules let through."""
    return "the word and " + " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high))) + "."


def write_corpus(folder, *, seed=0, documents=120):
    """A folder of every kind of text input: jsonl, gzipped jsonl, text, HTML, Parquet; duplicates, rejects, garbage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(seed)
    texts = [document(draw) for _ in range(documents)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts += texts[:7] + ["too short"] * 3
    quarter = len(texts) // 4
    lines = [json.dumps({"id": f"r{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("\n".join(lines[:quarter]) + "\n")
    with gzip.GzipFile(folder / "b.jsonl.gz", "wb", mtime=0) as file:
        file.write("\n".join(lines[quarter : 2 * quarter]).encode() + b"\n")
    (folder / "c.jsonl").write_text("\n".join(lines[2 * quarter : 3 * quarter]) + "\n")
    rest = texts[3 * quarter :]
    pq.write_table(pa.table({"text": rest, "id": [f"p{i}" for i in range(len(rest))]}), folder / "d.parquet")
    (folder / "page.html").write_text(f"<html><body><main><p>{document(draw)}</p></main></body></html>")
    (folder / "note.txt").write_text(document(draw))
    (folder / "copy.md").write_text(texts[3])
    (folder / "garbage.txt").write_bytes(random.Random(1).randbytes(4000))
    return folder


def published_of(files):
    """Of an output's files by path, those that are published: all but the work folder and what has timings in it."""
    return {
        path: data for path, data in files.items() if path.split("/")[0] not in ("_work", "run.json", "report.html")
    }


def published(folder):
    """Every published file of a local output, by path."""
    folder = Path(folder)
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return published_of({str(path.relative_to(folder)): path.read_bytes() for path in paths})


def all_texts(folder):
    """The column text of a published dataset, in order."""
    from datapipe.dataset import open_dataset

    dataset = open_dataset(str(folder))
    return dataset.take(list(range(len(dataset)))).column("text").to_pylist()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "corpus")


@pytest.fixture(scope="session")
def undisturbed(corpus, tmp_path_factory):
    """What a run in one process, from beginning to end, publishes; with its summary."""
    import datapipe

    output = tmp_path_factory.mktemp("outputs") / "undisturbed"
    summary = datapipe.preprocess(corpus, output, workers=0, overrides=SMALL)
    return published(output), summary


@pytest.fixture(scope="session")
def bucket(s3_endpoint):
    return Bucket(s3_endpoint)


@pytest.fixture(scope="session")
def tools():
    """The functions of this file, for tests that call them."""

    class Tools:
        overrides = SMALL
        write_corpus = staticmethod(write_corpus)
        published = staticmethod(published)
        published_of = staticmethod(published_of)
        all_texts = staticmethod(all_texts)
        document = staticmethod(document)

    return Tools
