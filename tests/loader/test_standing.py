"""Where a loader stands: epochs follow each other, and a state goes on from what was delivered."""

from __future__ import annotations

import pytest

from datapipe.errors import StateError
from datapipe.loader import DataLoader
from tests.loader.batch_rows import real_ids


def test_epochs_and_seeds_differ_and_are_repeatable(memory):
    dataset = memory([50] * 4)
    first = DataLoader(dataset, 10, collate="numpy")
    epochs = [[real_ids(b) for b in first] for _ in range(2)]
    assert epochs[0] != epochs[1]
    again = DataLoader(dataset, 10, collate="numpy")
    again.set_epoch(1)
    assert [real_ids(b) for b in again] == epochs[1]
    assert [real_ids(b) for b in DataLoader(dataset, 10, seed=1, collate="numpy")] != epochs[0]


def test_an_epoch_broken_off_is_followed_by_the_next(memory):
    loader = DataLoader(memory([20] * 2), 10, collate="numpy")
    iterator = iter(loader)
    assert loader.epoch == 0
    assert iter(loader) is not iterator
    next(iter(loader))
    assert loader.epoch == 0
    for _ in loader:
        assert loader.epoch == 1
        break


def test_set_epoch_keeps_the_place_of_a_state_of_that_epoch(memory):
    """A trainer that resumes calls set_epoch with the state's epoch before it iterates: that must not start it over."""
    loader = DataLoader(memory([20] * 4), 10, collate="numpy")
    whole = [real_ids(b) for b in loader]
    state = loader.state_dict() | {"epoch": 0, "position": 3}
    loader.load_state_dict(state)
    loader.set_epoch(0)
    assert [real_ids(b) for b in loader] == whole[3:]
    loader.load_state_dict(state)
    loader.set_epoch(1)
    assert len(list(loader)) == 8


def test_a_state_at_an_epochs_end_goes_on_with_the_next(memory):
    loader = DataLoader(memory([20] * 2), 10, collate="numpy")
    list(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)
    expected = [real_ids(b) for b in loader]
    fresh = DataLoader(memory([20] * 2), 10, collate="numpy")
    fresh.load_state_dict(state)
    assert fresh.epoch == 1
    assert [real_ids(b) for b in fresh] == expected


def test_a_loop_that_sets_the_states_epoch_replays_nothing(memory):
    """`for e in range(state["epoch"], E): loader.set_epoch(e)`, from a state of an epoch's end, begins the next."""
    loader = DataLoader(memory([20] * 2), 10, collate="numpy")
    list(loader)
    state = loader.state_dict()
    expected = [real_ids(b) for b in loader]
    fresh = DataLoader(memory([20] * 2), 10, collate="numpy")
    fresh.load_state_dict(state)
    got = []
    for epoch in range(state["epoch"], 2):
        fresh.set_epoch(epoch)
        got += [real_ids(b) for b in fresh]
    assert got == expected


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loaded_state_holds_until_a_batch_was_delivered(memory, prefetch):
    """Iterating twice, or again after the first read failed, skips nothing."""
    dataset = memory([10] * 10)
    whole = [real_ids(b) for b in DataLoader(dataset, 10, collate="numpy")]
    loader = DataLoader(dataset, 10, collate="numpy", prefetch=prefetch)
    loader.load_state_dict(loader.state_dict() | {"position": 4})
    iter(loader)
    dataset.fails = dict.fromkeys(range(10), OSError("away"))
    with pytest.raises(OSError, match="away"):
        next(iter(loader))
    dataset.fails = {}
    assert [real_ids(b) for b in loader] == whole[4:]
    assert loader.epoch == 0
    assert len(list(loader)) == 10
    assert loader.epoch == 1


def test_the_state_counts_what_was_delivered_not_what_was_made_ahead(memory):
    loader = DataLoader(memory([100] * 2), 10, prefetch=10, num_threads=2, collate="numpy")
    iterator = iter(loader)
    for count in range(1, 4):
        next(iterator)
        assert loader.state_dict()["position"] == count
    loader.close()


def test_a_recorded_geometry_is_taken_over_unless_another_was_asked_for(memory):
    dataset = memory([10] * 16)
    asked = DataLoader(dataset, 4, lanes=2, window=3, collate="numpy")
    iterator = iter(asked)
    head = [real_ids(next(iterator)) for _ in range(5)]
    state = asked.state_dict()
    rest = [real_ids(b) for b in iterator]
    chosen = DataLoader(dataset, 4, collate="numpy")
    assert chosen.settings != asked.settings
    chosen.load_state_dict(state)
    assert [real_ids(b) for b in chosen] == rest
    assert len(head) + len(rest) == 40
    with pytest.raises(StateError, match="lanes"):
        DataLoader(dataset, 4, lanes=1, collate="numpy").load_state_dict(state)


def test_a_state_that_does_not_fit_leaves_the_loader_as_it_was(memory):
    loader = DataLoader(memory([10] * 16), 4, collate="numpy")
    before = loader.state_dict()
    other = DataLoader(memory([10] * 16, fingerprint="other"), 4, lanes=2, window=1, collate="numpy").state_dict()
    with pytest.raises(StateError, match="other"):
        loader.load_state_dict(other)
    assert loader.state_dict() == before
