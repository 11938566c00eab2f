"""Columns that the input lacks are found out before any work."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.errors import ConfigError
from datapipe.preprocess import plan_run, preprocess


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


def test_a_column_that_no_header_has(folder):
    """The first lines of CSV and TSV say what they have; one file that has it is enough, an empty field is a field."""
    (folder / "a.jsonl").unlink()
    (folder / "a.csv").write_text("text,source\none,\n")
    (folder / "b.tsv").write_text("text\tdate\none\t2020\n")
    assert len(planned(folder, columns=["source", "date"]).splits) == 1
    with pytest.raises(ConfigError, match="'sorce', which no file has, in/a.csv"):
        planned(folder, columns=["source", "sorce"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_column_that_no_record_had(folder, workers):
    """Of JSON lines that is known at the end, and told; a value in the last row is enough to say nothing."""

    def warned(*columns):
        recipe = {"name": "r", "input": {"columns": columns}, "steps": ["decode"]}
        return preprocess(folder, folder.parent / "out", recipe, workers).warnings

    with (folder / "a.jsonl").open("a") as file:
        file.write('{"text": "three", "late": 0, "none": null}\n')
    (warning,) = [each for each in warned("id", "late", "none") if "input.columns" in each]
    assert warning == "input.columns names 'none', for which no row of the input has a value: is it misspelt?"
    assert warning in warned("id", "late", "none")  # also of a run that finds everything done
    assert warned("id", "late") == ()
