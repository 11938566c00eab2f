"""One type for two columns: never with loss."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.loader.mix_schema import common_type


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.uint16(), pa.int64(), pa.int64()),
        (pa.uint64(), pa.int8(), None),
        (pa.int32(), pa.float64(), None),
        (pa.bool_(), pa.int8(), None),
        (pa.float16(), pa.float32(), pa.float32()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.string_view(), pa.string(), pa.large_string()),
        (pa.string(), pa.binary(), None),
        (pa.list_(pa.uint16()), pa.large_list(pa.int32()), pa.large_list(pa.int32())),
        (pa.list_(pa.uint8(), 3), pa.list_(pa.uint16(), 3), pa.list_(pa.uint16(), 3)),
        (pa.list_(pa.uint8(), 3), pa.list_(pa.uint8(), 4), None),
        (pa.list_(pa.uint8(), 3), pa.list_(pa.uint8()), None),
        (pa.timestamp("us"), pa.timestamp("ms"), None),
    ],
)
def test_the_common_type(one, other, both):
    """The same from either side; values of both survive the cast."""
    assert common_type(one, other) == both
    assert common_type(other, one) == both
    for kind in (one, other):
        assert common_type(kind, kind) == kind
        if both is not None:
            assert pa.nulls(2, kind).cast(both).null_count == 2
