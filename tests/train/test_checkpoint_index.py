"""An index that anybody may have written: what passes gives each element of each tensor once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.train.checkpoint_index import check_names, checked_index

FILE = "model.safetensors"


@st.composite
def boxes(draw):
    """A shape and chunks inside it: cut out of it, and then perhaps one moved, doubled or left out."""
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    chunks = [([0] * len(shape), list(shape))]
    for _ in range(draw(st.integers(0, 4))):
        offsets, sizes = chunks.pop(draw(st.integers(0, len(chunks) - 1)))
        axis = draw(st.integers(0, len(shape) - 1)) if shape else None
        if axis is None:
            chunks.append((offsets, sizes))
            continue
        at = draw(st.integers(0, sizes[axis]))
        before, after, later = list(sizes), list(sizes), list(offsets)
        before[axis], after[axis], later[axis] = at, sizes[axis] - at, offsets[axis] + at
        chunks += [(offsets, before), (later, after)]
    if draw(st.booleans()):
        chunks[0] = draw(st.sampled_from(chunks))
    return shape, chunks


@given(boxes())
def test_chunks_pass_if_and_only_if_each_element_is_in_one(case):
    """Against counting them."""
    shape, chunks = case
    seen = np.zeros(shape, int)
    for offsets, sizes in chunks:
        seen[tuple(slice(begin, begin + size) for begin, size in zip(offsets, sizes, strict=True))] += 1
    index = {"model/w": {"dtype": "uint8", "shape": shape, "chunks": [[FILE, *chunk] for chunk in chunks]}}
    files = {FILE: {"bytes": 1 << 20}}
    if (seen == 1).all():
        assert checked_index(index, files) == index
    else:
        with pytest.raises(ValueError, match="once"):
            checked_index(index, files)


@pytest.mark.parametrize("name", ["../model.safetensors", "/dev/zero", "state.json", "model.safetensors/..", ""])
def test_a_name_that_is_no_file_of_a_checkpoint_is_refused(name):
    with pytest.raises(ValueError, match="file"):
        check_names({FILE: {}, name: {}})
