"""Digests of batches: equal if and only if the batches are."""

import pytest
import torch

from datapipe.errors import TrainError
from datapipe.train import next_batch_digests
from datapipe.train.digests import batch_digest


def test_they_are_those_of_the_batches_that_come_next(make_loader):
    """From where the loader stands, over the end of its epoch; it still stands there afterwards."""
    loader = make_loader(batches=5)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    expected = [batch_digest(loader.batch(*place)) for place in ((0, 3), (0, 4), (1, 0), (1, 1))]
    assert next_batch_digests(loader, 4) == expected
    assert next_batch_digests(loader, 4) == expected
    assert batch_digest(next(iter(loader))) == expected[0]


def test_none_is_none_and_an_empty_loader_is_an_error(make_loader):
    assert next_batch_digests(make_loader(), 0) == []
    with pytest.raises(TrainError, match="no batch"):
        next_batch_digests(make_loader(batches=0), 1)


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1, 2, 4]), "b": ["x", "yz"]},
        {"a": torch.tensor([1, 2, 3], dtype=torch.int32), "b": ["x", "yz"]},
        {"a": torch.tensor([[1, 2, 3]]), "b": ["x", "yz"]},
        {"a": torch.tensor([1, 2, 3]), "b": ["xy", "z"]},
        {"a": torch.tensor([1, 2, 3]), "c": ["x", "yz"]},
        {"a": torch.tensor([1, 2, 3])},
        {"a": torch.tensor([1, 2, 3]), "b": ["x", ["yz"]]},
    ],
)
def test_any_difference_shows(other):
    """A value, a dtype, a shape, a name, a border between strings."""
    batch = {"b": ["x", "yz"], "a": torch.tensor([1, 2, 3])}
    assert batch_digest(batch) != batch_digest(other)
    assert batch_digest(batch) == batch_digest({"a": torch.arange(8)[1:4], "b": ["x", "yz"]})
    assert batch_digest({"a": torch.empty(0)}) != batch_digest({"a": torch.empty(0, 3)})
    assert batch_digest({"a": torch.tensor(2.0, dtype=torch.bfloat16)}) != batch_digest({"a": torch.tensor(2.0)})
