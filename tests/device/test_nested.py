"""Any nesting keeps its structure and its types; only tensors are replaced."""

from __future__ import annotations

import collections
import dataclasses
import types
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from datapipe.device.nested import replaced  # noqa: E402  (it imports torch)


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Sample:
    image: Any
    label: Any = 3


class Encoding(collections.UserDict):
    """As Hugging Face's BatchEncoding: a mapping that is no dict, with more than its items."""

    def __init__(self, data, encodings):
        super().__init__(data)
        self.encodings = encodings


def shape(value):
    """The same without torch: tensors as their one number."""
    if isinstance(value, torch.Tensor):
        return ("tensor", int(value))
    if isinstance(value, dict):
        return (type(value), [(key, shape(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [shape(each) for each in value])
    return value


LEAVES = st.one_of(
    st.integers(0, 99).map(torch.tensor), st.integers(), st.text(max_size=3), st.none(), st.binary(max_size=2)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.tuples(inner, inner).map(lambda two: Pair(*two)),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=12,
)


def texts_first(value):
    """Whether some list begins with a text: a column of text, which is passed on as it is."""
    if isinstance(value, dict):
        return any(map(texts_first, value.values()))
    if isinstance(value, (list, tuple)):
        return bool(value) and (isinstance(value[0], (str, bytes)) or any(map(texts_first, value)))
    return False


@given(TREES.filter(lambda tree: not texts_first(tree)))
def test_everything_but_the_tensors_stays(tree):
    before = shape(tree)
    once = replaced(tree, lambda tensor, name: tensor + 1000)
    assert shape(replaced(once, lambda tensor, name: tensor - 1000)) == before
    assert shape(tree) == before  # what was given is as it was


def test_types_that_hold_more_than_their_items_keep_it():
    x = torch.tensor(1)
    source = {
        "encoding": Encoding({"ids": x}, ["kept"]),
        "default": collections.defaultdict(list, {"ids": x}),
        "fixed": types.MappingProxyType({"ids": x}),
        "sample": Sample(image=x),
        "pair": Pair(x, "text"),
        "text": ["a", "b"],
    }
    names = []
    got = replaced(source, lambda tensor, name: names.append(name) or tensor + 1)
    assert type(got["encoding"]) is Encoding
    assert got["encoding"].encodings == ["kept"]
    assert got["default"].default_factory is list
    assert [int(got[name]["ids"]) for name in ("encoding", "default", "fixed")] == [2, 2, 2]
    assert (int(got["sample"].image), got["sample"].label) == (2, 3)
    assert (type(got["pair"]), int(got["pair"].a), got["pair"].b) == (Pair, 2, "text")
    assert got["text"] is source["text"]
    assert names == ["ids", "ids", "ids", "image", "pair"]
    assert int(source["encoding"]["ids"]) == int(source["sample"].image) == 1


def test_a_packed_sequence_keeps_its_sizes_on_the_host():
    """Torch takes them from there alone."""
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)], enforce_sorted=False)
    seen = []
    got = replaced([packed], lambda tensor, name: seen.append(tensor) or tensor * 2)[0]
    assert type(got) is type(packed)
    assert got.batch_sizes is packed.batch_sizes
    assert all(each is not packed.batch_sizes for each in seen)
    assert got.data.tolist() == [2.0] * 5
