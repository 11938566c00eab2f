"""The work folder: a task is done if its record and every byte it wrote are there, and only then."""

from pathlib import Path

import pytest

from datapipe.preprocess.tasks import Reject, StepCost, TaskRecord
from datapipe.preprocess.work import WorkFolder
from datapipe.storage import open_store

KEY = "0123456789abcdef" * 2


@pytest.fixture(params=["local", "memory"])
def work(request, tmp_path):
    url = str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out"
    return WorkFolder(open_store(url))


def finished(work, data=b"rows and rows"):
    file = work.put_bytes("rows", KEY, data)
    record = TaskRecord(
        key=KEY, stage="clean", split=3, seconds=0.5, files={"rows": file}, rows_in=4, rows_out=1,
        dropped={"short": 2}, quarantined={"not_text": 1}, lists={"3": (0, 2, "ab")}, shard={"path": "é"},
        steps=(StepCost(name="x", rows_in=1, rows_out=1, bytes_in=1, cpu_seconds=0.1),),
        rejects=(Reject(rank=1, row_id="a", reason="short", step="x", excerpt="\u2028"),),
        first_bad=Reject(rank=2, row_id="b", reason="not_text", step="x", excerpt=""),
    )  # fmt: skip
    work.finish(record)
    return record


def test_a_record_comes_back_whole(work):
    """What was stored is what is read."""
    assert work.done(KEY) is None
    record = finished(work)
    assert work.done(KEY) == record


def test_a_file_written_from_scratch_space_is_stored(work):
    """A scratch file becomes the output, and nothing is left of it."""
    with work.scratch_file("rows") as path:
        Path(path).write_bytes(b"12345")
        stored = work.put_file("rows", KEY, path)
    assert work.store.read(stored.path) == b"12345"
    assert stored.bytes == 5
    assert [e.path for e in work.store.list("_work/scratch")] == []


@pytest.mark.parametrize("change", [b"", b"rows and row", b"rows and rowz", b"rows and rows!", None])
def test_an_output_that_changed_is_done_again(work, change):
    """Cut short, grown, altered or gone: the record no longer counts."""
    finished(work)
    path = f"_work/rows/{KEY}.rows"
    work.store.delete(path) if change is None else work.store.put(path, change)
    assert work.done(KEY) is None


def test_a_record_that_changed_is_none(work):
    """Cut anywhere, altered, or under another key: not done."""
    finished(work)
    path = f"_work/records/{KEY}.json"
    whole = work.store.read(path)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        work.store.put(path, whole[:cut])
        assert work.done(KEY) is None
    for wrong in (b"[]", b"null", b'{"check": 1}', whole.replace(b'"rows_in": 4', b'"rows_in": 5'), b"\xff\xfe"):
        work.store.put(path, wrong)
        assert work.done(KEY) is None
    work.store.put(f"_work/records/{'f' * 32}.json", whole)
    assert work.done("f" * 32) is None
    work.store.put(path, whole)
    assert work.done(KEY) is not None


def test_pruning_keeps_what_is_named(work):
    """Records and files of the plan stay, all else of the work folder goes, and nothing outside of it."""
    record = finished(work)
    work.put_bytes("rows", "a" * 32, b"old")
    work.store.put("data/part.parquet", b"x")
    work.prune([record], files=["_work/tokenizer/t"])
    assert [e.path for e in work.store.list()] == [
        f"_work/records/{KEY}.json", f"_work/rows/{KEY}.rows", "data/part.parquet",
    ]  # fmt: skip
    work.discard()
    assert [e.path for e in work.store.list()] == ["data/part.parquet"]
