"""Loader options from outside a script, and the facts of the loader it used."""

import inspect

import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.integrations.loader_options import loader_options, parse_options

data = pytest.importorskip("torch.utils.data")


def test_options_are_read_as_numbers_truth_and_words():
    """As a command line has them."""
    read = parse_options(["num_workers=2", "pin_memory=true", "workers=process", "prefetch_factor=None"])
    assert read == {"num_workers": 2, "pin_memory": True, "workers": "process", "prefetch_factor": None}


@pytest.mark.parametrize("text", ["num_workers", "batch_size=4", "shuffle=false", "=1", ""])
def test_what_changes_a_batch_cannot_be_set(text):
    """Only options that leave the batches as they are."""
    with pytest.raises(ConfigError):
        parse_options([text])


def test_loaders_are_made_with_the_options_and_as_before_afterwards():
    """By position or by name, the script's own value gives way; leaving puts the class back."""
    before = (data.DataLoader.__init__, data.DataLoader.__iter__, inspect.signature(data.DataLoader))
    with datapipe.profile() as prof, loader_options(prof, {"num_workers": 2, "persistent_workers": True}):
        named = data.DataLoader([1, 2, 3], 2, num_workers=0)
        placed = data.DataLoader([1, 2, 3], 2, False, None, None, 0)
        assert [loader.num_workers for loader in (named, placed)] == [2, 2]
        assert named.persistent_workers
        assert named.batch_size == 2
    assert (data.DataLoader.__init__, data.DataLoader.__iter__, inspect.signature(data.DataLoader)) == before
    assert data.DataLoader([1]).num_workers == 0


def test_without_workers_what_needs_them_is_left_out():
    """Persistent workers are refused by torch where there are none."""
    with datapipe.profile() as prof, loader_options(prof, {"persistent_workers": True, "prefetch_factor": 4}):
        assert data.DataLoader([1, 2]).persistent_workers is False
        assert data.DataLoader([1, 2], num_workers=1).prefetch_factor == 4


def test_the_first_loader_that_is_iterated_is_noted():
    """The notes say what was used, and a second loader does not overwrite it."""
    with datapipe.profile() as prof, loader_options(prof, {}):
        assert list(data.DataLoader([1, 2, 3, 4], batch_size=4))
        assert list(data.DataLoader([1, 2, 3, 4], batch_size=1))
    assert prof.summary().notes["loader"] == "torch.utils.data.DataLoader"
    assert prof.summary().notes["loader.batch_size"] == 4
