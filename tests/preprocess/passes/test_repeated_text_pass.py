"""Repeated lines and paragraphs: the first occurrence in the corpus stays, all later ones go, nothing else changes."""

from __future__ import annotations

import json
import random

import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.preprocess.near import near_tasks
from datapipe.preprocess.passes import repeated_text_pass

BETWEEN = {"repeated_lines": "\n", "repeated_paragraphs": "\n\n"}


def some_texts(seed, between, n=90):
    draw = random.Random(seed)
    common = [f"a sentence that is common, number {i} of them" for i in range(30)]
    texts = []
    for _ in range(n):
        parts = []
        for _ in range(draw.randrange(1, 8)):
            kind = draw.random()
            own = f"a sentence of its own {draw.random()}"
            parts.append(draw.choice(common) if kind < 0.5 else "" if kind < 0.6 else "}" if kind < 0.7 else own)
        texts.append(between.join(f"  {part} " if draw.random() < 0.2 else part for part in parts))
    return texts


def expected(texts, between, shortest=20, least=50, seen=()):
    """By brute force: texts, None where too little is left."""
    seen, found = set(seen), []
    for text in texts:
        kept = []
        for part in text.split(between):
            if len(part.strip()) >= shortest and part.strip() in seen:
                continue
            seen.add(part.strip())
            kept.append(part)
        new = between.join(kept)
        found.append(None if new != text and len(new) < least else new)
    return found


def deliver(folder, texts):
    folder.mkdir(exist_ok=True)
    for begin in range(0, len(texts), 25):
        path = folder / f"{len(list(folder.iterdir())):03d}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[begin : begin + 25]))


def rows(dataset):
    opened = datapipe.open_dataset(dataset, columns=["text"])
    return [row["text"] for row in opened.take(range(len(opened))).to_pylist()]


def recipe(*steps):
    return {"steps": ["decode", *steps], "output": {"split_bytes": 2_000}}


@pytest.mark.parametrize("step", list(BETWEEN))
@pytest.mark.parametrize(("workers", "tasks"), [(0, 8), (0, 100), (2, 1)])
def test_brute_force(tmp_path, monkeypatch, step, workers, tasks):
    """Whatever the number of ranges and workers, what a loop over all texts in their order would leave."""
    monkeypatch.setattr(repeated_text_pass, "TASKS_A_BUCKET", tasks)
    monkeypatch.setattr(near_tasks, "RECORDS", 50)
    texts = some_texts(1, BETWEEN[step])
    deliver(tmp_path / "in", texts)
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe(step), workers=workers)
    left = expected(texts, BETWEEN[step])
    assert rows(tmp_path / "out") == [text for text in left if text is not None]
    assert summary.dropped == {f"{step}_left_short": left.count(None)}
    pieces = sum(len(text.split(BETWEEN[step])) for text in texts)
    stayed = sum(len(text.split(BETWEEN[step])) for text in left if text is not None)
    assert 0 < summary.counters[f"{step}.removed"] <= pieces - stayed


def test_options(tmp_path):
    """Shorter pieces are repeats where the option says so, and an empty text may stay."""
    texts = some_texts(2, "\n")
    deliver(tmp_path / "in", texts)
    step = {"repeated_lines": {"shortest": 1, "min_chars": 0}}
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe(step), workers=0)
    assert rows(tmp_path / "out") == expected(texts, "\n", shortest=1, least=0)


def test_an_append_takes_out_what_earlier_deliveries_have(tmp_path):
    """Old rows stay as they are; in the new ones everything that occurred before goes."""
    old, new = some_texts(3, "\n"), some_texts(4, "\n")
    deliver(tmp_path / "in", old)
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe("repeated_lines"), workers=0, append=True)
    before = rows(tmp_path / "out")
    deliver(tmp_path / "in", new)
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe("repeated_lines"), workers=0, append=True)
    left = expected(old + new, "\n")
    assert before == [text for text in left[: len(old)] if text is not None]
    assert rows(tmp_path / "out") == [text for text in left if text is not None]


def test_before_and_after_other_passes(tmp_path):
    """Between exact and near duplicates: rows that went are not what a line is kept in."""
    texts = some_texts(5, "\n")
    texts += texts[:10]
    deliver(tmp_path / "in", texts)
    steps = recipe("exact_duplicates", "repeated_paragraphs", "repeated_lines", "near_duplicates")
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", steps, workers=0)
    unique = list(dict.fromkeys(texts))
    paragraphs = [text for text in expected(unique, "\n\n") if text is not None]
    left = [text for text in expected(paragraphs, "\n") if text is not None]
    got = rows(tmp_path / "out")
    assert set(got) <= set(left)
    assert len(got) >= 0.9 * len(left)


def test_twice_is_refused(tmp_path):
    """One list for a step: a second of the same kind has nothing left to find."""
    deliver(tmp_path / "in", ["a"])
    with pytest.raises(ConfigError, match="twice"):
        datapipe.preprocess(tmp_path / "in", tmp_path / "o", recipe("repeated_lines", "repeated_lines"), workers=0)
