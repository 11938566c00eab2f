"""One entry: its name, its layout, and that a change of any byte of it is found."""

import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import entry_name
from tests.storage.cache_contents import put


def test_payloads_are_aligned_for_vector_loads(cache):
    put(cache, "a")
    assert cache.lookup(entry_name("a")).buffer.address % 64 == 0


def entry_bytes():
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(folder, "1 MB")
        put(cache, "a", bytes(range(200)))
        return (Path(folder) / "entries" / entry_name("a")).read_bytes()


def test_a_change_of_any_byte_is_found(tmp_path):
    """Header, padding and payload: the entry is fetched anew, and counted."""
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, "a", bytes(range(200)))
    path = tmp_path / "c/entries" / entry_name("a")
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        put(Cache(tmp_path / "c", "1 MB"), "a", bytes(range(200)))
        assert path.read_bytes() == good
    assert cache.lookup(entry_name("a")).buffer.to_pybytes() == bytes(range(200))


@given(cut=st.integers(0, 300), more=st.binary(max_size=40))
def test_a_change_of_length_is_found(cut, more):
    good = entry_bytes()
    bad = good[:cut] + more
    if bad == good:
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(folder, "1 MB")
        (Path(folder) / "entries" / entry_name("a")).write_bytes(bad)
        put(cache, "a")
        assert cache.stats()["damaged"] == 1


def test_damage_since_it_was_checked_is_found_in_the_same_process(cache):
    put(cache, "a", b"x" * 5000)
    assert isinstance(cache.lookup(entry_name("a")), CachedBytes)
    with (Path(cache.path) / "entries" / entry_name("a")).open("r+b") as file:
        file.seek(3000)
        file.write(b"!")
    put(cache, "a", b"x" * 5000)
    assert cache.stats()["damaged"] == 1


def test_always_means_each_time(tmp_path):
    """Damage that hides (length and time of change as before) is found where each use is checked."""
    cache = Cache(tmp_path / "c", "1 MB", verify="always")
    put(cache, "a", b"x" * 5000)
    path = tmp_path / "c/entries" / entry_name("a")
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(3000)
        file.write(b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    put(cache, "a", b"x" * 5000)
    assert cache.stats()["damaged"] == 1


def test_another_entrys_bytes_under_a_name_are_damage(cache):
    put(cache, "a")
    put(cache, "b")
    folder = Path(cache.path) / "entries"
    (folder / entry_name("a")).replace(folder / entry_name("b"))
    put(cache, "b")
    assert cache.stats()["damaged"] == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_is_replaced(cache, make):
    """A named pipe would wait for its writer; a link leads elsewhere."""
    path = Path(cache.path) / "entries" / entry_name("a")
    make(path)
    put(cache, "a")
    assert cache.lookup(entry_name("a")).buffer.to_pybytes() == b"x" * 1000
    assert path.is_file()
    assert not path.is_symlink()


@given(parts=st.lists(st.text(st.characters(exclude_categories=[])), max_size=4))
def test_names_are_digests_whatever_they_are_of(parts):
    assert re.fullmatch("[0-9a-f]{40}", entry_name(*parts))
    assert entry_name(*parts) != entry_name(*parts, "")


def test_parts_of_a_name_do_not_run_together():
    assert entry_name("ab", "c") != entry_name("a", "bc")
