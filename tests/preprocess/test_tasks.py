"""Tasks and records: keys that name all they depend on, records that survive JSON, reprs without credentials."""

import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from datapipe.preprocess.tasks import MapTask, OutputFile, Place, Reject, StepCost, TaskRecord, record_from, task_key

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
COUNT = st.integers(0, 2**53)
RECORDS = st.builds(
    TaskRecord,
    key=TEXT,
    stage=TEXT,
    split=COUNT,
    seconds=st.floats(0, 1e6),
    files=st.dictionaries(TEXT, st.builds(OutputFile, path=TEXT, bytes=COUNT, checksum=TEXT), max_size=2),
    rows_in=COUNT,
    dropped=st.dictionaries(TEXT, COUNT, max_size=3),
    steps=st.lists(
        st.builds(StepCost, name=TEXT, rows_in=COUNT, rows_out=COUNT, bytes_in=COUNT, cpu_seconds=st.floats(0, 1e6)),
        max_size=2,
    ).map(tuple),
    rejects=st.lists(
        st.builds(Reject, rank=COUNT, row_id=TEXT, reason=TEXT, step=TEXT, excerpt=TEXT, detail=TEXT), max_size=2
    ).map(tuple),
    lists=st.dictionaries(TEXT, st.tuples(COUNT, COUNT, TEXT), max_size=2),
)


@given(RECORDS)
def test_a_record_survives_json(record):
    """What is written of a record is read as the same record."""
    assert record_from(json.loads(json.dumps(record.as_dict()))) == record


def test_a_key_changes_with_all_it_depends_on(monkeypatch):
    """What is done, to what, by which code."""
    keys = {task_key("do", ["a"]), task_key("did", ["a"]), task_key("do", ["b"]), task_key("do", [["a"]])}
    monkeypatch.setattr("datapipe.preprocess.tasks.code_version", lambda: "2; another library")
    keys.add(task_key("do", ["a"]))
    assert len(keys) == 5
    assert all(len(key) == 32 for key in keys)


def test_no_repr_holds_a_credential():
    """Dask prints a failed task's arguments: url and options of stores are left out."""
    secret = {"key": "AKIA", "secret": "hunter2"}
    task = MapTask(
        key="k", stage=0, name="clean", split=0, bytes=1, output=Place(url="s3://u:hunter2@b", options=secret), seed=0,
        steps=(), writes=(), input_options=secret,
    )  # fmt: skip
    assert "hunter2" not in repr(task)
    assert pickle.loads(pickle.dumps(task)) == task
