"""What transforms of pictures and of sounds share: the column they read, what takes its place, keys of draws."""

import numpy as np
import pytest

from datapipe.errors import ConfigError
from datapipe.loader.transform import RowKeys
from datapipe.steps.media_batch import encoded_column, row_keys, with_arrays


@pytest.mark.parametrize(
    "columns", [{"image": [b"a"], "label": 1}, {"image.bytes": [b"a"], "image.path": ["p"], "label": 1}]
)
def test_a_column_of_files_becomes_arrays(columns):
    """Whether it is binary or a struct, its place is taken, and other columns stay."""
    assert encoded_column(columns, "image", "images", "Images") == [b"a"]
    assert with_arrays(columns, "image", {"pixels": 7, "valid": 8}) == {"pixels": 7, "valid": 8, "label": 1}
    with pytest.raises(ConfigError, match="no column 'sound' of encoded sounds") as caught:
        encoded_column(columns, "sound", "sounds", "Sounds")
    assert "Sounds(column=...)" in caught.value.fix


def test_rows_are_told_by_their_ids():
    """Or by their numbers, where a batch has none."""
    keys = RowKeys(seed=0, epoch=0, rows=np.array([4, 2]))
    assert row_keys({"row_id": ["a", "b"]}, keys) == ["a", "b"]
    assert row_keys({}, keys) == ["4", "2"]
