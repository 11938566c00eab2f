"""The signals file: a row per row, the same bytes however the rows came."""

import contextlib
import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.corpus import Quarantined
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import StepError
from datapipe.preprocess import explain, signals_file
from datapipe.preprocess.signals_file import SignalsFile
from datapipe.preprocess.stage import Removal
from datapipe.preprocess.work import WorkFolder
from datapipe.steps import DROP, BoundStep, Keys, StepSpec, run_steps
from datapipe.storage import open_store


@dataclass(frozen=True, kw_only=True)
class Nothing:
    pass


def odd(kind=None):
    """A step that measures `value`, and drops what is odd."""

    def step(table, _):
        value = table["value"] if kind is None else table["value"].cast(kind)
        reasons = pc.if_else(pc.bit_wise_and(table["value"], 1).cast(pa.bool_()), "odd", pa.scalar(None, pa.string()))
        return table.append_column("toy.value", value).append_column(DROP, reasons)

    spec = StepSpec(
        name="odd", version=1, kind="map", options=Nothing, summary="", reasons=("odd",), signals=("toy.value",),
        build=lambda _: step,
    )  # fmt: skip
    return BoundStep(spec=spec, options=Nothing(), step=step)


def rows(start, end):
    return pa.table(
        {
            "row_id": [f"f:{i}" for i in range(start, end)],
            "text": ["x" * i for i in range(start, end)],
            "value": pa.array(range(start, end), pa.int64()),
            "__position": pa.array(range(start, end), pa.uint32()),
        }
    )


def written(folder, feed, *, corpus=True):
    """The file that `feed` fills: its record, and its rows."""
    work = WorkFolder(open_store(str(folder)))
    with contextlib.ExitStack() as stack:
        file = SignalsFile(work, stack, corpus=corpus)
        feed(file)
        made = file.finish()
    assert not list((folder / "_work" / "scratch").iterdir())
    return made, (None if made is None else pq.read_table(folder / made.path))


def ran(file, table, *steps):
    file.ran(run_steps(table, steps, Keys()), table)


@pytest.mark.parametrize("cut", [1, 3, 10])
def test_the_cut_of_the_batches_is_not_to_be_seen(tmp_path, monkeypatch, cut):
    """The same rows in other batches give the same bytes; row groups are full but for the last."""
    monkeypatch.setattr(signals_file, "ROW_GROUP", 4)

    def feed(file, size):
        for start in range(0, 10, size):
            ran(file, rows(start, min(10, start + size)), odd())

    made, table = written(tmp_path, lambda file: feed(file, cut))
    assert made == written(tmp_path, lambda file: feed(file, 10))[0]
    assert made.path == f"index/signals/{made.checksum}.signals"
    groups = pq.ParquetFile(tmp_path / made.path)
    assert [groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 4, 2]
    assert table["reason"].to_pylist() == [None, "odd"] * 5
    assert (
        table["toy.value"].to_pylist() == table["position"].to_pylist() == table["bytes"].to_pylist() == list(range(10))
    )


def test_rows_that_could_not_be_read(tmp_path):
    """They have an id, a reason and a detail, and no position; also where nothing else was read, or they come first."""
    bad = [Quarantined(row_id="f:9", reason="bad_json", detail="line 3")]
    _, alone = written(tmp_path, lambda file: file.unreadable(bad))
    assert alone.to_pylist()[0] | {"row_id": "f:9", "step": "read", "kind": "quarantine"} == alone.to_pylist()[0]

    def feed(file):
        file.unreadable(bad)
        ran(file, rows(0, 2), odd())

    _, both = written(tmp_path, feed)
    assert both["position"].to_pylist() == [None, 0, 1]
    assert both["detail"].to_pylist() == ["line 3", None, None]
    assert both["toy.value"].to_pylist() == [None, 0, 1]


def test_a_later_stage_tells_of_what_went(tmp_path):
    """Rows that drop lists name have their survivors, by position; without steps that measure, others have no row."""
    import numpy as np

    lost = Removal(kind="duplicate", reason="twin", step="twins")

    def feed(file):
        part = rows(5, 8)
        file.removed([(part.slice(2), lost, np.array([[3, 4]])), (part.slice(0, 1), lost, np.array([[1, 2]]))])
        ran(file, rows(10, 12))

    _, table = written(tmp_path, feed, corpus=False)
    assert table["position"].to_pylist() == [5, 7]
    assert table["survivor_split"].to_pylist() == [1, 3]
    assert table["survivor_position"].to_pylist() == [2, 4]
    assert table["row_id"].null_count == 2
    assert written(tmp_path, lambda file: ran(file, rows(0, 3)), corpus=False) == (None, None)


def test_a_signal_that_changes_its_type(tmp_path):
    """Numbers that no longer fit the type of the first batch are a StepError that names the signal."""

    def feed(file):
        ran(file, rows(0, 2), odd(pa.int8()))
        ran(file, rows(1000, 1002), odd())

    with pytest.raises(StepError, match=r"toy\.value"):
        written(tmp_path, feed)


STEP = """
import pyarrow as pa
import pyarrow.compute as pc
from datapipe.steps import declares

@declares(reasons=("shouting",), signals=("mine.marks", "mine.cats"), counters=("mine.cats",))
def calm(table):
    marks = pc.count_substring(table["text"], "!")
    table = table.append_column("mine.marks", marks)
    table = table.append_column("mine.cats", pc.count_substring(table["text"], "cat"))
    loud = pc.greater(marks, 2)
    return table.append_column("drop_reason", pc.if_else(loud, "shouting", pa.scalar(None, pa.string())))
"""


def test_a_step_of_ones_own_is_accounted_for(tmp_path):
    """Its signals are stored, its counters summed over all rows and told; a second run changes nothing."""
    (tmp_path / "steps.py").write_text(STEP)
    (tmp_path / "in").mkdir()
    texts = ["a cat and a cat", "no!!! cat", "dog"]
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = {"name": "own", "steps": ["decode", f"{tmp_path / 'steps.py'}:calm"]}
    made = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    assert made.counters == {"mine.cats": 3}
    assert made.dropped == {"shouting": 1}
    dataset = open_dataset(str(tmp_path / "out"))
    assert "mine.marks" not in dataset.schema.names
    (entry,) = dataset.manifest.index
    table = pq.read_table(tmp_path / "out" / entry.file.path)
    assert table["mine.marks"].to_pylist() == [0, 3, 0]
    assert table["mine.cats"].to_pylist() == [2, 1, 0]
    assert table["reason"].to_pylist() == [None, "shouting", None]
    assert verify_dataset(str(tmp_path / "out")).ok
    assert "mine.cats" in (tmp_path / "out" / "report.html").read_text()
    found = explain(tmp_path / "out", "in/a.jsonl:0")
    assert (found.outcome, found.steps[-1].signals) == ("kept", {"mine.marks": 0, "mine.cats": 2})
    again = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    assert (again.tasks_run, again.counters) == (0, made.counters)
