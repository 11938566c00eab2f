"""What tells of a run is of the run that published."""

import json

import pytest

import datapipe
from datapipe.dataset import open_dataset
from datapipe.preprocess.publishing import RUN
from datapipe.preprocess.run_files import tells_of
from datapipe.preprocess.run_report import REPORT


def test_a_report_is_not_left_of_an_earlier_dataset(tmp_path, monkeypatch):
    """A run is killed after it has published; the next has no task to do, and tells of the dataset that is there."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "aab"))
    out = tmp_path / "out"
    datapipe.preprocess(tmp_path / "in", out, {"steps": ["decode"]}, 0)
    before = (out / REPORT).read_text()
    recipe = {"steps": ["decode", "exact_duplicates"]}

    def killed(*_):
        raise KeyboardInterrupt

    for moment in ("put_sources", "put_in_place"):
        with monkeypatch.context() as patch:
            patch.setattr(f"datapipe.preprocess.run.{moment}", killed)
            with pytest.raises(KeyboardInterrupt):
                datapipe.preprocess(tmp_path / "in", out, recipe, 0)
    assert (out / REPORT).read_text() == before
    assert datapipe.preprocess(tmp_path / "in", out, recipe, 0).tasks_run == 0
    assert "exact_duplicates" in (out / REPORT).read_text()
    assert json.loads((out / RUN).read_text())["duplicates"] == 1
    again = (out / REPORT).read_text()
    datapipe.preprocess(tmp_path / "in", out, recipe, 0)
    assert (out / REPORT).read_text() == again
    opened = open_dataset(str(out))
    assert tells_of(opened.store, opened.manifest)
    for damage in (b"", b"[]", b'{"fingerprint": 3}'):
        (out / RUN).write_bytes(damage)
        assert not tells_of(opened.store, opened.manifest)
