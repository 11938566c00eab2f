"""Which row made a transform fail: found by halves, and named with where it is stored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import worker_transforms as given
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

import datapipe
from datapipe.errors import LoaderError
from datapipe.loader.blame import failing_row
from datapipe.loader.transform import RowKeys


def search(n, bad, error=ValueError):
    """Rows 100…, a transform that fails with any of `bad`, and what is found."""
    calls = []

    def run(table, keys):
        ids = table.column("id").to_pylist()
        calls.append(len(ids))
        assert ids == keys.rows.tolist()
        if set(ids) & bad:
            raise ValueError("bad")

    ids = np.arange(100, 100 + n)
    found = failing_row(pa.table({"id": ids}), RowKeys(seed=0, epoch=0, rows=ids), error(), run)
    return found, sum(calls)


@settings(deadline=None)
@for_all(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_first_failing_row_is_found_with_two_runs_at_most(case):
    """Whatever the rows that fail: at most twice as many rows as the batch has, and one for each half rounded up."""
    n, bad = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datapipe.loader.blame.MOST_SECONDS", 1e9)  # however busy the machine is
        found, rows = search(n, {100 + row for row in bad})
    assert found == min(bad)
    assert rows <= 2 * n + n.bit_length()


def test_rows_that_fail_only_together_are_not_blamed():
    """No single row is at fault, or the error is another one."""
    table = pa.table({"id": np.arange(8)})
    keys = RowKeys(seed=0, epoch=0, rows=np.arange(8))

    def together(part, part_keys):
        if part.num_rows == 8:
            raise ValueError("too many")

    assert failing_row(table, keys, ValueError(), together) is None
    assert search(8, {103}, error=TypeError)[0] is None
    assert search(8, {103}, error=lambda: LoaderError("refused"))[0] is None


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_table_transforms_name_row_shard_and_row_group(stored, workers):
    """In threads and in processes: the error's type, the row, where it is stored, and the rows it came with."""
    data = stored([20, 20, 20], "parquet").select(["id"])
    options = {"transform": given.refuse_row, "collate": "numpy", "workers": workers, "num_threads": 1}
    with datapipe.DataLoader(data, 10, **options) as loader, pytest.raises(ValueError, match="row 37") as info:
        for _ in loader:
            pass
    notes = "\n".join(info.value.__notes__)
    assert "it fails with row 37 alone: shard part-1.parquet, row group 0" in notes
    assert "in the transform refuse_row, given rows" in notes


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_batch_transforms_name_the_batch_and_its_row_groups(stored, workers):
    """A batch is not taken apart: its number, its rows, and the row groups they are from."""
    data = stored([20, 20, 20], "parquet").select(["id"])
    options = {"transform": given.refuse_batch, "collate": "numpy", "workers": workers, "shuffle": False}
    with datapipe.DataLoader(data, 10, **options) as loader, pytest.raises(KeyError, match="row 37") as info:
        for _ in loader:
            pass
    notes = "\n".join(info.value.__notes__)
    assert "batch 3 of this rank's epoch, with rows of part-1.parquet row group 0" in notes
    assert "in the transform refuse_batch, given rows 30, 31" in notes
