"""The cache of one process: what it keeps, what goes, and all that may be wrong with a disk."""

import contextlib
import errno
import os
import pickle
import re
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.storage import cache as cache_module
from datapipe.storage import cache_entry
from datapipe.storage.byte_count import byte_count
from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import charged, entry_name
from datapipe.storage.cache_room import FEW, SLACK


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def put(cache, key, data=b"x" * 1000):
    found = cache.lookup(entry_name(key))
    assert not isinstance(found, CachedBytes)
    found.store(len(data), lambda file: file.write(data))


def has(cache, key):
    return (Path(cache.path) / "entries" / entry_name(key)).exists()


@contextlib.contextmanager
def unwarned():
    """A warning in here is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(autouse=True)
def _warned_anew(monkeypatch):
    monkeypatch.setattr(cache_module, "_warned", set())


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "c", "1 MB")


# What it keeps


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


def test_payloads_are_aligned_for_vector_loads(cache):
    put(cache, "a")
    assert cache.lookup(entry_name("a")).buffer.address % 64 == 0


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


# What goes


def test_the_least_recently_used_goes_first(tmp_path):
    cache = Cache(tmp_path / "c", 4 * 4096)
    for key in "abcd":
        put(cache, key)
    for key in "acb":
        cache.lookup(entry_name(key))
    gone = []
    for new in range(4):
        put(cache, new)
        gone += [key for key in "abcd" if not has(cache, key) and key not in gone]
    assert gone == ["d", "a", "c", "b"]


def test_what_is_in_use_stays_and_what_has_no_room_is_refused(tmp_path):
    cache = Cache(tmp_path / "c", 2 * 4096)
    put(cache, "a")
    put(cache, "b")
    held = [cache.lookup(entry_name(key)) for key in "ab"]
    put(cache, "c")
    assert (has(cache, "a"), has(cache, "b"), has(cache, "c")) == (True, True, False)
    assert cache.stats()["refused"] == 1
    held.clear()
    put(cache, "c")
    assert (has(cache, "a"), has(cache, "c")) == (False, True)


def test_an_entry_larger_than_the_limit_evicts_nothing(tmp_path):
    cache = Cache(tmp_path / "c", 2 * 4096)
    put(cache, "a")
    put(cache, "b", b"x" * 10_000)
    assert has(cache, "a")
    assert cache.stats()["refused"] == 1


def test_the_count_of_bytes_mends_itself(tmp_path):
    """A count that is lost, damaged or far too high costs a scan of the folder, never an entry too many."""
    for broken in (b"", b"garbage that is long enough", (1 << 40).to_bytes(8, "little") * 2):
        cache = Cache(tmp_path / "c", 4 * 4096)
        for key in "abc":
            found = cache.lookup(entry_name(key))
            if not isinstance(found, CachedBytes):
                found.store(1000, lambda file: file.write(b"x" * 1000))
        (tmp_path / "c/room").write_bytes(broken)
        put(cache, broken)
        assert cache.nbytes() == 4 * 4096
        assert cache.stats()["evictions"] == 0
        cache.discard(entry_name(broken))


SIZES = dict(enumerate([0, 100, 4032, 4033, 9000, 20_000, 40_000, 70_000]))
STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "want", "want", "hold", "let go", "reopen"]), st.sampled_from(sorted(SIZES))),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, limit=st.integers(1, 30))
def test_the_account_is_that_of_a_model(steps, limit):
    """Hits, misses, evictions, refusals, and what is in the folder: as a few lines say that they should be."""
    limit *= 4096
    used: dict[int, None] = {}  # least recently used first
    held: dict[int, CachedBytes] = {}
    expected = dict.fromkeys(("hits", "misses", "evictions", "refused"), 0)
    sizes = {key: charged(64 + size) for key, size in SIZES.items()}
    assert len(SIZES) < FEW
    assert SLACK
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(folder, limit)
        for what, key in steps:
            if what == "let go":
                held.pop(key, None)
            elif what == "reopen":
                counts = cache.stats()
                cache = Cache(folder, limit)
                cache._counts.update(counts)
            else:
                found = cache.lookup(entry_name(key))
                assert isinstance(found, CachedBytes) == (key in used)
                if key in used:
                    expected["hits"] += 1
                    assert found.buffer.to_pybytes() == bytes([key]) * SIZES[key]
                    used[key] = used.pop(key)
                    if what == "hold":
                        held[key] = found
                else:
                    expected["misses"] += 1
                    data = bytes([key]) * SIZES[key]
                    found.store(len(data), lambda file, data=data: file.write(data))
                    taken = sum(sizes[each] for each in used)
                    if sizes[key] <= limit:
                        for each in list(used):
                            if taken + sizes[key] > limit and each not in held:
                                used.pop(each)
                                taken -= sizes[each]
                                expected["evictions"] += 1
                    if taken + sizes[key] <= limit:
                        used[key] = None
                    else:
                        expected["refused"] += 1
                del found
            there = set(names(Path(folder) / "entries"))
            assert there == {entry_name(each) for each in used}
            assert cache.nbytes() == sum(sizes[each] for each in used) <= limit
            counts = cache.stats()
            assert counts.items() >= expected.items()
        held.clear()
        found = None


def test_of_many_entries_room_for_several_is_made_at_once(tmp_path):
    """A scan for every entry written would make writing n of them cost n²."""
    cache = Cache(tmp_path / "c", 160 * 4096)
    for key in range(161):
        put(cache, key)
    assert cache.stats()["evictions"] == 11  # to a sixteenth below the limit, and one for itself
    for key in range(161, 171):
        put(cache, key)
    assert cache.stats()["evictions"] == 11


# Damage


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


# Disks


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


# Whose folder


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


@given(parts=st.lists(st.text(st.characters(exclude_categories=[])), max_size=4))
def test_names_are_digests_whatever_they_are_of(parts):
    assert re.fullmatch("[0-9a-f]{40}", entry_name(*parts))
    assert entry_name(*parts) != entry_name(*parts, "")


def test_parts_of_a_name_do_not_run_together():
    assert entry_name("ab", "c") != entry_name("a", "bc")


# Arguments


@pytest.mark.parametrize(
    ("written", "count"),
    [(5, 5), ("5", 5), ("20 GB", 20 * 10**9), ("1.5kB", 1500), ("512 MiB", 512 << 20), ("1TiB", 1 << 40), ("3g", 3e9)],
)
def test_sizes_are_read_as_people_write_them(written, count):
    assert byte_count("max_bytes", written) == count


@pytest.mark.parametrize("written", [0, -1, True, 1.5, None, "", "GB", "20 XB", "20 iB", "-1 GB", "0"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ConfigError, match="max_bytes"):
        byte_count("max_bytes", written)


@pytest.mark.parametrize("wrong", [{"content": "zipped"}, {"verify": "never"}, {"max_bytes": "lots"}])
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Cache(tmp_path / "c", **wrong)
    assert not (tmp_path / "c").exists()


def test_without_a_limit_half_of_what_is_free_is_the_limit(tmp_path):
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    assert 0.3 * free < Cache(tmp_path / "c").max_bytes < 0.7 * free


# Maps


def test_what_is_held_is_bounded_and_let_go_when_it_is_evicted(tmp_path):
    """Space that was evicted is free again, but for what is in use."""
    cache = Cache(tmp_path / "c", 64 * 4096)
    for key in range(40):
        put(cache, key, b"x" * 4032)
        cache.lookup(entry_name(key))
    assert mapped_entries(cache) == 16  # a quarter of the limit
    put(cache, "large", b"x" * 60 * 4096)
    assert mapped_entries(cache) <= 3


def mapped_entries(cache):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("there is no /proc here")
    return sum(f"{cache.path}/entries/" in line for line in maps.read_text().splitlines())


def test_a_replaced_file_is_not_served_from_what_is_held(cache):
    put(cache, "a", b"x" * 5000)
    held = cache.lookup(entry_name("a"))
    path = Path(cache.path) / "entries" / entry_name("a")
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good[:-1] + b"!")
    put(cache, "a", b"x" * 5000)
    assert cache.stats()["damaged"] == 1
    assert held.buffer.to_pybytes() == b"x" * 5000
