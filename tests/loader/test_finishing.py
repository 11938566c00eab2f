"""What the user's code does to a batch: one object, in threads and in processes."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
import worker_transforms as given

from datapipe.errors import ConfigError, LoaderError
from datapipe.loader.finishing import Finishing
from datapipe.loader.transform import RowKeys, Transform

KEYS = RowKeys(seed=0, epoch=0, rows=np.arange(3))


def test_jobs():
    """Each part alone, and collate with the transform after it."""
    finishing = Finishing(Transform(lambda batch: [*batch, "t"]), lambda batch: [*batch, "c"], own=True)
    assert finishing.run("collate", {"id": 0}, KEYS)[0] == ["id", "c"]
    assert finishing.run("batch", ["x"], KEYS)[0] == ["x", "t"]
    assert finishing.run("both", {"id": 0}, KEYS)[0] == ["id", "c", "t"]
    tables = Finishing(Transform(given.of_table), dict, own=False)
    assert tables.run("table", pa.table({"id": np.arange(3)}), KEYS)[0].column_names == ["id", "twice"]


def test_a_transform_of_columns_stands_before_collate():
    """It gets what was gathered, and collate, the user's or not, what it made; tables have no columns for it."""
    transform = Transform(given.of_columns)
    finishing = Finishing(transform, lambda columns: sorted(columns), own=True)
    assert finishing.run("columns", {"id": 0}, KEYS)[0] == {"id": 0, "twice": 0}
    assert finishing.run("both", {"id": 0}, KEYS)[0] == ["id", "twice"]
    assert finishing.run("collate", {"id": 0}, KEYS)[0] == ["id"]
    assert finishing.of_batches
    assert finishing.of_processes() is finishing
    with pytest.raises(ConfigError, match="of_columns takes columns"):
        Finishing(transform, None, own=False)


def test_processes_get_no_more_than_they_need():
    """Of a transform of tables no collate goes along (it would import torch); what a process gets comes out whole."""
    tables = Finishing(Transform(given.of_table), dict, own=False).of_processes()
    assert tables.collate is None
    again = pickle.loads(pickle.dumps(tables))
    assert again.run("table", pa.table({"id": np.arange(3)}), KEYS)[0].num_rows == 3
    batches = Finishing(Transform(given.double), dict, own=False)
    assert batches.of_processes() is batches


@pytest.mark.parametrize(("error", "kind"), [(StopIteration, LoaderError), (KeyError, KeyError)])
def test_collate_names_the_rows(error, kind):
    """Whatever it raises; StopIteration would end the epoch."""

    def broken(batch):
        raise error

    with pytest.raises(kind) as info:
        Finishing(None, broken, own=True).run("collate", {}, KEYS)
    assert any("given rows 0, 1, 2" in note for note in info.value.__notes__)
