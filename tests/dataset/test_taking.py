"""Rows by number are what Arrow's take gives, and of the type that the schema says, also where Arrow has no kernel."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import DataLoader, open_dataset


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.string()], ids=str)
def test_views_are_taken_and_delivered(tmp_path, kind):
    """By `take` and by a loader of Arrow tables, shuffled: over row groups, with nulls, and beside other columns."""
    rows = [None if n % 7 == 3 else f"row {n} of some length" for n in range(40)]
    values = pa.array(rows, pa.string() if kind != pa.binary_view() else pa.binary()).cast(kind)
    try:
        pq.write_table(pa.table({"text": values, "n": range(40)}), tmp_path / "a.parquet", row_group_size=10)
    except pa.ArrowNotImplementedError:
        pytest.skip("an older pyarrow does not write views")
    dataset = open_dataset(tmp_path)
    wanted = values.to_pylist()
    taken = dataset.take([39, 3, 3, 12])
    assert taken.schema == dataset.schema
    assert taken["text"].to_pylist() == [wanted[n] for n in (39, 3, 3, 12)]
    with DataLoader(dataset, 7, collate="arrow", tail="partial", num_threads=1) as loader:
        batches = list(loader)
    assert {batch.schema.field("text").type for batch in batches} == {kind}
    delivered = pa.concat_tables(batches).to_pydict()
    assert sorted(zip(delivered["n"], delivered["text"], strict=True)) == list(enumerate(wanted))
    part = open_dataset(tmp_path, filters=[("n", "<", 36)])  # of the last row group a part
    assert part.take([35, 4])["text"].to_pylist() == [wanted[35], wanted[4]]
