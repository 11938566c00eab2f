"""`last_rows`: which rows the last batches were made of, as a transform would have been told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from datapipe.errors import ConfigError
from datapipe.loader import Bucket, DataLoader, Pack

SHAPES = {
    "rows": {},
    "bins": {"pack": Pack(4, columns="ragged")},
    "buckets": {"bucket": Bucket(max_tokens=8, column="ragged")},
}


@pytest.fixture
def make(memory):
    """A loader, and the row numbers that its transform was given, batch after batch."""
    data = memory([8, 5, 9, 10], rich=True)

    def make(name="rows", **options):
        given = []

        def keep(batch, keys):
            given.append(keys.rows.tolist())
            return batch

        told = {"seed": 1, "tail": "partial", "prefetch": 0} | SHAPES[name] | options
        return DataLoader(data, 2, collate="numpy", transform=keep, **told), given

    return make


@pytest.mark.parametrize("name", SHAPES)
def test_it_names_the_rows_that_the_transform_was_given(make, name):
    """Of every batch of two epochs, across the border between them, in rows, bins and buckets."""
    loader, given = make(name)
    first = len([1 for _ in loader])
    for at, _ in enumerate(loader, start=first):
        told = loader.last_rows(2)
        assert [each["rows"] for each in told] == given[at - 1 : at + 1]
        assert (told[1]["epoch"], told[1]["batch"]) == (1, at - first)
    assert json.loads(json.dumps(told)) == told


def test_it_tells_every_rank_the_whole_global_batch(make):
    ranks = [make(rank=rank, world_size=2) for rank in (0, 1)]
    for _ in zip(*(loader for loader, _ in ranks), strict=True):
        told = [loader.last_rows()[0]["rows"] for loader, _ in ranks]
        assert told[0] == told[1] == [row for _, given in ranks for row in given[-1]]


def test_what_was_skipped_was_not_delivered(make):
    """And a loader that resumed a state tells of batches from before it."""
    loader, given = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    loader.skip(2)
    next(iterator)
    expected = [given[2], given[-1]]
    assert [each["rows"] for each in loader.last_rows(2)] == expected
    other, _ = make()
    other.load_state_dict(loader.state_dict())
    assert [each["rows"] for each in other.last_rows(2)] == expected
    assert [each["batch"] for each in other.last_rows(4)] == [0, 1, 2, 5]


def test_more_than_there_were_is_refused(make):
    loader, _ = make()
    with pytest.raises(ConfigError, match=r"last_rows\(1\) after 0"):
        loader.last_rows()
    with pytest.raises(ConfigError, match="batches"):
        loader.last_rows(0)


def test_the_numbers_are_those_that_take_knows(stored):
    """`Dataset.take` shows the rows of a batch."""
    data = stored([6, 7, 5, 4], "parquet")
    loader = DataLoader(data, 3, seed=2, prefetch=0)
    batch = next(iter(loader))
    rows = loader.last_rows()[0]["rows"]
    assert np.array_equal(batch["id"].numpy(), data.take(rows)["id"].to_numpy())
