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
