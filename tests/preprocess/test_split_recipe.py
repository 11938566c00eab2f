"""A table in parts: the recipe's split, with statistics of one part, as the corpus grows."""

from __future__ import annotations

import datapipe
from datapipe.dataset import open_dataset
from datapipe.preprocess.survey import plan_run


def parts_of(output):
    dataset = open_dataset(str(output))
    table = dataset.take(list(range(len(dataset))))
    return dict(zip(table["row_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_a_row_keeps_its_part_as_the_corpus_grows(tmp_path):
    """Through shuffling, more files and another number of tasks; a filter gives a part; each is counted."""
    (tmp_path / "in").mkdir()
    options = {
        "schema.columns": {"age": "int32"}, "split.parts": {"train": 3, "test": 1},
        "normalise.columns": {"age": "zscore"}, "normalise.measure": {"split": "train"},
        "categories.columns": {"age": {}}, "categories.apply": "online", "output.split_bytes": 400,
    }  # fmt: skip

    def run(output, **more):
        overrides = {**options, **more}
        return datapipe.preprocess(tmp_path / "in", tmp_path / output, "table", workers=0, overrides=overrides)

    (tmp_path / "in" / "a.csv").write_text("age\n" + "\n".join(map(str, range(120))) + "\n")
    first = run("one")
    before = parts_of(tmp_path / "one")
    (tmp_path / "in" / "b.csv").write_text("age\n" + "\n".join(map(str, range(120, 200))) + "\n")
    summary = run("two", **{"output.split_bytes": 250})
    after = parts_of(tmp_path / "two")
    assert len(before) == first.rows == 120
    assert len(after) == summary.rows == 200
    assert {row: after[row] for row in before} == before
    assert summary.counters["split.train"] == sum(part == "train" for part in after.values())
    assert summary.counters["split.train"] + summary.counters["split.test"] == 200
    dataset = open_dataset(str(tmp_path / "two"), filters=[("split", "==", "train")])
    assert len(dataset) == summary.counters["split.train"]
    found = open_dataset(str(tmp_path / "two")).manifest.statistics
    assert found["normalise"]["columns"]["age"]["count"] == len(dataset)
    assert found["categories"]["columns"]["age"]["distinct"] == 200


def test_what_is_not_used_costs_nothing(tmp_path):
    """A join of no files and a split without parts are in no stage of the plan."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    plan = plan_run(
        str(tmp_path / "a.csv"), str(tmp_path / "out"), recipe="table", overrides={"schema.columns": {"x": "int32"}}
    )
    assert not {"join", "split"} & {step.name for stage in plan.stages for step in stage.steps}
