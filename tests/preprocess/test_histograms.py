"""Histograms count every row once."""

import json

import pytest

import datapipe
from datapipe.preprocess.histograms import histograms
from datapipe.preprocess.stored_run import open_stored_run

RECIPE = {"name": "r", "steps": ["decode", "gopher_quality@whitespace", "exact_duplicates"]}


@pytest.mark.parametrize("split_bytes", [1 << 20, 6_000])
def test_bins_hold_the_rows(tmp_path, split_bytes, tools):
    """A row is in the bin of its length; what was taken, by rule and in the recipe's order, and what is left sum up."""
    import random

    draw = random.Random(5)
    texts = [tools.document(draw) for _ in range(30)] + ["", "a", "ab", "abc", "x" * 1024, "x" * 1023]
    texts += texts[:4]
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    overrides = {"output.split_bytes": split_bytes}
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=RECIPE, workers=0, overrides=overrides)
    found = histograms(open_stored_run(tmp_path / "out"))
    sizes = [len(text.encode()) for text in texts]
    start = 0
    for end, came, kept in found.lengths:
        assert came == sum(start <= size < end for size in sizes)
        assert kept <= came
        start = end
    assert sum(came for _, came, _ in found.lengths) == len(texts)
    assert sum(kept for _, _, kept in found.lengths) == summary.documents_out
    assert sum(taken.rows for taken in found.taken) == summary.documents_in - summary.documents_out
    assert [taken.step for taken in found.taken] == ["read", "gopher_quality@whitespace", "exact_duplicates"]
    assert found.bytes_in == sum(sizes)
    assert found.bytes_kept + sum(taken.bytes for taken in found.taken) == found.bytes_in
    assert found.tokens == ()
    assert found.languages == ()


STEP = """
import pyarrow as pa
import pyarrow.compute as pc
from datapipe.steps import declares

@declares(reasons=("wrong_language",), gives=("language",))
def tongue(table):
    language = pc.if_else(pc.starts_with(table["text"], "le "), "fr", pa.scalar("en", pa.string()))
    unsure = pc.equal(table["text"], "?")
    language = pc.if_else(unsure, pa.scalar(None, pa.string()), language)
    reasons = pc.if_else(pc.equal(language, "fr"), "wrong_language", pa.scalar(None, pa.string()))
    return table.append_column("language", language).append_column("drop_reason", reasons)
"""


def test_languages_of_what_went_too(tmp_path):
    """Rows are counted by the language they were told to have, in and out; one that was told none, by that."""
    (tmp_path / "steps.py").write_text(STEP)
    (tmp_path / "in").mkdir()
    texts = ["le chat", "the cat", "a dog", "le chien", "?", "a dog"]
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = {"name": "r", "steps": ["decode", f"{tmp_path / 'steps.py'}:tongue", "exact_duplicates"]}
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    found = histograms(open_stored_run(tmp_path / "out"))
    assert found.languages == (("en", 3, 2), ("fr", 2, 0), ("", 1, 1))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Language</h2>" in html
    assert "not told" in html
