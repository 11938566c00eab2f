"""Rank and world size: given, from torch.distributed, from the environment, or alone."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from datapipe.errors import ConfigError
from datapipe.loader.topology import resolve_rank, warn_of_repeats


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def fake_torch(initialised):
    distributed = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: initialised, get_rank=lambda: 5, get_world_size=lambda: 6
    )
    return SimpleNamespace(distributed=distributed)


def test_alone_by_default_without_importing_torch():
    assert resolve_rank(None, None) == (0, 1)
    assert "torch" not in sys.modules


def test_what_is_given_wins(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert resolve_rank(1, 2) == (1, 2)
    assert resolve_rank(None, None) == (3, 4)
    monkeypatch.setitem(sys.modules, "torch", fake_torch(True))
    assert resolve_rank(None, None) == (5, 6)
    monkeypatch.setitem(sys.modules, "torch", fake_torch(False))
    assert resolve_rank(None, None) == (3, 4)


@pytest.mark.parametrize(("rank", "world"), [(1, None), (None, 2), (2, 2), (-1, 2), (0, 0), (True, 2)])
def test_what_does_not_go_together_is_refused(rank, world):
    with pytest.raises(ConfigError, match="rank"):
        resolve_rank(rank, world)


@pytest.mark.parametrize(("rank", "world"), [("1", None), (None, "2"), ("x", "2"), ("2", "2")])
def test_a_half_set_environment_is_refused(monkeypatch, rank, world):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="(?i)rank"):
        resolve_rank(None, None)


@pytest.mark.parametrize(
    ("workers", "placed", "warned"), [(None, False, 0), (1, False, 0), (2, False, 1), (2, True, 0)]
)
def test_a_worker_of_a_torch_loader_says_that_every_batch_comes_again(monkeypatch, recwarn, workers, placed, warned):
    """Where each worker has the same rank of the same loader; not where somebody gave each a rank of its own."""
    info = None if workers is None else SimpleNamespace(num_workers=workers)
    torch = SimpleNamespace(utils=SimpleNamespace(data=SimpleNamespace(get_worker_info=lambda: info)))
    monkeypatch.setitem(sys.modules, "torch", torch)
    warn_of_repeats(placed=placed)
    assert [f"in each of {workers} workers" in str(each.message) for each in recwarn] == [True] * warned
