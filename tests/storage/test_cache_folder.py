"""A cache's folder: closed to others, and none but a cache's own is taken for one."""

import os

import pytest

from datapipe.errors import ConfigError
from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import entry_name
from tests.storage.cache_contents import names, put


def test_the_folder_is_closed_to_others(tmp_path):
    os.umask(os.umask(0o022))
    Cache(tmp_path / "deep" / "c", "1 MB")
    (tmp_path / "mine").mkdir(mode=0o755)
    Cache(tmp_path / "mine", "1 MB")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("deep/c", "mine")] == [0o700, 0o700]
    (tmp_path / "mine").chmod(0o777)
    cache = Cache(tmp_path / "mine", "1 MB")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    put(cache, "a")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "mine").rglob("*")} == {0}


def test_another_users_folder_is_refused(tmp_path, monkeypatch):
    """What it holds would be taken for rows."""
    Cache(tmp_path / "c", "1 MB")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="belongs to user"):
        Cache(tmp_path / "c", "1 MB")


def test_a_link_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="link"):
        Cache(tmp_path / "c", "1 MB")
    assert names(tmp_path / "elsewhere") == []


def test_a_link_put_in_the_folders_place_later_leads_nowhere(tmp_path):
    """Everything goes by the descriptor of the folder that was checked."""
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, "a")
    (tmp_path / "c").rename(tmp_path / "moved")
    (tmp_path / "elsewhere/entries").mkdir(parents=True)
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    put(cache, "b")
    assert names(tmp_path / "elsewhere/entries") == []
    assert isinstance(cache.lookup(entry_name("a")), CachedBytes)


@pytest.mark.parametrize("place", ["file", "file/c"])
def test_a_file_in_the_folders_place_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="a file"):
        Cache(tmp_path / place, "1 MB")


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        Cache(tmp_path, "1 MB")
    assert names(tmp_path) == ["thesis.tex"]


def test_a_cache_of_another_layout_is_refused(tmp_path):
    Cache(tmp_path / "c", "1 MB")
    (tmp_path / "c/datapipe-cache").write_text("2\n")
    with pytest.raises(ConfigError, match="layout '2'"):
        Cache(tmp_path / "c", "1 MB")
