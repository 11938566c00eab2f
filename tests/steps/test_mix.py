"""mix: counts that are exact, as large as the labels allow, and nested."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import bind, options_from
from datapipe.steps.mix import SPEC, label_numbers, mix_draws, mixture

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0, 2.0, 3.0, 7.5, 1e-3])


@given(st.lists(st.tuples(st.integers(1, 500), SHARES), min_size=1, max_size=8), st.integers(0, 400))
@settings(deadline=None)
def test_counts(labels, total):
    """None beyond what there is, each within one of its share, together as many as fit; a share of 0 takes none."""
    available, shares = zip(*labels, strict=True)
    if not any(shares):
        return
    counts = mixture(available, shares, total)
    size, whole = sum(counts), sum(shares)
    assert all(0 <= count <= n for count, n in zip(counts, available, strict=True))
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - size * share / whole) < 1 + 1e-9
        assert share or not count
    most = min(n * whole / share for n, share in zip(available, shares, strict=True) if share)
    assert size == (min(total, int(most + 1e-9)) if total else int(most + 1e-9))


@pytest.mark.parametrize(
    ("available", "shares", "total", "expected"),
    [
        ([900, 100], [3, 1], 0, [300, 100]),
        ([900, 100], [0.75, 0.25], 0, [300, 100]),
        ([900, 100], [3, 1], 40, [30, 10]),
        ([10, 10, 10], [1, 1, 1], 10, [4, 3, 3]),
        ([10, 10], [0.1, 0.2], 0, [5, 10]),
        ([5, 7], [0, 1], 0, [0, 7]),
        ([5, 7], [1, 1], 1000, [5, 5]),
    ],
)
def test_golden(available, shares, total, expected):
    """Shares in any unit, remainders to the label named first, and no more than there is."""
    assert mixture(available, shares, total) == expected


def test_labels():
    """A label's number is its place in the shares; others, null among them, share the last."""
    options = options_from(SPEC, {"by": "x", "shares": {"b": 1, "a": 1, "3": 1}})
    texts = pa.table({"x": ["a", None, "b", "z"]})
    assert label_numbers(texts, options).tolist() == [1, 3, 0, 3]
    assert label_numbers(pa.table({"x": texts["x"].combine_chunks().dictionary_encode()}), options).tolist() == [
        1, 3, 0, 3,
    ]  # fmt: skip
    assert label_numbers(pa.table({"x": [3, None]}), options).tolist() == [2, 3]
    assert label_numbers(texts.slice(0, 0), options).tolist() == []


def test_draws_golden():
    """Which rows a mixture keeps is part of the format."""
    assert mix_draws(["a", "b"], 7).tolist() == DRAWS
    assert mix_draws(["a"], 8).tolist() != DRAWS[:1]


DRAWS = [799475616046380183, 780082003966581283]


@pytest.mark.parametrize(
    "options",
    [{"by": "x"}, {"shares": {"a": 1}}, {"by": "x", "shares": {"a": 0}}, {"by": "x", "shares": {"a": -1}},
     {"by": "x", "shares": {"a": 1}, "total": -1}, {"by": "x", "shares": {"a": 1}, "others": "maybe"}],
)  # fmt: skip
def test_refused(options):
    """A column without shares, shares without a column, and shares that come to nothing."""
    with pytest.raises(ConfigError):
        bind("mix", options)
