"""The recipe table: records become typed, normalised, shuffled shards; a loader gets the same bits online."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import ConfigError, CorpusError, PreprocessError
from datapipe.preprocess.survey import plan_run
from datapipe.steps import Keys, bind, run_steps, steps_transform
from datapipe.steps.table_statistics import manifest_steps

SCHEMA = {
    "age": {"type": "int32", "nullable": False, "low": 0, "high": 130},
    "pay": "float64",
    "colour": "category",
    "user": "string",
}
OPTIONS = {
    "schema.columns": SCHEMA,
    "normalise.columns": {
        "age": "zscore",
        "pay": {"scale": "robust", "log": True, "clip": [0.01, 0.99], "fill": "median"},
    },
    "categories.columns": {"colour": {"min_count": 3}, "user": {"buckets": 64}},
    "output.split_bytes": 30_000,
    "output.row_group_rows": 256,
}  # fmt: skip


def record(draw):
    return {
        "age": draw.randint(18, 90),
        "pay": draw.choice([None, draw.lognormvariate(3, 1)]),
        "colour": draw.choice(["red", "red", "green", "", None]),
        "user": f"u{draw.randrange(10**9)}",
    }


def write(folder, seed=0, n=600):
    """Three files of unlike schemas; rows that do not fit; records that repeat."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    first, second, third = ([record(draw) for _ in range(n)] for _ in range(3))
    lines = [",".join("" if value is None else str(value) for value in each.values()) for each in first]
    extra = ["x,1,red,u1", ",1,red,u1", "200,1,red,u1", "30,much,red,u1", "40,nan,rare,u1", "40,inf,red,u1", *lines[:5]]
    (folder / f"a{seed}.csv").write_text("\n".join(["age,pay,colour,user", *lines, *extra]) + "\n")
    rows = [{"more": [1], **each} for each in second]
    (folder / f"b{seed}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    columns = {
        "user": [each["user"] for each in third],
        "colour": pa.array([each["colour"] for each in third]).dictionary_encode(),
        "age": pa.array([each["age"] for each in third], pa.int8()),
        "pay": pa.array([each["pay"] for each in third], pa.float32()),
        "unused": [0] * n,
    }
    pq.write_table(pa.table(columns), folder / f"c{seed}.parquet", row_group_size=300)
    return folder


def run(inputs, output, workers=0, recipe="table", **options):
    return datapipe.preprocess(inputs, output, recipe=recipe, workers=workers, overrides={**OPTIONS, **options})


def table_of(output):
    dataset = open_dataset(str(output))
    return dataset.take(list(range(len(dataset))))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tables") / "in")


@pytest.fixture(scope="module")
def published(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "table"
    return output, run(corpus, output)


def test_every_row_is_accounted_for(published):
    """Rows that do not fit are quarantined by their reasons, with column and value; repeated ones are counted."""
    output, summary = published
    assert summary.documents_in == 3 * 600 + 11
    assert summary.quarantined == {"schema_not_a_number": 2, "schema_null": 1, "schema_out_of_range": 1}
    assert summary.duplicates == 5
    assert summary.documents_out == summary.documents_in - 4 - 5
    assert verify_dataset(str(output)).ok
    lines = (output / "rejects" / "schema_not_a_number.jsonl").read_text().splitlines()
    assert {json.loads(line)["detail"] for line in lines} == {"age = 'x'", "pay = 'much'"}


def test_the_shards_are_what_the_recipe_says(published):
    """Types, scales and ids; no null where nulls are filled; the statistics are in the manifest."""
    output, _ = published
    table = table_of(output)
    assert {field.name: str(field.type) for field in table.schema} == {
        "row_id": "string", "age": "float", "pay": "float", "colour": "int32", "user": "int32",
    }  # fmt: skip
    ages = table["age"].to_numpy()
    assert abs(ages.mean()) < 1e-6
    assert abs(ages.std() - 1) < 1e-6
    assert table["pay"].null_count == 0
    found = open_dataset(str(output)).manifest.statistics
    colours = found["categories"]["columns"]["colour"]
    assert colours["values"] == ["red", "green", ""] or set(colours["values"]) == {"red", "green", ""}
    assert colours["other"] == 1
    assert sum(colours["counts"]) + colours["other"] + colours["nulls"] == table.num_rows
    assert np.bincount(table["colour"].to_numpy()).tolist() == [colours["nulls"], colours["other"], *colours["counts"]]
    pay = found["normalise"]["columns"]["pay"]
    assert pay["count"] + pay["missing"] == table.num_rows
    json.dumps(found, allow_nan=False)


def test_online_is_offline_to_the_bit(published, corpus):
    """Records as they were, through the steps of the manifest, give the rows of the shards, bit for bit."""
    output, _ = published
    offline = table_of(output)
    transform = steps_transform(manifest_steps(open_dataset(str(output)).manifest))
    raw = pq.read_table(corpus / "c0.parquet")
    raw = raw.append_column("row_id", pa.array([f"in/c0.parquet:{i}" for i in range(raw.num_rows)]))
    for size in (1, 7, 60):
        online = pa.concat_tables([transform(raw.slice(start, size), Keys()) for start in range(0, 10 * size, size)])
        places = pc.index_in(online["row_id"], value_set=offline["row_id"].combine_chunks())
        kept = places.is_valid()
        same = offline.take(places.filter(kept))
        for name in ("age", "pay", "colour", "user"):
            mine = online[name].filter(kept).to_numpy()
            assert mine.tobytes() == same[name].to_numpy().tobytes(), name
            assert len(mine)


def test_workers_and_cuts(corpus, published, tmp_path, tools):
    """Two processes publish the same bytes; a run again does nothing; a later option reruns no measuring."""
    run(corpus, tmp_path / "two", workers=2)
    assert tools.published(tmp_path / "two") == tools.published(published[0])
    again = run(corpus, tmp_path / "two")
    assert again.tasks_run == 0
    groups = run(corpus, tmp_path / "two", **{"output.row_group_rows": 128})
    assert groups.tasks_run == groups.shards


def test_a_delivery_is_normalised_by_the_first_ones_statistics(corpus, tmp_path):
    """Appended rows have the scales and ids of those that were there, and the statistics stay as they were."""
    run(corpus, tmp_path / "out")
    before = open_dataset(str(tmp_path / "out")).manifest
    more = write(tmp_path / "more", seed=1, n=300)
    datapipe.preprocess(more, tmp_path / "out", recipe="table", workers=0, overrides=OPTIONS, append=True)
    dataset = open_dataset(str(tmp_path / "out"))
    assert dataset.manifest.statistics == before.statistics
    assert verify_dataset(str(tmp_path / "out")).ok
    whole = table_of(tmp_path / "out")
    table = whole.filter(pc.starts_with(whole["row_id"], pattern="more/c1"))
    raw = pq.read_table(more / "c1.parquet")
    age = before.statistics["normalise"]["columns"]["age"]
    places = [int(row.rpartition(":")[2]) for row in table["row_id"].to_pylist()]
    expected = (raw["age"].to_numpy()[places].astype(np.float64) - age["mean"]) / age["std"]
    assert table["age"].to_numpy().tolist() == expected.astype(np.float32).tolist()


def test_statistics_of_another_run(published, corpus, tmp_path):
    """A file of statistics is applied as it is, nothing is measured, and the manifest holds them again."""
    statistics = open_dataset(str(published[0])).manifest.statistics
    given = {}
    for step in ("normalise", "categories"):
        path = tmp_path / f"{step}.json"
        path.write_text(json.dumps(statistics[step]))
        given[f"{step}.statistics"] = str(path)
    run(corpus, tmp_path / "out", **given)
    manifest = open_dataset(str(tmp_path / "out")).manifest
    assert manifest.statistics == statistics
    assert table_of(tmp_path / "out").equals(table_of(published[0]))
    assert manifest_steps(manifest)[1].spec.kind == "map"


def simple(columns, normalise, categories=None, **more):
    steps = [{"normalise": {"columns": normalise}}]
    if categories is not None:
        steps.append({"categories": {"columns": categories}})
    return {"input": {"text_column": None, "columns": columns}, "steps": steps, **more}


@pytest.mark.parametrize("values", [[None] * 5, [math.nan, math.inf, None], [3.0], [2.5] * 9, [1e308, -1e308, 1e308]])
@pytest.mark.parametrize("scale", ["zscore", "minmax", "robust"])
def test_columns_that_have_no_scale(tmp_path, values, scale):
    """Empty, not finite, of one row, constant, beyond float64: the run ends, and what leaves is a number or null."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": pa.array(values, pa.float64())}), tmp_path / "in" / "t.parquet")
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=simple(["x"], {"x": scale}), workers=0)
    found = table_of(tmp_path / "out")["x"].to_pylist()
    assert len(found) == len(values)
    for before, after in zip(values, found, strict=True):
        assert (after is None) == (before is None or not math.isfinite(before))
        assert after is None or math.isfinite(after)


@pytest.mark.parametrize("step", ["normalise", "categories"])
def test_measuring_no_row_is_refused(tmp_path, step):
    """Of a split while it is planned; of other columns when all were read; a value that some files lack is none."""
    for name, part in (("a", False), ("b", True)):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": [1.0, 2.0], "when": [part] * 2}), tmp_path / "in" / f"{name}.parquet")

    def made(measure, *before):
        steps = [*before, {step: {"columns": {"x": {}}, "measure": measure}}]
        recipe = {"input": {"text_column": None, "columns": ["*"]}, "steps": steps, "output": {"split_bytes": 1}}
        datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)

    with pytest.raises(ConfigError, match=f"{step}.measure: split = 'trian'") as caught:
        made({"split": "trian"}, {"split": {"parts": {"train": 3, "test": 1}}})
    assert (caught.value.expected, caught.value.fix) == ("one of train, test", "did you mean 'train'?")
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        ConfigError, match=f"{step}.measure: no row has when = 'True'\n.*rows have: when: false, true\n"
    ):
        made({"when": "True"})
    assert not (tmp_path / "out" / "manifest.json").exists()
    made({"when": "true"})
    found = open_dataset(str(tmp_path / "out")).manifest.statistics[step]["columns"]["x"]
    assert found.get("count", sum(found.get("counts", ()))) == 2


def test_mode(tmp_path):
    """The most frequent value fills; of a column with too many different ones the run says so."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": [1.0, 2.0, 2.0, None]}), tmp_path / "in" / "t.parquet")
    recipe = simple(["x"], {"x": {"scale": "none", "fill": "mode"}})
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    assert table_of(tmp_path / "out")["x"].to_pylist() == [1.0, 2.0, 2.0, 2.0]
    pq.write_table(pa.table({"x": np.arange(100_001.0)}), tmp_path / "in" / "t.parquet")
    with pytest.raises(PreprocessError, match="median"):
        datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)


def test_two_measuring_steps_read_the_rows_once_each(corpus, tmp_path):
    """Numbers and labels of columns of their own are measured on the same rows: none are written in between."""
    plan = plan_run(str(corpus), str(tmp_path / "out"), recipe="table", overrides=OPTIONS)
    writers = [stage.name for stage in plan.stages if "rows" in stage.writes]
    assert writers == ["clean", "sample", "shuffle"]


@pytest.mark.parametrize(
    "recipe",
    [
        {"input": {"text_column": None, "columns": []}, "steps": ["shuffle"]},
        {"input": {"text_column": "text", "columns": ["*"]}, "steps": ["decode"]},
        {"input": {"text_column": None, "columns": ["x"]}, "steps": ["decode"]},
        {"input": {"text_column": None, "columns": ["x"]}, "steps": [{"normalise": {"columns": {"y": "zscore"}}}]},
        simple(["x"], {"x": "zscore"}, output={"columns": ["y"]}),
        {"input": {"text_column": None, "columns": ["x"]},
         "steps": [{"normalise": {"columns": {"x": "zscore"}}}, {"normalise": {"columns": {"x": "minmax"}}}]},
    ],
)  # fmt: skip
def test_recipes_that_cannot_run(tmp_path, recipe):
    """A table without columns, a text or column that is not there, measuring twice: refused before a byte is read."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "in" / "t.parquet")
    with pytest.raises(ConfigError):
        datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    assert not (tmp_path / "out").exists()


def test_nothing_but_a_header(tmp_path):
    """A table without a row is an input without a document."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.csv").write_text("x\n")
    with pytest.raises(CorpusError):
        datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=simple(["x"], {"x": "zscore"}), workers=0)


def test_a_step_bound_by_hand(published):
    """What a training script does without this package's manifest: the statistics as JSON, no file."""
    statistics = open_dataset(str(published[0])).manifest.statistics["normalise"]
    step = bind("normalise", {"columns": {"age": "zscore"}, "statistics": json.dumps(statistics)})
    table = pa.table({"row_id": ["a"], "age": [statistics["columns"]["age"]["mean"]]})
    assert run_steps(table, [step], Keys()).table["age"].to_pylist() == [0.0]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_number_may_be_called_text(tmp_path, name):
    """Columns of a table have the names they have: `text` means nothing there."""
    table = pa.table({"text": pa.array([3, 1, 2], pa.int64()), "label": ["x", "y", "x"]})
    (tmp_path / "in").mkdir()
    if name.endswith("csv"):
        (tmp_path / "in" / name).write_text("text,label\n3,x\n1,y\n2,x\n")
    else:
        pq.write_table(table, tmp_path / "in" / name)
    overrides = {"schema.columns": {"text": "int64", "label": "string"}}
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", "table", 0, overrides=overrides)
    assert (summary.rows, summary.text_bytes) == (3, 0)
    assert sorted(open_dataset(str(tmp_path / "out")).take(range(3)).column("text").to_pylist()) == [1, 2, 3]
