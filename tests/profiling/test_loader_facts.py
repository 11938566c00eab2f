"""What a loader is, read off it by name."""

import pytest

from datapipe.profiling.loader_facts import DATAPIPE, TORCH, loader_facts, option_of


def test_the_settings_of_a_torch_loader_are_facts():
    """The class, its workers and the like are read without iterating it."""
    data = pytest.importorskip("torch.utils.data")
    facts = loader_facts(data.DataLoader([1, 2, 3], batch_size=2, num_workers=0))
    assert facts["loader"] == TORCH
    assert (option_of(facts, "num_workers"), option_of(facts, "batch_size")) == (0, 2)
    assert option_of(facts, "pin_memory") is False


def test_a_subclass_is_known_by_what_it_inherits():
    """Scripts subclass loaders; their options are still those of the base."""
    base = type("DataLoader", (), {"__module__": "datapipe.loader.dataloader", "num_threads": 3, "prefetch": 4})
    own = type("Mine", (base,), {"__module__": "__main__"})
    assert loader_facts(own()) == {"loader": DATAPIPE, "loader.num_threads": 3, "loader.prefetch": 4}


@pytest.mark.parametrize("other", [[1, 2], iter([1]), object(), None])
def test_of_any_other_iterable_nothing_is_said(other):
    """No facts are invented."""
    assert loader_facts(other) == {}
