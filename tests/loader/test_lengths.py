"""By what rows are measured, and what becomes of measures that are wrong."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, LoaderError
from datapipe.loader import Bucket, Pack
from tests.loader.documents import dataset, loader


def test_a_length_below_zero_names_the_row_group(of_tables):
    data = dataset(of_tables, [[3, 4]])
    table = data.tables[0].set_column(2, "n_tokens", pa.array([3, -1], pa.int32()))
    with pytest.raises(LoaderError, match="holds -1") as caught:
        len(loader(of_tables(table), 1, pack=Pack(8)))
    assert "row group 0" in "".join(caught.value.__notes__)


def test_lengths_that_are_wrong_are_told_and_the_lists_own_can_be_asked_for(of_tables):
    """A column n_tokens that counts a token more than there are: named, with what to write instead."""
    data = dataset(of_tables, [[3, 4]])
    wrong = of_tables(data.tables[0].set_column(2, "n_tokens", pa.array([4, 4], pa.int32())))
    with pytest.raises(LoaderError, match="has 3 values in column 'tokens'") as caught:
        list(loader(wrong, 1, pack=Pack(8)))
    assert "Pack(length='tokens')" in str(caught.value)
    assert len(list(loader(wrong, 1, pack=Pack(8, length="tokens")))) == 1


@pytest.mark.parametrize("shape", [{"pack": Pack(8)}, {"bucket": Bucket([4])}])
def test_beside_packed_rows_their_ids_are_not_measured(of_tables, shape):
    """A dataset that preprocess packed has one column of variable length, row_id."""
    packed = pa.FixedSizeListArray.from_arrays(pa.array(range(8), pa.uint16()), 4)
    data = of_tables(pa.table({"tokens": packed, "row_id": ["a", "b"]}))
    with pytest.raises(ConfigError, match="packed already"):
        loader(data, 1, **shape)


def test_n_tokens_is_no_measure_of_other_columns(of_tables):
    """Text is measured by its bytes, though a column n_tokens stands beside it."""
    text = ["x" * n for n in (9, 1, 9, 1)]
    data = of_tables(pa.table({"text": text, "n_tokens": [1, 9, 1, 9]}))
    batches = [b["text"] for b in loader(data, 2, bucket=Bucket([5]), shuffle=False)]
    assert batches == [["x"] * 2, ["x" * 9] * 2]


def test_sounds_are_measured_by_their_frames(of_tables):
    """Encoded sounds are bucketed by the column `frames`, not by their bytes, without being named."""
    frames = [500, 20, 510, 30, 490, 25, 505, 35]
    table = pa.table(
        {
            "audio": pa.array([b"x" * (1000 - n) for n in frames], pa.large_binary()),
            "frames": pa.array(frames, pa.int64()),
            "label": ["a"] * 8,
        }
    )
    for bucket in (Bucket([100]), Bucket(max_tokens=2100)):
        batches = list(loader(of_tables(table), 4, bucket=bucket))
        assert sorted(sorted(batch["frames"].tolist()) for batch in batches) == [[20, 25, 30, 35], [490, 500, 505, 510]]
