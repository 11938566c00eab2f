"""The cache of one process: what it keeps, and all that may be wrong with a disk."""

import contextlib
import errno
import os
import pickle
import re
import warnings
from pathlib import Path

import pytest

from datapipe.errors import ConfigError
from datapipe.storage import cache as cache_module
from datapipe.storage import cache_entry
from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import entry_name
from tests.storage.cache_contents import names, put


@contextlib.contextmanager
def unwarned():
    """A warning in here is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(autouse=True)
def _warned_anew(monkeypatch):
    monkeypatch.setattr(cache_module, "_warned", set())


def test_what_was_stored_is_what_is_given(cache):
    put(cache, "a", b"hello")
    assert cache.lookup(entry_name("a")).buffer.to_pybytes() == b"hello"
    put(cache, "empty", b"")
    assert cache.lookup(entry_name("empty")).buffer.to_pybytes() == b""
    assert cache.stats() == {
        "hits": 2, "misses": 2, "bytes": 5, "written": 5, "evictions": 0, "damaged": 0, "waits": 0, "refused": 0,
    }  # fmt: skip


def test_it_is_there_for_the_next_process_and_the_next_object(cache):
    put(cache, "a", b"hello")
    other = pickle.loads(pickle.dumps(cache))
    assert (other.path, other.max_bytes, other.content, other.verify) == (cache.path, 10**6, "decoded", "once")
    assert other.lookup(entry_name("a")).buffer.to_pybytes() == b"hello"


def test_what_is_mapped_outlives_its_entry_and_the_cache(tmp_path):
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, "a", b"y" * 100_000)
    found = cache.lookup(entry_name("a"))
    cache.discard(entry_name("a"))
    del cache
    assert found.buffer.to_pybytes() == b"y" * 100_000


def test_mapped_entries_take_no_descriptors(cache):
    """As many may be in use as there is room for, not as there are descriptors."""
    put(cache, "a")
    first = cache.lookup(entry_name("a"))
    before = len(names("/dev/fd"))
    held = [cache.lookup(entry_name("a")) for _ in range(3000)]  # more than there are slots for leases, too
    assert len(names("/dev/fd")) == before
    assert len(held) == 3000
    del first


def test_a_claim_that_is_dropped_is_given_back(cache):
    """An error between asking and storing leaves no lock and no file."""
    claim = cache.lookup(entry_name("a"))
    assert names(Path(cache.path) / "entries") == [entry_name("a") + ".part"]
    del claim
    assert names(Path(cache.path) / "entries") == []


def test_clearing_takes_what_a_killed_process_had_half_written(cache):
    """An erasure empties it: bytes of the row may be in a part that nobody is at any more."""
    entries = Path(cache.path) / "entries"
    claim = cache.lookup(entry_name("b"))
    (entries / (entry_name("a") + ".part")).write_bytes(b"PLANTED")
    cache.clear()
    assert names(entries) == [entry_name("b") + ".part"]
    del claim


def test_a_payload_of_another_length_than_promised_is_never_seen(cache):
    found = cache.lookup(entry_name("a"))
    with pytest.raises(ValueError, match="promised"):
        found.store(10, lambda file: file.write(b"short"))
    assert names(Path(cache.path) / "entries") == []
    assert cache.nbytes() == 0


def test_no_descriptor_is_left_behind(tmp_path):
    before = len(names("/dev/fd"))
    cache = Cache(tmp_path / "c", 40_960)
    for key in range(30):
        put(cache, key)
        cache.lookup(entry_name(key))
    del cache
    assert len(names("/dev/fd")) == before


def test_a_bad_sector_is_damage_and_no_error(cache, monkeypatch):
    put(cache, "a")

    real = os.pread

    def refuse(fd, size, at):
        if at:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, size, at)

    other = Cache(cache.path, "1 MB")
    with monkeypatch.context() as patched, unwarned():
        patched.setattr(os, "pread", refuse)
        put(other, "a")
    assert other.stats()["damaged"] == 1
    assert isinstance(other.lookup(entry_name("a")), CachedBytes)


def test_a_full_disk_means_one_warning_and_no_cache(tmp_path, monkeypatch):
    """What is there is still given; nothing is raised, and nothing half-written stays."""
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, "a")
    real = os.pwrite

    def full(fd, data, at):
        if at >= cache_entry.HEADER and len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        put(cache, "b")
    with unwarned():
        put(cache, "c")
        put(Cache(tmp_path / "c", "1 MB"), "d")
    assert names(tmp_path / "c/entries") == [entry_name("a")]
    assert isinstance(cache.lookup(entry_name("a")), CachedBytes)
    assert cache.nbytes() == 4096


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOLCK])
def test_a_disk_that_cannot_be_written_means_one_warning_and_no_cache(tmp_path, monkeypatch, code):
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, "a")
    real = os.open

    def refuse(path, flags, *rest, **more):
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(code, os.strerror(code))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    other = Cache(tmp_path / "c", "1 MB")
    with unwarned():
        assert isinstance(other.lookup(entry_name("a")), CachedBytes)
    with pytest.warns(RuntimeWarning, match=re.escape(os.strerror(code))):
        put(other, "b")
    with unwarned():
        put(other, "c")
    assert other.stats()["hits"] == 1


def test_a_folder_that_cannot_be_made_means_one_warning_and_no_cache(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        cache = Cache(tmp_path / "c", "1 MB")
    with unwarned():
        Cache(tmp_path / "c", "1 MB")
        put(cache, "a")
        put(cache, "a")
    assert cache.stats()["misses"] == 2
    assert cache.nbytes() == 0


def test_too_many_open_files_pass(cache, monkeypatch):
    """It is not the disk's fault: the next entry is written again, and nothing is taken for damaged."""
    put(cache, "a")
    with monkeypatch.context() as patched, unwarned():

        def refuse(*_, **__):
            raise OSError(errno.EMFILE, "Too many open files")

        patched.setattr(os, "open", refuse)
        put(cache, "a")
        put(cache, "b")
    assert cache.stats()["damaged"] == 0
    assert isinstance(cache.lookup(entry_name("a")), CachedBytes)
    put(cache, "b")
    assert isinstance(cache.lookup(entry_name("b")), CachedBytes)


def test_the_folder_may_be_deleted_at_any_time(cache):
    import shutil

    put(cache, "a")
    found = cache.lookup(entry_name("a"))
    shutil.rmtree(cache.path)
    assert found.buffer.to_pybytes() == b"x" * 1000
    with contextlib.suppress(RuntimeWarning), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        put(cache, "a")
        put(cache, "b")


@pytest.mark.parametrize("wrong", [{"content": "zipped"}, {"verify": "never"}, {"max_bytes": "lots"}])
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Cache(tmp_path / "c", **wrong)
    assert not (tmp_path / "c").exists()


def test_without_a_limit_half_of_what_is_free_is_the_limit(tmp_path):
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    assert 0.3 * free < Cache(tmp_path / "c").max_bytes < 0.7 * free
