"""Arguments that people bring from other loaders: each is refused with what stands for it here."""

from __future__ import annotations

import inspect

import pytest

from conftest import MemoryDataset, rich_table
from datapipe.errors import ConfigError
from datapipe.loader import DataLoader
from datapipe.loader.foreign_arguments import FOREIGN


@pytest.fixture
def dataset():
    table = rich_table(range(8))
    return MemoryDataset([table], table.schema)


def test_torchs_arguments_are_translated_together(dataset):
    """One error names all of them, each with its counterpart."""
    with pytest.raises(ConfigError, match="takes no num_workers, drop_last, collate_fn") as caught:
        DataLoader(dataset, 4, num_workers=2, drop_last=True, collate_fn=list, seed=1)
    for word in ("num_threads=", 'tail="drop"', "transform="):
        assert word in str(caught.value)


def test_every_argument_of_torchs_loader_is_known_here_or_translated():
    """None of them ends in a bare TypeError."""
    data = pytest.importorskip("torch.utils.data")
    ours = set(inspect.signature(DataLoader).parameters)
    theirs = {*inspect.signature(data.DataLoader).parameters, *inspect.signature(data.DistributedSampler).parameters}
    assert theirs - ours <= set(FOREIGN)


def test_nothing_of_ours_is_taken_for_foreign():
    assert not set(inspect.signature(DataLoader).parameters) & set(FOREIGN)


def test_a_name_that_nobody_has_is_pythons_own_error(dataset):
    with pytest.raises(TypeError, match="num_wrokers"):
        DataLoader(dataset, 4, num_wrokers=2)
