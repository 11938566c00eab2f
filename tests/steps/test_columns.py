"""Column handling: types are brought to what a step works on, places and rows never change."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.steps import DROP, QUARANTINE
from datapipe.steps.columns import classic, column, mark, set_column, text_lengths, text_of

TABLE = pa.table({"row_id": ["a", "b"], "text": ["x", None], "n": [1, 2]})


def test_set_column_keeps_places():
    """A replaced column stays where it was; a new one goes last; the given table is untouched."""
    assert set_column(TABLE, "text", pa.array(["p", "q"])).column_names == ["row_id", "text", "n"]
    assert set_column(TABLE, "new", pa.array([0, 0])).column_names == ["row_id", "text", "n", "new"]
    assert TABLE["text"].to_pylist() == ["x", None]


def test_text_of():
    """large_string without nulls, from any string layout and from dictionary-encoded text."""
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        table = set_column(TABLE, "text", TABLE["text"].cast(kind))
        assert text_of(table).type == pa.large_string()
        assert text_of(table).to_pylist() == ["x", ""]


def test_column_errors():
    """A missing column and one of another type: what there is, what was expected, what to do."""
    with pytest.raises(ConfigError, match="no column 'raw'; the table has row_id, text, n"):
        column(TABLE, "raw", pa.large_binary())
    with pytest.raises(ConfigError, match="column 'text' has type struct"):
        text_of(set_column(TABLE, "text", pa.array([{"a": 1}, None])))


def test_text_that_is_not_utf8():
    """Bytes that are no UTF-8 do not become text by a cast."""
    with pytest.raises(ConfigError, match="column 'text' has type binary"):
        text_of(set_column(TABLE, "text", pa.array([b"\xff", b"x"])))


def test_mark():
    """A mark is a column only where some row is marked."""
    none = pa.array([None, None], pa.string())
    some = pa.array([None, "why"], pa.string())
    assert mark(TABLE, none) is TABLE
    assert mark(TABLE, some)[DROP].to_pylist() == [None, "why"]
    assert mark(TABLE, some, quarantine=True)[QUARANTINE].to_pylist() == [None, "why"]


def test_classic():
    """View layouts become the classic ones, nothing else changes."""
    views = pa.table({"s": pa.array(["x"], pa.string_view()), "b": pa.array([b"y"], pa.binary_view()), "n": [1]})
    result = classic(views)
    assert [field.type for field in result.schema] == [pa.large_string(), pa.large_binary(), pa.int64()]
    assert result.to_pydict() == views.to_pydict()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_lengths_of_text(kind):
    """In bytes; of a column that is no text, or is not there, there are none."""
    table = pa.table({"text": pa.array(["é", None, "ab"], pa.string()).cast(kind), "n": [1, 2, 3]})
    assert text_lengths(table, "text").to_pylist() == [2, None, 2]
    assert text_lengths(table, "n") is None
    assert text_lengths(table, "other") is None
