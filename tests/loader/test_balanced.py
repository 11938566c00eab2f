"""Balanced labels: exact shares of one dataset's labels, every row of a label once in its own epoch."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.dataset import open_dataset
from datapipe.errors import ConfigError, LoaderError, SchemaError
from datapipe.loader import DataLoader, balance, mix


@pytest.fixture
def labelled(tmp_path):
    """Labels → an opened dataset of rows numbered through, 50 to a row group."""

    def make(labels, **options):
        table = pa.table({"id": np.arange(len(labels)), "label": labels})
        pq.write_table(table, tmp_path / "data.parquet", row_group_size=50)
        return open_dataset(str(tmp_path), **options)

    return make


def loader(data, batch_size=10, **options):
    return DataLoader(data, batch_size, rank=0, world_size=1, collate="numpy", **options)


@pytest.mark.parametrize("kind", ["text", "number", "flag", "dictionary"])
def test_rare_labels_are_as_frequent_as_common_ones(labelled, kind):
    """In every batch; rows are their own, and none of a label comes twice before all of it came once."""
    rare = (np.arange(400) % 10 == 0).tolist()
    labels = {
        "text": ["rare" if each else "common" for each in rare],
        "number": [int(each) - 1 for each in rare],
        "flag": rare,
        "dictionary": pa.array(["rare" if each else "common" for each in rare]).dictionary_encode(),
    }[kind]
    mixed = balance(labelled(labels), "label", seed=1)
    rows = []
    for batch in loader(mixed, 16):
        assert (batch["id"] % 10 == 0).sum() == 8
        rows += batch["id"].tolist()
    common = [row for row in rows if row % 10]
    assert len(set(common)) == len(common) == len(rows) // 2 >= 350
    few = [row for row in rows if row % 10 == 0]
    for start in range(0, len(few), 40):
        part = few[start : start + 40]
        assert len(set(part)) == len(part)


@pytest.mark.parametrize(("until", "delivered"), [("all", 19), ("first", 4)])
def test_its_length_is_that_of_its_rows_and_not_of_an_epoch(labelled, until, delivered):
    """As its docstring says, and that of a mix: of an epoch the loader knows."""
    mixed = balance(labelled(["common"] * 100 + ["rare"] * 20), "label", until=until)
    batches = loader(mixed, shuffle=False)
    assert (len(mixed), len(batches), sum(1 for _ in batches)) == (120, delivered, delivered)
    for made_by in (balance, mix):
        assert "`len()` of it" in made_by.__doc__


def test_a_state_goes_on_and_names_what_differs(labelled):
    data = labelled(["a", "b", "b", "c"] * 50)
    one = loader(balance(data, "label", {"a": 1, "b": 1, "c": 2}, source="of"))
    batches, states = [], []
    for batch in one:
        batches.append((batch["id"].tolist(), batch["of"]))
        states.append(json.loads(json.dumps(one.state_dict())))
    other = loader(balance(data, "label", {"c": 2, "b": 1, "a": 1}, source="of"), prefetch=0)
    other.load_state_dict(states[4])
    assert [(batch["id"].tolist(), batch["of"]) for batch in other] == batches[5:]
    with pytest.raises(LoaderError, match="weights of the mix"):
        loader(balance(data, "label", source="of")).load_state_dict(states[4])


def test_a_filter_and_columns_hold(labelled):
    """Only rows that pass are balanced; the label column need not be delivered; rows keep their numbers."""
    data = labelled(["a", "b", "b", "c"] * 50, columns=["id"], filters=[("id", "<", 100), ("label", "!=", "c")])
    seen = {}

    def transform(batch, keys):
        seen.update(zip(batch["id"].tolist(), keys.rows.tolist(), strict=True))
        return batch

    for batch in loader(balance(data, "label"), tail="partial", transform=transform):
        assert set(batch) == {"id"}
    assert set(seen) == {row for row in range(100) if row % 4 != 3}
    assert len(set(seen.values())) == len(seen)


def test_what_is_no_label_is_refused(labelled):
    data = labelled(["a", None, "b"])
    with pytest.raises(LoaderError, match="1 null"):
        balance(data, "label")
    with pytest.raises(SchemaError, match="no column 'lable'"):
        balance(data, "lable")
    with pytest.raises(ConfigError, match="is double"):
        balance(labelled([0.5, 1.5]), "label")
    with pytest.raises(ConfigError, match="more than 4096"):
        balance(labelled(list(range(5000))), "label")
    with pytest.raises(ConfigError, match="say nothing of 'b'"):
        balance(labelled(["a", "b"]), "label", {"a": 1})
    with pytest.raises(ConfigError, match="weights=3"):
        balance(labelled(["a", "b"]), "label", 3)
    with pytest.raises(ConfigError, match="is a path"):
        balance("data", "label")


def test_many_labels_in_each_row_group_are_warned_of(labelled):
    """They would have each row group read many times over; sorted, they would not."""
    with pytest.warns(UserWarning, match="rows of 20 labels lie in a row group"):
        balance(labelled([i % 20 for i in range(400)]), "label")
    balance(labelled([i // 20 for i in range(400)]), "label")


def test_rows_without_a_label(labelled):
    """Refused unless said otherwise; dropped, or a label of their own; a label that reads as theirs is refused."""
    data = labelled(["a", None, "b", None] * 50)
    with pytest.raises(LoaderError, match="null"):
        balance(data, "label")
    dropped = balance(data, "label", nulls="drop", source="of")
    assert {each for batch in loader(dropped, tail="partial") for each in batch["of"]} == {"a", "b"}
    own = balance(data, "label", nulls="label", source="of")
    assert own.names == ("a", "b", "null")
    batch = next(iter(loader(own, 30)))
    assert 9 <= batch["of"].count("null") <= 11
    assert all(row % 2 for row, of in zip(batch["id"].tolist(), batch["of"], strict=True) if of == "null")
    with pytest.raises(ConfigError, match="beside nulls"):
        balance(labelled(["a", "null", None]), "label", nulls="label")


def test_rare_labels_between_their_share_and_an_equal_one(labelled):
    """A power of the counts as weights; a row of a rare label comes no oftener than was said."""
    data = labelled(["common"] * 400 + ["rare"] * 4 + ["seldom"] * 25)
    roots = balance(data, "label", 0.5).weights.at(0)
    assert roots["common"] / roots["seldom"] == pytest.approx(4)
    assert roots["common"] / roots["rare"] == pytest.approx(10)
    capped = balance(data, "label", most_repeats=8)
    seen = np.concatenate([batch["id"] for batch in loader(capped, tail="partial")])
    times = np.bincount(seen, minlength=429)
    assert times[:400].max() == 1
    assert 7 <= times[400:404].mean() <= 8.3
    assert 7 <= times[404:].mean() <= 8.3
    assert balance(data, "label", 0).weights.at(0) == balance(data, "label").weights.at(0)
    for wrong in (2.0, -1, "x", True):
        with pytest.raises(ConfigError):
            balance(data, "label", wrong)


def test_repeats_are_capped_whatever_the_shares_are_written_as(labelled):
    """Numbers of numpy count as those of Python, a label that is left out caps nothing, and what is none is refused."""
    data = labelled(["common"] * 100 + ["rare"] * 4 + ["never"] * 2)
    for share in (1, np.int64(1), np.float32(1)):
        capped = balance(data, "label", {"common": share, "rare": share, "never": 0}, most_repeats=2).weights.at(0)
        assert (capped["common"] / capped["rare"], capped["never"]) == (100 / 8, 0)
    for wrong in (float("inf"), float("nan"), -1, "1"):
        with pytest.raises(ConfigError):
            balance(data, "label", {"common": 1, "rare": wrong, "never": 1}, most_repeats=2)
