"""categories: ids by a vocabulary or by hashing; null and unknown values have ids of their own."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.categories import Categories, chosen

VALUES = st.lists(st.none() | st.sampled_from(["r", "g", "b"]) | st.text(max_size=3), max_size=20)


def of(values, kind=None, each=None, vocabulary=("r", "g", "")):
    statistics = json.dumps({"version": 1, "columns": {"x": {"values": list(vocabulary)}}})
    bound = bind("categories", {"columns": {"x": each or {}}, "statistics": statistics})
    table = pa.table({"row_id": [str(i) for i in range(len(values))], "x": pa.array(values, kind)})
    result = run_steps(table, [bound], Keys()).table
    assert result.schema.field("x").type == pa.int32()
    assert result["x"].null_count == 0
    return result["x"].to_pylist()


def test_golden():
    """0 is null, 1 unknown, then the vocabulary in its order; the empty text is a value."""
    assert of(["r", "g", "", None, "z"]) == [2, 3, 4, 0, 1]
    assert of([], pa.string()) == []
    assert of([None, None], pa.null()) == [0, 0]


def test_golden_hash():
    """Hashed ids are on disk in datasets and in models' embeddings: they may not change silently."""
    assert of(["r", "g", None, "", "中"], each={"buckets": 1000}) == [710, 896, 0, 139, 643]


def test_numbers_and_dictionaries():
    """Numbers and truth values are taken as texts, dictionaries as their values."""
    assert of([3, None], vocabulary=("3",)) == [2, 0]
    assert of([True, False], vocabulary=("true", "false")) == [2, 3]
    dictionary = pa.array(["g", "r", None, "z"]).dictionary_encode()
    assert of(dictionary, dictionary.type) == [3, 2, 0, 1]


@given(VALUES, st.integers(0, 20), st.sampled_from([{}, {"buckets": 7}]))
@settings(deadline=None)
def test_each_value_alone(values, cut, each):
    """An id does not depend on the values around it; hashed ids lie in their range."""
    whole = of(values, pa.string(), each)
    assert of(values[:cut], pa.string(), each) + of(values[cut:], pa.string(), each) == whole
    assert of(values, pa.large_string(), each) == whole
    assert of(values, pa.string_view(), each) == whole
    for value, found in zip(values, whole, strict=True):
        assert (found == 0) == (value is None)
        if each:
            assert found <= 7


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 5), max_size=20), st.integers(1, 4), st.integers(0, 5))
@settings(deadline=None)
def test_the_vocabulary(counts, least, most):
    """The most frequent first, of equal counts the lesser text; what is left out is counted; order does not matter."""
    each = Categories(min_count=least, max_size=most)
    kept, other = chosen(list(counts.items()), each)
    assert chosen(list(counts.items())[::-1], each) == (kept, other)
    assert sum(count for _, count in kept) + other == sum(counts.values())
    assert all(count >= least for _, count in kept)
    assert len(kept) <= (most or len(counts))
    assert kept == sorted(kept, key=lambda item: (-item[1], item[0].encode()))
    left = max((count for value, count in counts.items() if value not in dict(kept)), default=0)
    assert left < least or len(kept) == most


def test_kinds():
    """A vocabulary needs the corpus; hashing, and a vocabulary that is given, do not."""
    assert bind("categories", {"columns": {"x": {}}}).spec.kind == "global"
    assert bind("categories", {"columns": {"x": {"buckets": 8}}}).spec.kind == "map"
    assert bind("categories", {"columns": {"x": {}, "y": {"buckets": 8}}}).spec.kind == "global"


def test_while_it_counts_nothing_changes():
    """The half that runs while the pass counts leaves the columns as they are, hashed ones too."""
    table = pa.table({"row_id": ["a"], "x": ["r"], "y": ["s"]})
    bound = bind("categories", {"columns": {"x": {}, "y": {"buckets": 8}}})
    assert run_steps(table, [bound], Keys()).table.equals(table)


@pytest.mark.parametrize(
    "each", [{"buckets": 8, "max_size": 3}, {"buckets": -1}, {"min_count": 0}, {"buckets": 8, "min_count": 2}]
)
def test_refused(each):
    """Hashing and a vocabulary at once, and numbers out of range."""
    with pytest.raises(ConfigError):
        bind("categories", {"columns": {"x": each}})


def test_no_texts():
    """A column of lists has no labels."""
    with pytest.raises(ConfigError, match="'x'"):
        of([[1]], pa.list_(pa.int64()))
