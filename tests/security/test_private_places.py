"""What others can see and set in shared places: caches, scratch folders, files on their way, links that wait."""

import os
import stat
import warnings
from pathlib import Path
from unittest import mock

import pytest

from datapipe.dataset.manifest import safe_path
from datapipe.errors import AccessError, ConfigError, DatapipeError, OutputError
from datapipe.preprocess import preprocess
from datapipe.preprocess.work import WorkFolder
from datapipe.profiling.profile_file import write_whole
from datapipe.storage import open_store, plain_http
from datapipe.storage.cache import Cache
from datapipe.storage.private import private_folder


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_scratch_is_this_users_alone(tmp_path):
    """It is made 0700, closed where it was open, and what is another's is refused, a link of his too."""
    made = private_folder(str(tmp_path / "a" / "b"))
    assert mode(made) == 0o700
    Path(made).chmod(0o777)
    assert mode(private_folder(made)) == 0o700
    (tmp_path / "mine").symlink_to(made)
    assert private_folder(str(tmp_path / "mine")) == str(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        private_folder(str(tmp_path / "file"))
    with mock.patch("os.geteuid", return_value=os.geteuid() + 1):
        for path in (made, str(tmp_path / "mine")):
            with pytest.raises(AccessError, match="another user"):
                private_folder(path)

    work = WorkFolder(open_store(str(tmp_path / "out")))
    with work.scratch_file("part") as local:
        assert mode(local) == 0o600
        assert mode(Path(local).parent) == 0o700


def test_the_cache_is_this_users_alone(tmp_path):
    """Folder 0700, entries 0600; another's folder and a link are refused, and one open to all is closed."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    Cache(folder, "1 MB")
    assert mode(folder) == 0o700
    assert all(not mode(path) & 0o077 for path in folder.rglob("*"))
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="link"):
        Cache(tmp_path / "link", "1 MB")
    with mock.patch("os.geteuid", return_value=os.geteuid() + 1), pytest.raises(ConfigError, match="belongs to"):
        Cache(folder, "1 MB")


def test_links_that_lie_in_wait_are_not_written_through(tmp_path):
    """A lock that is a link ends the run; a report replaces a link, and has no name that could be foreseen."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "in.txt").write_text("some text")
    out = tmp_path / "out"
    (out / "_work").mkdir(parents=True)
    (out / "_work" / "work.json").write_text('{"format": "datapipe-work"}\n')
    (out / "_work" / "lock").symlink_to(victim)
    with pytest.raises(DatapipeError):
        preprocess(str(tmp_path / "in.txt"), str(out), recipe={"name": "x", "steps": ["decode"]}, workers=0)
    assert victim.read_text() == "precious"

    run = tmp_path / "run"
    run.mkdir()
    (run / f".profile.json.{os.getpid()}").symlink_to(victim)
    (run / "profile.json").symlink_to(victim)
    assert write_whole(run / "profile.json", b"{}").read_bytes() == b"{}"
    assert victim.read_text() == "precious"
    with mock.patch("secrets.token_hex", return_value="known"):
        (run / ".profile.json.known").symlink_to(victim)
        with pytest.raises(DatapipeError):
            write_whole(run / "profile.json", b"{}")
    assert victim.read_text() == "precious"


def test_an_output_that_is_a_link_to_a_file_or_to_others_files_is_refused(tmp_path):
    """A run writes into its own folder, or one that is empty."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("precious")
    (tmp_path / "in.txt").write_text("some text")
    (tmp_path / "file").symlink_to(tmp_path / "theirs" / "thesis.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "theirs")
    for output in ("file", "folder"):
        with pytest.raises(OutputError):
            preprocess(str(tmp_path / "in.txt"), str(tmp_path / output), recipe={"steps": ["decode"]}, workers=0)
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == ["thesis.txt"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "", "C:/x", "C:\\x", "..\\x", "s3://b/x", "file:///x",
        "a\0b", "memory://x", "http:x",
    ],
)  # fmt: skip
def test_no_path_of_a_manifest_leaves_its_folder(path):
    """Absolute, upwards, with a drive, a scheme or a NUL: refused before anything is opened."""
    with pytest.raises(ValueError):
        safe_path(path)


def test_plain_http_is_warned_of_once(monkeypatch):
    """Elsewhere than on this machine, with nothing secret in the words; https and loopback pass."""
    pytest.importorskip("fsspec")
    monkeypatch.setattr(plain_http, "_told", set())
    with pytest.warns(UserWarning, match="plain HTTP") as told:
        open_store("http://user:hunter2@data.example/x?X-Amz-Signature=abcdef")
    assert "hunter2" not in str(told[0].message)
    assert "abcdef" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_store("http://data.example/y")
        open_store("https://other.example/y")
        for host in ("127.0.0.1:80", "localhost", "[::1]:9000"):
            open_store(f"http://{host}/z")
