"""A user's function in a recipe: the same guarantees as a step of ours."""

from __future__ import annotations

import json

import pytest

import datapipe

STEP = '''
import pyarrow.compute as pc

def not_about(table, *, word: str = "cats"):
    """Rows without the word stay."""
    return pc.invert(pc.match_substring(table["text"], word))
'''


@pytest.fixture
def folder(tmp_path):
    """A recipe with the step's file beside it, and a small corpus."""
    (tmp_path / "own.py").write_text(STEP)
    (tmp_path / "recipe.yaml").write_text("steps: [decode, own.py:not_about, {own.py:not_about: {word: dogs}}]\n")
    rows = [{"text": f"row {i} about {'cats' if i % 3 == 0 else 'dogs' if i % 3 == 1 else 'birds'}"} for i in range(30)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_it_runs_from_the_recipes_folder_and_is_accounted_for(folder, monkeypatch):
    """Its rows are dropped for its name, in this process as in workers, and no path of this machine is published."""
    monkeypatch.chdir("/")
    summaries = [
        datapipe.preprocess(folder / "in.jsonl", folder / f"out{workers}", folder / "recipe.yaml", workers=workers)
        for workers in (0, 1)
    ]
    assert [s.dropped for s in summaries] == [{"not_about": 20}] * 2
    assert summaries[0].fingerprint == summaries[1].fingerprint
    manifest = (folder / "out0/manifest.json").read_text()
    assert str(folder) not in manifest
    assert manifest == (folder / "out1/manifest.json").read_text()


def test_an_edit_of_the_file_runs_it_anew(folder):
    """The file's content is part of the task keys: nothing is taken from before an edit, all from after it."""
    run = lambda: datapipe.preprocess(folder / "in.jsonl", folder / "out", folder / "recipe.yaml", workers=0)  # noqa: E731  (said three times)
    assert run().tasks_run == 1
    assert run().tasks_run == 0
    (folder / "own.py").write_text(STEP.replace("cats", "birds"))
    again = run()
    assert again.tasks_run == 1
    left = datapipe.open_dataset(folder / "out", columns=["text"]).take(list(range(10)))["text"].to_pylist()
    assert all("cats" in text for text in left)


def test_an_empty_recipe_makes_shards_of_the_rows(folder):
    """`steps: []` is a recipe: rows as they are, with a manifest and a ledger."""
    summary = datapipe.preprocess(folder / "in.jsonl", folder / "out", {"steps": []}, workers=0)
    assert summary.documents_in == summary.documents_out == 30
    assert datapipe.open_dataset(folder / "out", columns=["text"]).take([0])["text"].to_pylist() == ["row 0 about cats"]


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.parquet"])
def test_a_misspelt_text_column_is_found_before_any_work(folder, name):
    """… with what the first row has instead, and no output is begun."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.table({"id": [1, 2], "body": ["one", "two"]})
    pa.csv.write_csv(table, folder / "in.csv")
    pa.parquet.write_table(table, folder / "in.parquet")
    recipe = {"steps": ["decode"], "input": {"text_column": "txet"}}
    with pytest.raises(datapipe.errors.DatapipeError, match="txet"):
        datapipe.preprocess(folder / name, folder / "out", recipe, workers=0)
    assert not (folder / "out").exists()


def test_explain_tells_of_every_step_of_a_row_that_was_kept(folder):
    """A global step that let it pass too."""
    from datapipe.preprocess import explain

    steps = ["decode", "exact_duplicates", "near_duplicates", {"vocabulary": {"size": 300}}, "tokenize"]
    datapipe.preprocess(folder / "in.jsonl", folder / "out", {"steps": steps}, workers=0)
    said = explain(folder / "out", "in.jsonl:0").steps
    assert [each.step for each in said] == ["decode", "exact_duplicates", "near_duplicates", "vocabulary", "tokenize"]
    assert {each.kind for each in said} == {"passed"}
