"""sample: by row id, the same however rows are cut; the shares are those asked for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps

N = 20_000
IDS = [f"file.csv:{i}" for i in range(N)]


def kept(keys=None, table=None, **options):
    table = pa.table({"row_id": IDS}) if table is None else table
    return run_steps(table, [bind("sample", options)], keys or Keys(seed=7)).table["row_id"].to_pylist()


def test_golden():
    """Which rows a seed keeps is part of the format: it may not change silently."""
    assert [int(row.split(":")[1]) for row in kept(rate=0.0005)] == [
        1270,
        3290,
        3683,
        4619,
        6388,
        8960,
        10235,
        11376,
        13779,
        17297,
        17886,
        19479,
    ]


def test_the_share():
    """A rate keeps that share (within five standard deviations), all at 1 and none at 0."""
    assert abs(len(kept(rate=0.3)) - 0.3 * N) < 5 * (N * 0.3 * 0.7) ** 0.5
    assert kept(rate=1.0) == IDS
    assert kept(rate=0.0) == []


def test_nested():
    """A larger sample holds the smaller one; another seed gives another, another epoch the same."""
    assert set(kept(rate=0.1)) < set(kept(rate=0.2))
    assert kept(Keys(seed=8), rate=0.1) != kept(rate=0.1)
    assert kept(Keys(seed=7, epoch=3), rate=0.1) == kept(rate=0.1)


def test_by_value():
    """Each value has its rate; a value without one, and null, have the common rate."""
    labels = ["en", "de", "fr", None] * (N // 4)
    table = pa.table({"row_id": IDS, "lang": labels})
    rows = set(kept(table=table, by="lang", rates={"en": 1.0, "de": 0.0}, rate=0.5))
    by = {label: sum(i in rows for i, each in zip(IDS, labels, strict=True) if each == label) for label in set(labels)}
    assert by["en"] == N // 4
    assert by["de"] == 0
    for label in ("fr", None):
        assert abs(by[label] - N / 8) < 5 * (N / 16) ** 0.5


def test_by_a_number():
    """A column that is no text is compared as text."""
    table = pa.table({"row_id": ["a", "b"], "label": [1, 2]})
    assert kept(table=table, by="label", rates={"1": 1.0}, rate=0.0) == ["a"]


def test_weights():
    """Weights scale the rate; what is no weight keeps nothing, and more than one is one."""
    weights = [None, float("nan"), -1.0, 0.0, float("inf"), 7.0, float("-inf")]
    table = pa.table({"row_id": list("abcdefg"), "w": weights})
    assert kept(table=table, weights="w") == ["e", "f"]
    assert kept(table=table, weights="w", rate=0.0) == []


@pytest.mark.parametrize("options", [{"rate": 1.5}, {"rate": -0.1}, {"by": "x"}, {"rates": {"a": 1.0}},
                                     {"by": "x", "rates": {"a": 2.0}}])  # fmt: skip
def test_refused(options):
    """Rates outside [0, 1], and half of a pair of options, are refused."""
    with pytest.raises(ConfigError):
        bind("sample", options)


def test_a_missing_column_is_named():
    """A recipe that samples by a column which nothing gives is told which."""
    with pytest.raises(ConfigError, match="lang"):
        kept(by="lang", rates={"en": 1.0})
