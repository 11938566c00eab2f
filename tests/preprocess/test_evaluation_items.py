"""Evaluation items that a run could not look for are told."""

import json

import pytest

from datapipe.preprocess import preprocess


@pytest.mark.parametrize("again", [False, True])
def test_items_of_too_few_words_are_counted(tmp_path, again):
    """In the summary and in run.json, also of a run that finds everything done."""
    items = ["one two three four five six seven eight nine ten", "too short", "yes"]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps({"q": item}) + "\n" for item in items))
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "a document of its own"}) + "\n")
    steps = ["decode", {"decontaminate": {"files": [str(tmp_path / "eval.jsonl")], "n": 8, "min_words": 5}}]
    for _ in range(1 + again):
        summary = preprocess(tmp_path / "in.jsonl", tmp_path / "out", {"name": "r", "steps": steps}, 0)
    told = json.loads((tmp_path / "out" / "run.json").read_text())["counters"]
    for counters in (summary.counters, told):
        assert (counters["decontaminate.items"], counters["decontaminate.items_ignored"]) == (1, 2)
