"""The sketch of a column: its statistics are numpy's, in any parts, and the same bits for the same parts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import PreprocessError
from datapipe.preprocess.sketches.number_column import MOST_MODES, NumberColumn
from datapipe.steps.normalise import Scaling

SCALING = Scaling(log=True, fill="mode", clip=(0.25, 0.75))


def sketched(values, cuts):
    whole = NumberColumn(SCALING)
    for part in np.split(np.array(values, np.float64), cuts):
        one = NumberColumn(SCALING)
        one.add(part)
        whole.merge(NumberColumn(SCALING, json.loads(json.dumps(one.as_dict(), allow_nan=False))))
    return whole.statistics("x")


@given(
    st.lists(st.just(math.nan) | st.sampled_from([-2.0, -0.0, 0.0, 3.0]) | st.floats(-50, 50), max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
)
@settings(deadline=None)
def test_statistics(values, cuts):
    """Counts, bounds and mode exactly; mean and std but for rounding; quantiles within one value."""
    cuts = sorted(cut for cut in cuts if cut <= len(values))
    found = sketched(values, cuts)
    assert sketched(values, cuts) == found
    there = np.array([value for value in values if not math.isnan(value)])
    assert (found["count"], found["missing"]) == (len(there), len(values) - len(there))
    if not len(there):
        assert {found[name] for name in ("min", "mean", "std", "median", "clip", "mode", "log")} == {None}
        return
    assert (found["min"], found["max"]) == (there.min(), there.max())
    assert found["mean"] == pytest.approx(there.mean(), abs=1e-9)
    assert found["std"] == pytest.approx(there.std(), abs=1e-6)
    kinds, counts = np.unique(there + 0.0, return_counts=True)
    assert found["mode"] == kinds[np.argmax(counts)]
    for name, share in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
        # The rank of the quantile is its share, but for one value.
        below, upto = np.mean(there < found[name]), np.mean(there <= found[name])
        assert below - 1 / len(there) <= share <= upto + 1 / len(there)
    assert found["clip"] == [found["q25"], found["q75"]]
    logs = np.log1p(there[there > -1])
    if len(logs):
        assert found["log"]["mean"] == pytest.approx(logs.mean(), abs=1e-9)
        assert found["log"]["min"] == pytest.approx(logs.min())
    else:
        assert found["log"] is None


def test_too_many_values_for_a_mode():
    """Beyond the bound the mode is not guessed."""
    column = NumberColumn(SCALING)
    column.add(np.arange(MOST_MODES + 1.0))
    with pytest.raises(PreprocessError, match="fill = median"):
        column.statistics("x")
    plain = NumberColumn(Scaling())
    plain.add(np.arange(MOST_MODES + 1.0))
    assert plain.statistics("x")["mode"] is None
