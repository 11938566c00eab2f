"""The sample for a sweep: a function of the rows, the seed and the bytes; nothing held out is trained on."""

from __future__ import annotations

import json
import random

import pytest

from datapipe.errors import ConfigError, CorpusError
from datapipe.preprocess.vocabulary_sample import draw_sample

ROWS = [{"id": i, "text": f"document {i} " + "word " * (i % 9)} for i in range(400)]


@pytest.fixture
def files(tmp_path):
    """The same rows, twice: in one file and in three, whose ids the rows bring themselves are not used."""
    folder = tmp_path / "docs"
    folder.mkdir()
    with (folder / "a.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    return folder


def test_seeded(files):
    """The same seed gives the same sample, another seed another; it is about as large as asked for."""
    one, again, other = (draw_sample(files, sample_bytes=3000, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert set(one.texts) != set(other.texts)
    size = sum(len(text) for text in one.texts + one.held_out)
    assert 3000 <= size < 3000 + 60
    assert one.documents == 400


def test_a_sample_holds_every_smaller_one(files):
    """More bytes add documents and take none away; 0 bytes is all of them."""
    samples = [draw_sample(files, sample_bytes=size) for size in (1000, 4000, 0)]
    texts = [set(each.texts + each.held_out) for each in samples]
    assert texts[0] < texts[1] < texts[2]
    assert texts[2] == {row["text"].strip() for row in ROWS} or len(texts[2]) == 400
    held = [set(each.held_out) for each in samples]
    assert held[0] <= held[1] <= held[2]


def test_order_of_reading_does_not_enter(files, monkeypatch):
    """Splits read in another order, in other batches: the same sample."""
    import datapipe.preprocess.vocabulary_sample as module

    expected = draw_sample(files, sample_bytes=2000)
    real = module._tables

    def shuffled(*args):
        rows = [table.slice(i, 1) for table in real(*args) for i in range(table.num_rows)]
        random.Random(0).shuffle(rows)
        yield from rows

    monkeypatch.setattr(module, "_tables", shuffled)
    assert draw_sample(files, sample_bytes=2000) == expected


def test_held_out(files):
    """About the share asked for, and no text of it is trained on, copies included."""
    with (files / "b.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    sample = draw_sample(files, held_out=0.25)
    assert not set(sample.texts) & set(sample.held_out)
    assert len(sample.held_out) == len(set(sample.held_out))
    assert len(set(sample.texts)) + len(sample.held_out) == 400
    # Each text comes twice, and is held out if one of its two rows is: 1 - 0.75², within 4 standard deviations.
    assert abs(len(sample.held_out) / 400 - 0.4375) < 4 * (0.4375 * 0.5625 / 400) ** 0.5


def test_pages_and_bad_rows(tmp_path):
    """HTML comes as its text; what cannot be read is counted."""
    body = "".join(f"<p>The cat number {i} sat by the door, and that was all of it.</p>" for i in range(20))
    (tmp_path / "page.html").write_text(f"<html><body><article>{body}</article></body></html>")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\nnot json\n{"text": "two"}\n{"text": ""}\n')
    sample = draw_sample(tmp_path)
    assert sample.unreadable == 1
    assert sample.documents == 4
    texts = sample.texts + sample.held_out
    assert {"one", "two"} < set(texts)
    assert len(texts) == 3
    assert not any("<" in text for text in texts)


def test_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one document")
    with pytest.raises(CorpusError, match="1 document with text\n"):
        draw_sample(tmp_path)
    for held in (0.0, 1.0):
        with pytest.raises(ConfigError, match="held_out"):
            draw_sample(tmp_path, held_out=held)
    (tmp_path / "b.txt").write_text("another")
    assert len(draw_sample(tmp_path).held_out) == 1


def test_rows_without_the_field(tmp_path):
    """Not a lack of documents: the reason of the first row is named, and the option that helps."""
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "b.jsonl").write_text('{"body": "one"}\n')
    with pytest.raises(CorpusError, match=r"; 1 row could not be read \("):
        draw_sample(tmp_path / "one")
    (tmp_path / "one" / "b.jsonl").unlink()
    with pytest.raises(
        CorpusError, match=r"2 rows could not be read \(.*a.jsonl:0: missing_text(.*\n)*.*--text-column"
    ):
        draw_sample(tmp_path)
