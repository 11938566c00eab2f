"""What a dataset's files cost, told from the files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.integrations.parquet_evidence import parquet_evidence
from datapipe.integrations.script import profile_script
from datapipe.profiling import load_profile


@pytest.fixture
def folder(tmp_path):
    """Two shards: a small column and one of large compressed text; one row group four times the rest."""
    random = np.random.default_rng(0)
    for shard, groups in enumerate(((500, 500), (500, 500, 2000))):
        schema = pa.schema([("small", pa.int64()), ("text", pa.string())])
        with pq.ParquetWriter(tmp_path / f"{shard}.parquet", schema, compression="zstd") as writer:
            for rows in groups:
                text = [
                    bytes(letters).decode() * 20 for letters in random.integers(97, 123, (rows, 500), dtype=np.uint8)
                ]
                writer.write_table(pa.table({"small": np.arange(rows), "text": text}))
    return tmp_path


def test_the_costliest_column_comes_first_with_its_codec(folder):
    """Long text takes more to decode than small integers, and what it is stored as is said."""
    lines = parquet_evidence(datapipe.open_dataset(folder))
    assert lines[0].startswith("Column text: ")
    assert "× by zstd" in lines[0]
    assert lines[1].startswith("Column small: ")


def test_a_row_group_that_stands_out_is_named(folder):
    """The one with four times the rows, by its number and shard."""
    lines = parquet_evidence(datapipe.open_dataset(folder))
    assert "5 row groups" in " ".join(lines)
    (folder / "1.parquet").unlink()
    pq.write_table(pa.table({"x": [1]}), folder / "0.parquet")
    (one,) = [
        line for line in parquet_evidence(datapipe.open_dataset(folder)) if "row group" in line and "shard" in line
    ]
    assert one.startswith("1 row group of ")
    assert one.endswith(" in 1 shard.")
    assert any("row group, 2 of 1.parquet" in line for line in lines)


def test_no_more_columns_are_read_than_the_budget_allows(folder):
    """With none, one column is timed all the same, and it is said that it was one."""
    ticks = iter(range(0, 10**15, 10**9))
    lines = parquet_evidence(datapipe.open_dataset(folder), budget=0.5, clock=lambda: next(ticks))
    assert "Only 1 of 2 columns were timed." in lines


@pytest.mark.parametrize("other", [None, [1, 2], object()])
def test_what_is_no_dataset_has_no_evidence(other):
    """Nothing is raised, nothing said."""
    assert parquet_evidence(other) == ()


def test_files_that_went_away_are_no_evidence(folder):
    """The run is over; its report must not fail for what became of the dataset."""
    opened = datapipe.open_dataset(folder)
    for path in folder.glob("*.parquet"):
        path.unlink()
    assert not any(line.startswith("Column") for line in parquet_evidence(opened))


def test_a_profiled_script_has_the_evidence_in_its_report(folder, tmp_path):
    """What was read through datapipe's loader is looked at once the script has ended, and shown with the advice."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, datapipe\n"
        "for batch in datapipe.DataLoader(datapipe.open_dataset(sys.argv[1]), 50, collate='numpy'):\n"
        "    pass\n"
    )
    assert profile_script([str(script), str(folder)], tmp_path / "run") == 0
    kept = load_profile(tmp_path / "run").advice
    assert kept.loader == "datapipe.DataLoader"
    assert kept.evidence[0].startswith("Column text: ")
    assert "Column text: " in (tmp_path / "run" / "report.html").read_text()
