"""The step split: which part a row is of is a pure function of its id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps

PARTS = {"train": 80, "valid": 15, "test": 5}


def rows(n, start=0, **columns):
    return pa.table({"row_id": [f"in/a.csv:{i}" for i in range(start, start + n)], **columns})


def parts_of(table, seed=0, **options):
    return run_steps(table, [bind("split", {"parts": PARTS, **options})], Keys(seed=seed)).table["split"].to_pylist()


def test_a_row_keeps_its_part():
    """Alone, in any order, among more rows, in another epoch: its part is the same; another seed cuts anew."""
    table = rows(4000)
    whole = parts_of(table)
    assert parts_of(rows(8000))[:4000] == whole
    assert parts_of(table.take(list(range(4000))[::-1]))[::-1] == whole
    assert [parts_of(table.slice(i, 1))[0] for i in range(40)] == whole[:40]
    step = bind("split", {"parts": PARTS})
    assert step(table, Keys(epoch=5))["split"].to_pylist() == whole
    assert parts_of(table, seed=1) != whole
    for part, share in PARTS.items():
        expected = 4000 * share / 100
        assert abs(whole.count(part) - expected) < 5 * (expected * (1 - share / 100)) ** 0.5


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(lambda shares: sum(shares) > 1e-6))
def test_shares_of_any_size(shares):
    """Every row is of one part, and never of one without a share."""
    names = {f"p{i}": share for i, share in enumerate(shares)}
    found = set(parts_of(rows(60), parts=names))
    assert found <= {name for name, share in names.items() if share > 0}


def test_rows_that_belong_together():
    """Rows of one user are in one part, also when the number comes as text; a row without one goes by its id."""
    users = [i // 10 if i % 11 else None for i in range(3000)]
    table = rows(3000, user=pa.array(users, pa.int32()))
    found = parts_of(table, by=["user"])
    of_user = {}
    for user, part in zip(users, found, strict=True):
        if user is not None:
            assert of_user.setdefault(user, part) == part
    assert set(of_user.values()) == set(PARTS)
    assert parts_of(rows(3000, user=[None if u is None else str(u) for u in users]), by=["user"]) == found


def test_a_rare_label_has_rates_of_its_own():
    """Its rows are cut at them; those of other labels, and of none, stay where they were."""
    labels = ["fraud" if i % 50 == 0 else None if i % 7 == 0 else "fine" for i in range(5000)]
    plain = parts_of(rows(5000))
    found = parts_of(
        rows(5000, label=pa.array(labels).dictionary_encode()),
        label="label", rates={"fraud": {"valid": 1, "test": 1}},
    )  # fmt: skip
    fraud = np.array([label == "fraud" for label in labels])
    assert (np.array(found)[~fraud] == np.array(plain)[~fraud]).all()
    assert set(np.array(found)[fraud]) == {"valid", "test"}


def test_parts_that_are_kept():
    """Rows of other parts are dropped with a reason, and each part is counted."""
    ran = run_steps(rows(1000), [bind("split", {"parts": PARTS, "keep": ["valid", "test"]})], Keys())
    assert set(ran.table["split"].to_pylist()) == {"valid", "test"}
    assert set(ran.marked["reason"].to_pylist()) == {"split_other"}
    assert ran.counters["split.train"] == ran.marked.num_rows
    assert sum(ran.counters.values()) == 1000
    assert pc.sum(ran.signals["split.train"]).as_py() == ran.counters["split.train"]


@pytest.mark.parametrize(
    "options",
    [
        {"parts": {"a": 0}},
        {"parts": {"a": -1, "b": 2}},
        {"keep": ["other"]},
        {"rates": {"x": {"train": 1}}},
        {"label": "x", "rates": {"x": {"else": 1}}},
        {"column": "row_id"},
    ],
)
def test_what_cannot_be_split(options):
    """Shares that are none, parts that nobody named, a label without rates."""
    with pytest.raises(ConfigError):
        parts_of(rows(3, x=["x"] * 3), **options)


def test_a_name_that_is_taken():
    """A column of the new name is not overwritten."""
    with pytest.raises(ConfigError, match="already"):
        parts_of(rows(3, split=["x"] * 3))
