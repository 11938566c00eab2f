"""Arrow's types in numpy's terms."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.loader.column_types import dtype_of


@pytest.mark.parametrize(
    "name",
    ["bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))],
)
def test_dtypes_are_found_without_pandas(name):
    """Arrow's own way to them wants pandas installed, before 26.0: this one does not."""
    dtype = np.dtype(name)
    assert dtype_of(pa.from_numpy_dtype(dtype)) == dtype
