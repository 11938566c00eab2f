from __future__ import annotations

import errno
import json

import pytest

from datapipe.errors import NoSpaceError, ProfileError
from datapipe.profiling import load_profile, profile_file
from datapipe.profiling.analysis import summarise
from datapipe.profiling.profile_file import save_profile


@pytest.fixture
def saved(tmp_path, steady_run):
    summary = summarise(steady_run(memory=((0.0, 10), (0.5, 20)), environment={"python": "3"}, notes={"a": 1.5}))
    return summary, save_profile(summary, tmp_path / "run")


def test_what_is_saved_is_what_is_read(saved):
    """By the folder's name or the file's; plain JSON that says its format and version."""
    summary, path = saved
    assert load_profile(path) == load_profile(path.parent) == summary
    data = json.loads(path.read_text())
    assert (data["format"], data["version"]) == ("datapipe-profile", 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "not JSON"),
        (lambda raw: b"", "not JSON"),
        (lambda raw: b"\xff\xfe\x00", "not JSON"),
        (lambda raw: b"[1, 2]", "not a profile"),
        (lambda raw: b'{"format": "other"}', "not a profile"),
        (lambda raw: raw.replace(b'"version":1', b'"version":99'), "version 99"),
        (lambda raw: raw.replace(b'"wall_ns":', b'"wall":'), "wall_ns"),
        (lambda raw: raw.replace(b'"lost":0', b'"lost":"many"'), "recorder.lost"),
        (lambda raw: raw.replace(b'"number":[0,', b'"number":['), "differ in length"),
        (lambda raw: b"[" * 200_000, "not JSON"),
    ],
)
def test_a_damaged_file_is_a_profile_error(saved, damage, message):
    _, path = saved
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ProfileError, match="datapipe profile"):
        load_profile(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    """A full disk is said to be full, and what was there stays."""
    summary, path = saved
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(profile_file.Path, "replace", full)
    with pytest.raises(NoSpaceError):
        save_profile(summary, path.parent)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]
