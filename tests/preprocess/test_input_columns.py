"""Columns that the input lacks are found out before any work."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.errors import ConfigError
from datapipe.preprocess import plan_run


def planned(folder, **read):
    return plan_run([folder], folder.parent / "out", {"name": "r", "input": read, "steps": ["decode"]})


@pytest.fixture
def folder(tmp_path):
    """Rows with an id and a text, as JSON lines."""
    path = tmp_path / "in"
    path.mkdir()
    (path / "a.jsonl").write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    return path


@pytest.mark.parametrize("kind", ["text", "id"])
def test_a_misspelt_field(folder, kind):
    """No row has it: the field, the file and the option to correct are named."""
    with pytest.raises(ConfigError, match=rf"no row has the field 'nope': in/a.jsonl(.*\n)*.*input.{kind}_column=NAME"):
        planned(folder, **{f"{kind}_column": "nope"})
    assert len(planned(folder, **{f"{kind}_column": kind}).splits) == 1


def test_a_misspelt_id_of_a_table(folder):
    """Records without a text have ids too."""
    with pytest.raises(ConfigError, match="no row has the field 'nope'"):
        plan_run(
            [folder],
            folder.parent / "out",
            {"name": "r", "input": {"text_column": None, "id_column": "nope", "columns": ["*"]}, "steps": ["schema"]},
        )


def test_a_column_that_no_file_has(folder):
    """Parquet says what it has; of JSON lines a later row may have the field."""
    assert len(planned(folder, columns=["nope"]).splits) == 1
    (folder / "a.jsonl").unlink()
    for name in ("b", "c"):
        pq.write_table(pa.table({"text": ["one"], "source": ["x"]}), folder / f"{name}.parquet")
    assert len(planned(folder, columns=["source"]).splits) == 1
    with pytest.raises(ConfigError, match="'nope', which no file has, in/b.parquet"):
        planned(folder, columns=["nope"])
