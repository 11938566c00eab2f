"""What a run will need is told before it is started, from a few of its pieces."""

from __future__ import annotations

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.preprocess import near_forecasts, plan_run
from datapipe.preprocess.estimate import estimate_size


@pytest.fixture
def texts():
    draw = random.Random(0)
    words = [f"word{i}" for i in range(3000)]
    return [" ".join(draw.choice(words) for _ in range(draw.randrange(20, 400))) for _ in range(1500)]


@pytest.mark.parametrize("kind", ["files", "jsonl", "jsonl.gz", "parquet", "mixed"])
def test_the_size_is_about_right(texts, tmp_path, kind):
    """Documents and bytes of text within a factor of two, whatever the files."""
    folder = tmp_path / "in"
    folder.mkdir()
    third = len(texts) // 3
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if kind in ("files", "mixed"):
        for i, text in enumerate(texts[: third if kind == "mixed" else None]):
            (folder / f"{i}.txt").write_text(text)
    if kind == "jsonl":
        (folder / "a.jsonl").write_text(lines)
    if kind == "jsonl.gz":
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    if kind in ("parquet", "mixed"):
        rows = texts[third if kind == "mixed" else 0 :]
        pq.write_table(pa.table({"text": rows}), folder / "a.parquet", row_group_size=200)
    size = estimate_size(plan_run(str(folder), str(tmp_path / "out"), {"steps": ["decode"]}))
    assert 0.5 < size.documents / len(texts) < 2
    assert 0.5 < size.text_bytes / sum(map(len, texts)) < 2
    assert not (tmp_path / "out").exists()


def test_a_plan_with_near_duplicates_has_a_forecast(tmp_path):
    """… and one without has none; an empty folder of files costs nothing."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("some words of a text " * 50)
    plan = lambda *steps: plan_run(str(tmp_path / "in"), str(tmp_path / "out"), {"steps": ["decode", *steps]})  # noqa: E731
    assert near_forecasts(plan("exact_duplicates"), 2) == []
    (needs,) = near_forecasts(plan("near_duplicates"), 2)
    assert needs.documents == 1
    assert needs.workers == 2
    assert "recall" in needs.as_dict()
    assert "of about 1 document on 2 workers" in str(needs)
    (many,) = near_forecasts(plan("near_duplicates"), 2, documents=10**9)
    assert many.documents == 10**9
    assert many.index_bytes == pytest.approx(10**9 * needs.index_bytes, rel=0.01)
    assert "of about 1 document on 2 workers" in str(needs)
    (many,) = near_forecasts(plan("near_duplicates"), 2, documents=10**9)
    assert many.documents == 10**9
    assert many.index_bytes == pytest.approx(10**9 * needs.index_bytes, rel=0.01)


def test_an_oddly_named_file_is_read_as_what_it_is_said_to_be(tmp_path):
    """input.format names the format of files whose names do not."""
    import datapipe

    (tmp_path / "rows.data").write_text(json.dumps({"text": "one"}) + "\n" + json.dumps({"text": "two"}) + "\n")
    summary = datapipe.preprocess(
        tmp_path / "rows.data", tmp_path / "out", {"steps": ["decode"], "input": {"format": "jsonl"}}, workers=0
    )
    assert summary.documents_out == 2
    with pytest.raises(datapipe.errors.ConfigError, match=r"input\.format = 'json lines'.*\n.*jsonl"):
        plan_run(str(tmp_path), str(tmp_path / "out"), {"steps": ["decode"], "input": {"format": "json lines"}})
