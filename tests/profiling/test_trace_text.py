"""Trace events as text, by columns."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.profiling.trace_text import chosen, fields, joined, lines, microseconds, milliseconds, numbers, where

TIMES = st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20)


@settings(deadline=None)
@given(TIMES)
def test_times_are_exact(ns):
    """Read back as JSON they are the floats that a division gives, whatever the sign."""
    values = np.array(ns, dtype=np.int64)
    assert json.loads(f"[{lines(microseconds(values))}]") == [n / 1e3 for n in ns]
    assert json.loads(f"[{lines(milliseconds(values))}]") == [n / 1e6 for n in ns]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 99)), min_size=1, max_size=20))
def test_what_is_not_there_leaves_no_comma(rows):
    """Objects of any of two members, or none, read back."""
    one, two, values = (np.array(column) for column in zip(*rows, strict=True))
    columns = [
        where(mask, joined(f'"{name}":', numbers(values[mask].astype(np.int64)), ","))
        for name, mask in (("a", one), ("b", two))
    ]
    read = json.loads("[" + lines(joined("{", fields(columns, len(rows)), "}")) + "]")
    assert read == [({"a": v} if a else {}) | ({"b": v} if b else {}) for a, b, v in rows]


def test_nothing_is_no_line():
    """Of no rows there is no text."""
    assert lines(numbers(np.empty(0, np.int64))) == ""
    assert lines(chosen(["x", "y"], np.array([1, 0]))) == "y,x"
