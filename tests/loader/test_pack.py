"""Bins: which columns are packed together, what is read for them, and what a transform knows of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.dataset import open_dataset
from datapipe.errors import ConfigError, LoaderError
from datapipe.loader import Pack
from tests.loader.documents import dataset, documents, loader, of_rows, told


def test_a_filtered_dataset_is_packed_of_the_rows_that_pass(tmp_path):
    """Lengths are read of those rows alone."""
    lengths = np.random.default_rng(6).integers(0, 60, 300).tolist()
    documents(tmp_path, "parquet", lengths, True)
    data = open_dataset(tmp_path, filters=[("row", "<", 250), ("n_tokens", ">", 5)])
    found = of_rows([row for b in loader(data, 4, tail="partial", pack=Pack(64)) for row in told(b)])
    assert found == {row: list(range(n)) for row, n in enumerate(lengths[:250]) if n > 5}


def test_only_the_packed_columns_and_the_lengths_are_read(of_tables):
    """Text beside the tokens stays on disk."""
    data = dataset(of_tables, [[3, 4, 5]] * 4)
    one = loader(data, 1, pack=Pack(8))
    assert set(next(iter(one))) == {"tokens", "segment_ids", "position_ids"}
    assert one._fitted.data.schema.names == ["tokens"]
    assert one._fitted.shaping._lengths.source == "n_tokens"


def test_columns_of_equal_lengths_are_packed_alike(of_tables):
    """Labels and a loss mask stand beside their tokens; each has its own padding; a row that differs is named."""
    lengths = [3, 5, 2, 6]
    tokens = [list(range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)]
    columns = {
        "input_ids": pa.array(tokens, pa.list_(pa.int32())),
        "labels": pa.array([[-t for t in each] for each in tokens], pa.large_list(pa.int64())),
        "weight": pa.array([[t / 2 for t in each] for each in tokens], pa.list_(pa.float32())),
    }
    pack = Pack(8, columns=["input_ids", "labels", "weight"], pad={"labels": -100}, cu_seqlens=True)
    for batch in loader(of_tables(pa.table(columns)), 2, pack=pack):
        real = batch["segment_ids"] > 0
        assert (batch["labels"][real] == -batch["input_ids"][real]).all()
        assert (batch["weight"][real] == batch["input_ids"][real] / 2).all()
        assert batch["weight"].dtype == np.float32
        assert (batch["labels"][~real] == -100).all()
        assert not batch["input_ids"][~real].any()
        starts = np.flatnonzero(batch["position_ids"].ravel() == 0)
        assert batch["cu_seqlens"].tolist() == [*starts.tolist(), 16]
        assert batch["cu_seqlens"].dtype == np.int32
        assert batch["max_seqlen"] == np.diff(batch["cu_seqlens"]).max()
    columns["labels"] = pa.array([[0] * n for n in (3, 5, 2, 7)], pa.large_list(pa.int64()))
    with pytest.raises(LoaderError, match="row 3 of row group 0 has 7 values in column 'labels'"):
        list(loader(of_tables(pa.table(columns)), 1, pack=pack))


def test_padding_of_a_column_that_is_not_packed_is_refused(of_tables):
    """A slip in a name would leave 0 where the loss looks for -100."""
    table = pa.table({"tokens": [[1, 2], [3]], "labels": [[1, 2], [3]]})
    with pytest.raises(ConfigError, match="names 'lables', which is not packed"):
        loader(of_tables(table), 1, pack=Pack(4, columns=["tokens", "labels"], pad={"lables": -100}))
    with pytest.raises(ConfigError, match=r"columns=\['tokens', 'labels'\]"):
        loader(of_tables(table), 1, pack=Pack(4, pad={"labels": -100}))


def test_a_batch_transform_knows_the_documents_of_a_bin(of_tables):
    """Its keys number the rows of each piece, segment by segment."""
    seen = []

    def look(batch, keys):
        assert len(keys.rows) == sum(len(set(s[s > 0].tolist())) for s in batch["segment_ids"])
        seen.extend(keys.rows.tolist())
        return batch

    for _ in loader(dataset(of_tables, [[3, 4, 5], [1, 1, 9]]), 1, pack=Pack(9), tail="partial", transform=look):
        pass
    assert sorted(seen) == list(range(6))


def test_rows_of_one_length_are_not_packed_again(memory):
    with pytest.raises(ConfigError, match="packed already"):
        loader(memory([4], rich=True), 1, pack=Pack(8))
