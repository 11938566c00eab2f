"""What goes when there is no room: the account of bytes is kept, and what is in use stays."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import charged, entry_name
from datapipe.storage.cache_room import FEW, SLACK
from tests.storage.cache_contents import has, names, put


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
