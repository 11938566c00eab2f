"""Counts are exact whatever the parts, or there are none."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.sketches.counts import Counts, counts_from

VALUES = st.lists(st.none() | st.sampled_from(["", "a", "b", "é", "中"]) | st.text(max_size=2), max_size=40)


@given(VALUES, st.integers(0, 40))
@settings(deadline=None)
def test_exact_in_parts(values, cut):
    """Counted in two parts, stored and read back: what a dictionary counts, nulls apart."""
    parts = []
    for part in (values[:cut], values[cut:]):
        counts = Counts(1000)
        counts.add(pa.chunked_array([pa.array(part, pa.large_string())]))
        parts.append(counts_from(counts.as_dict(), 1000))
    whole = Counts(1000)
    for part in parts:
        whole.merge(part)
    assert whole.by_value == {v: n for v, n in Counter(values).items() if v is not None}
    assert whole.nulls == values.count(None)


def test_the_bound():
    """One value too many, and nothing is told of any, in whichever part it comes."""
    for order in ((["a", "b"], ["c"]), (["c"], ["a", "b"])):
        whole = Counts(2)
        for part in order:
            one = Counts(2)
            one.add(pa.array(part))
            whole.merge(one)
        assert whole.over
        assert not whole.by_value
        again = counts_from(whole.as_dict(), 2)
        assert again.over
    exact = Counts(2)
    exact.add(pa.array(["a", "b", "a"]))
    assert not exact.over
    assert exact.by_value == {"a": 2, "b": 1}
