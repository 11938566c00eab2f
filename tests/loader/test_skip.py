"""skip: batches are passed over, once, on every rank alike, and the state says so."""

from __future__ import annotations

import json

import pytest

from datapipe.errors import ClosedError, ConfigError, StateError
from datapipe.loader import DataLoader, Pack


@pytest.fixture(params=[0, 2], ids=["inline", "threads"])
def make(request, memory):
    data = memory([8, 5, 9, 10], rich=True)
    return lambda **options: DataLoader(
        data, 2, collate="numpy", prefetch=request.param, **{"seed": 1, "tail": "partial", **options}
    )


@pytest.fixture(params=["rows", "bins"])
def shape(request):
    return {} if request.param == "rows" else {"pack": Pack(4, columns="ragged")}


def told(batch):
    return batch["id"].tolist() if "id" in batch else batch["ragged"].tolist()


def test_an_iteration_under_way_goes_on_behind_what_is_skipped(make, shape):
    """As if the batches had not been there; the epoch ends where it did."""
    whole = [told(b) for b in make(**shape)]
    loader = make(**shape)
    seen = []
    for batch in loader:
        seen.append(told(batch))
        if len(seen) == 2:
            loader.skip(3)
    assert seen == whole[:2] + whole[5:]
    assert len(loader) == len(whole)
    assert [told(b) for b in loader] == [told(b) for b in second(make(**shape))], "the next epoch is whole"


def second(loader):
    loader.set_epoch(1)
    return loader


def test_after_a_spike_the_run_goes_on_without_the_batches_that_made_it(make, shape):
    """Load the state from before, skip, go on; a state saved later tells of it and goes on there on its own."""
    whole = [told(b) for b in make(**shape)]
    loader = make(**shape)
    found = iter(loader)
    for _ in range(2):
        next(found)
    before = json.loads(json.dumps(loader.state_dict()))
    for _ in range(3):
        next(found)
    resumed = make(**shape)
    resumed.load_state_dict(before)
    resumed.skip(1)
    resumed.skip(2)
    state = json.loads(json.dumps(resumed.state_dict()))
    assert state["skipped"] == [[0, 2, 3]]
    assert state["position"] == 5
    assert [told(b) for b in resumed] == whole[5:]
    other = make(**shape)
    other.load_state_dict(state)
    assert [told(b) for b in other] == whole[5:]
    assert other.state_dict()["skipped"] == [[0, 2, 3]]


def test_the_rest_of_an_epoch_can_be_skipped_and_no_more(make, shape):
    """To the end, and then the next epoch comes; beyond it, an error that says how many are left, and nothing moves."""
    loader = make(**shape)
    steps = len(loader)
    found = iter(loader)
    next(found)
    with pytest.raises(ConfigError, match=f"{steps - 1} batches of epoch 0 left"):
        loader.skip(steps)
    assert loader.state_dict()["position"] == 1
    assert "skipped" not in loader.state_dict()
    loader.skip(steps - 1)
    assert list(found) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)
    loader.skip(1)
    assert loader.state_dict()["skipped"] == [[0, 1, steps - 1], [1, 0, 1]]
    assert (loader.epoch, len(list(loader))) == (1, steps - 1)


@pytest.mark.parametrize("delivered", [0, 1])
def test_an_epoch_skipped_to_its_end_is_followed_by_the_next(make, shape, delivered):
    """However it is left: nothing is iterated over in vain, and never for good."""
    loader = make(**shape)
    found = iter(loader)
    for _ in range(delivered):
        next(found)
    loader.skip(len(loader) - delivered)
    assert list(found) == []
    assert [told(b) for b in loader] == [told(b) for b in second(make(**shape))]
    assert loader.state_dict()["epoch"] == 2


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None])
def test_anything_but_a_number_of_batches_is_refused(make, wrong):
    with pytest.raises(ConfigError, match="batches="):
        make().skip(wrong)


def test_a_closed_loader_skips_nothing(make):
    loader = make()
    loader.close()
    with pytest.raises(ClosedError):
        loader.skip(1)


@pytest.mark.parametrize("wrong", [3, [[1, 2]], [[0, 1, -1]], [[0, 1, "2"]], {}])
def test_a_state_whose_skips_are_none_is_refused(make, wrong):
    loader = make()
    with pytest.raises(StateError, match="skipped"):
        loader.load_state_dict({**loader.state_dict(), "skipped": wrong})
