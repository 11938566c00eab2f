"""Listings: links, loops, and folders that may not be read."""

import errno
import os
import subprocess

import pytest

from datapipe.errors import AccessError
from datapipe.storage import open_store


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def store(root):
    return open_store(str(root))


def names(store):
    return [entry.path for entry in store.list()]


class TestLinks:
    @pytest.fixture
    def linked(self, root, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"s")
        (root / "in").mkdir(parents=True)
        (root / "in" / "file").write_bytes(b"1")
        (root / "to-file").symlink_to(root / "in" / "file")
        (root / "to-folder").symlink_to(root / "in")
        (root / "out-file").symlink_to(outside / "secret")
        (root / "out-folder").symlink_to(outside)
        (root / "broken").symlink_to(root / "nothing")
        (root / "in" / "loop").symlink_to(root)
        (root / "itself").symlink_to(root / "itself")
        return root

    def test_a_listing_holds_what_lies_in_the_folder(self, linked, store):
        """Links out of the folder and links to folders are passed over, with a reason each; loops end."""
        entries, passed_over = store.survey()
        assert [entry.path for entry in entries] == ["in/file", "to-file"] == names(store)
        assert dict(passed_over) == {
            "broken": "broken_link",
            "in/loop": "link_to_folder",
            "itself": "broken_link",
            "out-file": "link_out_of_folder",
            "out-folder": "link_to_folder",
            "to-folder": "link_to_folder",
        }

    def test_links_are_followed_on_request(self, linked):
        """With follow_symlinks all they lead to is listed, and a loop is entered no second time."""
        store = open_store(str(linked), storage_options={"follow_symlinks": True})
        entries, passed_over = store.survey()
        assert {"in/file", "to-file", "out-file", "out-folder/secret", "to-folder/file"} <= {e.path for e in entries}
        assert ("in/loop", "link_to_folder_above") in passed_over
        assert len(entries) == len({entry.path for entry in entries})

    def test_a_named_path_is_followed(self, linked, store):
        """Who names a link means what it leads to, as with every tool."""
        assert store.read("out-file") == b"s"

    def test_a_put_replaces_the_link_itself(self, linked, store, tmp_path):
        store.put("out-file", b"mine")
        assert (tmp_path / "outside" / "secret").read_bytes() == b"s"
        assert store.read("out-file") == b"mine"

    def test_a_root_that_is_a_link(self, tmp_path, linked):
        """The root itself may be a link: it was named."""
        (tmp_path / "alias").symlink_to(linked)
        assert names(open_store(str(tmp_path / "alias"))) == ["in/file", "to-file"]


def test_an_unreadable_folder(store, root, monkeypatch):
    """`list` raises, since a reader would else miss objects; `survey` accounts for it and goes on."""
    store.put("a/x", b"1")
    store.put("b/x", b"1")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(AccessError):
        names(store)
    entries, passed_over = store.survey()
    assert [entry.path for entry in entries] == ["b/x"]
    assert passed_over == [("a", "unreadable_folder")]


@pytest.mark.parametrize("follow", [False, True])
def test_folders_deeper_than_calls_go(root, follow):
    """1,200 folders one in another are listed like any others."""
    folder = root
    for _ in range(1200):
        folder = folder / "d"
        folder.mkdir(parents=True)
    (folder / "x").write_bytes(b"1")
    store = open_store(str(root), storage_options={"follow_symlinks": follow})
    try:
        assert names(store) == ["d/" * 1200 + "x"]
    finally:
        # Python's own rmtree, with which pytest cleans up, cannot go so deep.
        subprocess.run(["rm", "-rf", str(root / "d")], check=True)
