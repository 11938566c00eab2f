"""`datapipe.encode`: what preprocessing would have stored, given as it is read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.errors import ConfigError, LoaderError, SchemaError

N = 3000
RECIPE = {
    "name": "t",
    "input": {"text_column": None, "columns": ["*"]},
    "steps": [
        {"split": {"parts": {"train": 3, "test": 1}}},
        {"normalise": {"columns": {"x": "zscore", "y": {"scale": "robust", "log": True, "fill": "median"},
                                   "z": {"scale": "minmax", "clip": [0.01, 0.99]}},
                       "measure": {"split": "train"}}},
        {"categories": {"columns": {"colour": {"min_count": 2}, "user": {"buckets": 50}}}},
    ],
    "output": {"row_group_rows": 500},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records; the dataset made of them; and one that has measured the same, its columns left as they were."""
    root = tmp_path_factory.mktemp("encoded")
    draw = np.random.default_rng(0)
    table = pa.table(
        {
            "x": draw.lognormal(0, 1, N).astype(np.float32),
            "y": pa.array(draw.lognormal(0, 1, N), mask=draw.random(N) < 0.1),
            "z": draw.integers(0, 1000, N),
            "colour": draw.choice(["red", "green", "blue", "rare"], N, p=[0.5, 0.3, 0.1996, 0.0004]),
            "user": [f"u{i}" for i in draw.integers(0, 500, N)],
            "label": draw.integers(0, 2, N).astype(np.int8),
        }
    )
    (root / "raw").mkdir()
    pq.write_table(table, root / "raw" / "a.parquet", row_group_size=700)
    datapipe.preprocess(str(root / "raw"), root / "offline", recipe=RECIPE, workers=0)
    later = {**RECIPE, "steps": [RECIPE["steps"][0]]}
    for step in RECIPE["steps"][1:]:
        ((name, options),) = step.items()
        later["steps"].append({name: {**options, "apply": "online"}})
    datapipe.preprocess(str(root / "raw"), root / "online", recipe=later, workers=0)
    return {name: datapipe.open_dataset(str(root / name)) for name in ("raw", "offline", "online")}


ENCODED = ["x", "y", "z", "colour", "user"]


def whole(dataset):
    return dataset.take(list(range(N)))


def test_the_bits_are_those_of_preprocessing(made):
    """Raw records by another dataset's manifest, and a dataset by its own: both give what is stored offline."""
    offline = whole(made["offline"])
    for dataset in (datapipe.encode(made["raw"], like=made["offline"]), datapipe.encode(made["online"])):
        found = whole(dataset)
        assert len(dataset) == N
        for name in ENCODED:
            assert found.schema.field(name).type == offline.schema.field(name).type
            assert found[name].combine_chunks().equals(offline[name].combine_chunks()), name
    assert made["online"].schema.field("x").type == pa.float32()
    assert made["online"].manifest.statistics == made["offline"].manifest.statistics
    train = offline.filter(pa.array([part == "train" for part in offline["split"].to_pylist()]))
    assert abs(train["x"].to_numpy().mean()) < 1e-6  # measured of the train part alone
    assert made["offline"].manifest.statistics["normalise"]["columns"]["x"]["count"] == train.num_rows


def test_in_the_place_of_a_dataset(made):
    """A loader gives its batches, with filters, columns, labels in equal shares, and from a state."""
    dataset = datapipe.encode(made["raw"], like=made["offline"])
    options = {"nulls": {"z": "nan"}, "seed": 5, "collate": "numpy"}
    plain = datapipe.DataLoader(made["raw"], 100, seed=5, nulls={"y": "nan"}, collate="numpy")
    loader = datapipe.DataLoader(dataset, 100, **options)
    batches = list(loader)
    rows = whole(dataset)
    by_bits = {bits: i for i, bits in enumerate(rows["x"].to_numpy().tobytes()[k * 4 : k * 4 + 4] for k in range(N))}
    for batch in batches[:3]:
        assert batch["x"].dtype == np.float32
        assert batch["colour"].dtype == np.int64
        for name in ("user", "label"):
            at = [by_bits[value.tobytes()] for value in batch["x"]]
            assert rows[name].to_numpy()[at].tolist() == batch[name].tolist()
    assert len(plain) == len(loader)
    again = datapipe.DataLoader(dataset, 100, **options)
    iterator = iter(again)
    for _ in range(7):
        next(iterator)
    resumed = datapipe.DataLoader(datapipe.encode(made["raw"], like=made["offline"]), 100, **options)
    resumed.load_state_dict(again.state_dict())
    assert next(iter(resumed))["x"].tobytes() == batches[7]["x"].tobytes()
    few = datapipe.DataLoader(dataset.select(["colour"]), 100, collate="numpy")
    assert list(next(iter(few))) == ["colour"]
    equal = datapipe.DataLoader(datapipe.balance(dataset, "label"), 100, **options)
    assert 48 <= next(iter(equal))["label"].sum() <= 52
    red = datapipe.open_dataset(made["raw"].url, filters=[("colour", "==", "red")])
    assert set(whole_of(datapipe.encode(red, like=made["offline"]))["colour"].to_pylist()) == {2}
    assert datapipe.encode(made["raw"], like=made["offline"]).fingerprint == dataset.fingerprint
    assert dataset.fingerprint != made["raw"].fingerprint


def whole_of(dataset):
    return dataset.take(list(range(len(dataset))))


def test_what_cannot_be_encoded(made, tmp_path):
    """No manifest, no such columns, columns that are encoded already, a row that does not fit the schema."""
    with pytest.raises(ConfigError, match="no manifest"):
        datapipe.encode(made["raw"])
    with pytest.raises(ConfigError, match="encoded already"):
        datapipe.encode(made["offline"])
    with pytest.raises(ConfigError, match="encoded already"):
        datapipe.encode(made["offline"], like=made["online"])
    pq.write_table(pa.table({"other": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match="none of the columns"):
        datapipe.encode(datapipe.open_dataset(str(tmp_path)), like=made["offline"])
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"age": [1.0, 2.0]}), tmp_path / "in" / "a.parquet")
    recipe = {
        **RECIPE, "steps": [{"schema": {"columns": {"age": {"type": "float64", "high": 9}}}},
                            {"normalise": {"columns": {"age": "zscore"}}}],
    }  # fmt: skip
    datapipe.preprocess(str(tmp_path / "in"), tmp_path / "out", recipe=recipe, workers=0)
    (tmp_path / "new").mkdir()
    pq.write_table(pa.table({"age": [3.0, 77.0]}), tmp_path / "new" / "a.parquet")
    odd = datapipe.encode(
        datapipe.open_dataset(str(tmp_path / "new")), like=datapipe.open_dataset(str(tmp_path / "out"))
    )
    with pytest.raises(LoaderError, match="row 1 of a row group does not fit the schema"):
        next(iter(datapipe.DataLoader(odd, 2)))


def test_a_recipe_that_encodes_nothing_is_said_to(tmp_path):
    """No list of columns can be given, so the steps are named that would make one."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"x": [1.0, 2.0]}), tmp_path / "in" / "a.parquet")
    plain = {**RECIPE, "steps": [{"normalise": {"columns": {}}}]}
    datapipe.preprocess(str(tmp_path / "in"), tmp_path / "out", recipe=plain, workers=0)
    with pytest.raises(
        ConfigError, match=r"out encodes no column\n  expected: one with the step normalise or categories"
    ):
        datapipe.encode(datapipe.open_dataset(str(tmp_path / "out")))


def test_a_dataset_that_grows(tmp_path):
    """A loader takes up new snapshots encoded by the statistics that there were; a state goes on with its own."""
    (tmp_path / "in").mkdir()
    recipe = {
        **RECIPE, "steps": [{"normalise": {"columns": {"x": "minmax"}, "apply": "online"}},
                            {"categories": {"columns": {"c": {}}, "apply": "online"}}],
    }  # fmt: skip
    pq.write_table(pa.table({"x": np.arange(101.0), "c": ["a"] * 101}), tmp_path / "in" / "a.parquet")
    datapipe.preprocess(str(tmp_path / "in"), tmp_path / "out", recipe=recipe, workers=0)
    first = datapipe.encode(datapipe.open_dataset(str(tmp_path / "out"), follow=True))
    loader = datapipe.DataLoader(first, 10, collate="numpy")
    next(iter(loader))
    state = loader.state_dict()
    assert len(list(loader)) == 10
    pq.write_table(pa.table({"x": np.arange(200.0, 250), "c": ["b"] * 50}), tmp_path / "in" / "b.parquet")
    datapipe.preprocess(str(tmp_path / "in"), tmp_path / "out", recipe=recipe, workers=0, append=True)
    batches = list(loader)
    assert len(batches) == 15
    assert max(batch["x"].max() for batch in batches) > 2.4
    assert {value for batch in batches for value in batch["c"].tolist()} == {1, 2}
    newest = datapipe.encode(datapipe.open_dataset(str(tmp_path / "out"), follow=True))
    assert (len(newest.since(0)), newest.until(0).fingerprint) == (50, first.fingerprint)
    other = datapipe.DataLoader(newest, 10, collate="numpy")
    other.load_state_dict(state)
    assert len(list(other)) == 9
