"""The injected transform: the batch as it was, the memory it keeps, and the same in another process."""

from __future__ import annotations

import pickle

import pytest

from datapipe.cli.selftest.injection import Injected, transform_of
from datapipe.cli.selftest.pipe import Pipe


@pytest.mark.parametrize(("calls", "kept"), [(0, 5), (2, 2)])
def test_a_leak_keeps_what_it_says(calls, kept):
    """1 KiB of every batch, or of the first two alone: a cache that fills up."""
    transform = transform_of(Pipe(leak_kb=1, leak_calls=calls))
    assert [transform(batch) for batch in range(5)] == list(range(5))
    assert sum(map(len, transform._kept)) == kept << 10


def test_a_worker_gets_the_same_transform():
    """Pickled it is as new: of the same pipe, with nothing kept."""
    transform = Injected(Pipe(leak_kb=1))
    transform(None)
    again = pickle.loads(pickle.dumps(transform))
    assert again._pipe == transform._pipe
    assert again._kept == []


def test_no_transform_is_none():
    assert transform_of(Pipe()) is None
