"""`collate={column: rule}`: several columns of one batch, each finished in its own way."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from worker_transforms import pixels, words_of

import datapipe
from datapipe.errors import ConfigError, LoaderError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pictures (as bytes), what is to be seen on them, how loud it is, and a label."""
    folder = tmp_path_factory.mktemp("pairs")
    n = 120
    table = pa.table(
        {
            "image": pa.array([bytes([i]) * 12 for i in range(n)], pa.large_binary()),
            "caption": [" ".join(["w"] * (1 + i % 7)) for i in range(n)],
            "wave": pa.array([[float(i)] * (1 + i % 5) for i in range(n)], pa.list_(pa.float32())),
            "label": pa.array(range(n), pa.int32()),
            "n_words": pa.array([1 + i % 7 for i in range(n)], pa.int32()),
        }
    )
    for part in range(2):
        pq.write_table(table.slice(part * 60, 60), folder / f"{part}.parquet", row_group_size=20)
    return datapipe.open_dataset(str(folder))


RULES = {"image": pixels, "caption": words_of, "label": "numpy", "n_words": "drop"}


def digest(batches):
    found = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            found.update(name.encode() + (np.asarray(value).tobytes() if not isinstance(value, list) else b"list"))
    return found.hexdigest()


@pytest.mark.parametrize(
    "shape", [{}, {"tail": "pad"}, {"bucket": datapipe.Bucket([3, 5], column="caption", length="n_words")}]
)
def test_each_column_by_its_rule(pairs, shape):
    """Pictures are decoded, texts become ids and a mask of their own names, others tensors; rows stay together."""
    loader = datapipe.DataLoader(pairs, 16, seed=1, collate=RULES, **shape)
    seen = 0
    for batch in loader:
        assert batch["image"].dtype is torch.float32
        assert batch["image"].shape == (len(batch["label"]), 2, 2, 3)
        assert isinstance(batch["label"], np.ndarray)
        assert "n_words" not in batch
        assert "caption" not in batch
        assert isinstance(batch["wave"], torch.Tensor)
        assert isinstance(batch["wave_lengths"], torch.Tensor)
        assert ((batch["image"][:, 0, 0, 0] - torch.from_numpy(batch["label"])).abs() < 1).all()
        assert (batch["ids_mask"].sum(1) == torch.from_numpy(batch["label"] % 7 + 1)).all()
        assert batch["ids"].shape == batch["ids_mask"].shape
        seen += len(batch["label"])
    assert seen


@pytest.mark.slow
def test_in_processes(pairs):
    """Worker processes run the rules, and give the batches that threads give."""
    reference = digest(datapipe.DataLoader(pairs, 10, seed=3, collate=RULES, prefetch=0))
    with datapipe.DataLoader(pairs, 10, seed=3, collate=RULES, workers="process", num_threads=1) as loader:
        assert digest(loader) == reference


def test_in_threads_and_from_a_state(pairs):
    """Chance is keyed by (seed, row, epoch): threads and a resumed loader give the same batches."""
    reference = digest(datapipe.DataLoader(pairs, 10, seed=3, collate=RULES, prefetch=0))
    loader = datapipe.DataLoader(pairs, 10, seed=3, collate=RULES, num_threads=2)
    first = [batch for _, batch in zip(range(5), loader, strict=False)]
    state = json.loads(json.dumps(loader.state_dict()))
    again = datapipe.DataLoader(pairs, 10, seed=3, collate=RULES)
    again.load_state_dict(state)
    position = state["position"]
    assert digest([*first[:position], *again]) == reference
    assert digest(datapipe.DataLoader(pairs, 10, seed=4, collate=RULES)) != reference


def test_the_mask_is_not_one_of_the_others(pairs):
    """Rows that fill up the last batch are told from real ones, unless the rule of the mask itself says otherwise."""
    rows = {"batch_size": 50, "tail": "pad", "shuffle": False}
    batches = list(datapipe.DataLoader(pairs, **rows, collate={"label": "numpy", "*": "drop"}))
    assert [set(batch) for batch in batches] == [{"label", "mask"}] * 3
    assert [int(batch["mask"].sum()) for batch in batches] == [50, 50, 20]
    (first, *_) = datapipe.DataLoader(pairs, **rows, collate={"label": "numpy", "mask": "drop", "*": "drop"})
    assert set(first) == {"label"}


def test_what_is_no_rule(pairs):
    """A rule that is none is refused at once; one that gives nothing, or a name twice, names its column."""
    for rules, match in (
        ({"image": 3}, r"collate\['image'\]=3"),
        ({"*": pixels}, "is a function"),
        ({"image": "tensor"}, "a function of the column's values"),
    ):
        with pytest.raises(ConfigError, match=match):
            datapipe.DataLoader(pairs, 8, collate=rules)
    for rules, match in (
        ({"picture": pixels}, "'picture', which the batch has not"),
        ({"image": lambda values: None}, "'image' returned None"),
        ({"image": lambda values: {"label": values}}, "both give 'label'"),
        ({"image": lambda values: {"other": values}, "caption": lambda values: {"other": values}}, "both give"),
    ):
        with pytest.raises(LoaderError, match=match):
            next(iter(datapipe.DataLoader(pairs, 8, collate=rules)))
    with pytest.raises(ZeroDivisionError) as caught:
        next(iter(datapipe.DataLoader(pairs, 8, collate={"label": lambda values: 1 // 0})))
    assert any("column 'label'" in note for note in caught.value.__notes__)


def test_without_tensors(pairs):
    """The rule of the other columns: "numpy" leaves arrays as arrays, "drop" leaves them out."""
    batch = next(iter(datapipe.DataLoader(pairs, 8, collate={"*": "numpy"})))
    assert isinstance(batch["wave"], np.ndarray)
    only = next(iter(datapipe.DataLoader(pairs, 8, collate={"image": pixels, "*": "drop"})))
    assert list(only) == ["image"]
    assert isinstance(only["image"], np.ndarray)
