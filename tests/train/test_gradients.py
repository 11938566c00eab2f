"""Gradients that lie on several ranks, as far as one process shows it; `test_strategy` has the ranks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datapipe.train import gradients


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 8))
def test_the_shares_of_all_holders_are_the_square_of_the_norm(sizes, holders):
    """Each of n ranks that hold the same gradients adds 1/n of the square."""
    tensors = [torch.randn(size) for size in sizes]
    share = gradients.square_of_norm([(tensor, holders) for tensor in tensors])
    assert share.dtype == torch.float64
    expected = torch.nn.utils.get_total_norm(tensors).item() ** 2
    assert share.item() * holders == pytest.approx(expected, rel=1e-5)


def test_no_gradient_has_no_norm():
    assert gradients.square_of_norm([]).item() == 0.0


def test_an_overflow_stays_one():
    """An infinite or undefined element is seen in the norm, as the loss scale wants it."""
    found = gradients.square_of_norm([(torch.tensor([1.0, float("inf")]), 2), (torch.ones(2), 2)])
    assert found.item() == float("inf")
    assert gradients.square_of_norm([(torch.tensor([float("nan")]), 1)]).isnan()


def test_sums_go_in_buckets_and_come_back_in_place(monkeypatch):
    """Bounded memory, one type a bucket; every tensor gets its own sum, whatever its shape and stride."""
    seen = []

    def doubled(flat, group):
        seen.append((flat.dtype, flat.numel()))
        flat.mul_(2)

    monkeypatch.setattr(gradients, "_BUCKET", 64)
    monkeypatch.setattr(gradients.dist, "all_reduce", doubled)
    tensors = [torch.arange(12.0).view(3, 4), torch.arange(6.0).view(2, 3).t(), torch.ones(40), torch.ones(2).half()]
    before = [tensor.clone() for tensor in tensors]
    gradients.sum_over(None, tensors)
    assert all(torch.equal(tensor, 2 * old) for tensor, old in zip(tensors, before, strict=True))
    assert seen == [(torch.float32, 12), (torch.float32, 6), (torch.float32, 40), (torch.float16, 2)]


def test_a_plain_tensor_is_its_own_part():
    tensor = torch.ones(3)
    assert gradients.local_part(tensor) is tensor
