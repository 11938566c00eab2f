"""Batches in pieces: every row once, in order, in the fewest pieces that fit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import TrainError
from datapipe.train.micro_batch import fewest_pieces, first_rows, in_pieces, rows_of


@given(total=st.integers(1, 60), rows=st.integers(1, 70))
def test_pieces_are_the_batch(total, rows):
    """Joined they are it; none is over the size, none empty, their lengths differ by 1 at most; nothing is copied."""
    batch = {
        "x": torch.arange(total),
        "inner": {"y": torch.arange(total * 2).view(total, 2)},
        "names": list(range(total)),
    }
    pieces = in_pieces(batch, rows)
    assert torch.equal(torch.cat([piece["x"] for piece in pieces]), batch["x"])
    assert torch.equal(torch.cat([piece["inner"]["y"] for piece in pieces]), batch["inner"]["y"])
    assert [name for piece in pieces for name in piece["names"]] == batch["names"]
    lengths = {rows_of(piece) for piece in pieces}
    assert 1 <= min(lengths) <= max(lengths) <= rows
    assert max(lengths) - min(lengths) <= 1
    assert len(pieces) == math.ceil(total / rows)
    assert pieces[0]["x"].data_ptr() == batch["x"].data_ptr()


@given(total=st.integers(1, 200), most=st.integers(0, 250))
def test_the_fewest_pieces_are_found_in_few_tries(total, most):
    """No other number of rows that fits leaves fewer; the tries are logarithmic, the whole batch the first."""
    tried = []

    def fits(rows):
        tried.append(rows)
        return rows <= most

    found = fewest_pieces(total, fits)
    assert tried[0] == total
    assert len(tried) <= 2 * math.ceil(math.log2(total + 1)) + 1
    if not most:
        assert found == 0
    else:
        assert found <= most
        assert math.ceil(total / found) == math.ceil(total / min(total, most))


def test_whole_batches_pass_as_they_are():
    """Also one without a row, one without a tensor, and scalars beside rows go with each piece."""
    batch = {"x": torch.zeros(4), "scale": torch.tensor(2.0), "name": "a"}
    assert in_pieces(batch, None)[0] is batch
    assert in_pieces({"x": torch.zeros(0, 3)}, 2)[0]["x"].shape == (0, 3)
    assert in_pieces({"names": ["a"]}, 1) == [{"names": ["a"]}]
    assert [piece["scale"].item() for piece in in_pieces(batch, 2)] == [2, 2]
    assert [piece["name"] for piece in in_pieces(batch, 2)] == ["a", "a"]
    assert first_rows(batch, 1)["x"].shape == (1,)
    assert fewest_pieces(0, lambda rows: True) == 0


@given(total=st.integers(0, 9), rows=st.integers(1, 5), least=st.integers(1, 6))
def test_ranks_with_fewer_rows_take_as_many_pieces(total, rows, least):
    """Some of them empty; every row is in one."""
    pieces = in_pieces({"x": torch.arange(total)}, rows, least=least)
    assert len(pieces) == max(math.ceil(total / rows), least)
    assert torch.cat([piece["x"] for piece in pieces]).tolist() == list(range(total))
    assert max(len(piece["x"]) for piece in pieces) <= rows


def test_what_belongs_to_no_row_is_refused():
    with pytest.raises(TrainError, match="borders is of length 3 in a batch of 4 rows"):
        in_pieces({"x": torch.zeros(4), "borders": torch.zeros(3)}, 2)
