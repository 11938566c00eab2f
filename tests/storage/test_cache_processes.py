"""Several processes, one cache: who fetches, who waits, and what those leave that are killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from datapipe.storage import cache as cache_module
from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import charged, entry_name
from datapipe.storage.cache_leases import leased, started_at

JOB = Path(__file__).with_name("cache_job.py")


def job(*arguments):
    return subprocess.Popen(
        [sys.executable, str(JOB), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def put(cache, key, size=1000):
    data = bytes([key]) * size
    cache.lookup(entry_name(key)).store(size, lambda file: file.write(data))


def test_however_many_processes_ask_at_once_each_entry_is_fetched_once(tmp_path):
    log = tmp_path / "log"
    jobs = [job("fetch", tmp_path / "c", log) for _ in range(4)]
    for each in jobs:
        assert each.stdout.readline() == "ready\n"
    for each in jobs:
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=120)[0] for each in jobs]
    assert all(text.startswith("done") for text in said)
    assert sorted(log.read_text().split()) == sorted(str(key) for key in range(12))
    assert sum(int(text.split()[1]) for text in said) > 0  # they did meet


def test_threads_of_one_process_fetch_once_too(tmp_path):
    cache, fetched, gate = Cache(tmp_path / "c", "1 MB"), [], threading.Barrier(6)

    def ask():
        gate.wait()
        found = cache.lookup(entry_name("x"))
        if not isinstance(found, CachedBytes):
            fetched.append(1)
            time.sleep(0.1)
            found.store(3, lambda file: file.write(b"abc"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert fetched == [1]
    assert cache.stats()["hits"] == 5


def test_an_entry_whose_writer_was_killed_is_taken_over_by_who_waits_for_it(tmp_path):
    """The kernel ends the lock; the half is never seen, and written anew."""
    writer = job("die_writing", tmp_path / "c")
    assert writer.stdout.readline() == "half\n"
    cache, got = Cache(tmp_path / "c", "1 GB"), []
    waiter = threading.Thread(target=lambda: got.append(cache.lookup(entry_name(1))))
    waiter.start()
    while not cache.stats()["waits"]:
        time.sleep(0.005)
    assert not got
    killed(writer)
    waiter.join(60)
    assert not isinstance(got[0], CachedBytes)
    got[0].store(3, lambda file: file.write(b"new"))
    found = cache.lookup(entry_name(1))
    assert found.buffer.to_pybytes() == b"new"
    assert names(tmp_path / "c/entries") == [entry_name(1)]


def test_half_an_entry_that_nobody_wants_goes_when_room_is_made(tmp_path):
    writer = job("die_writing", tmp_path / "c")
    assert writer.stdout.readline() == "half\n"
    killed(writer)
    cache = Cache(tmp_path / "c", 3 * charged(1064))
    for key in range(2, 6):
        put(cache, key)
    left = names(tmp_path / "c/entries")
    assert entry_name(1) + ".part" not in left
    assert len(left) == 3


def test_a_lease_ends_with_its_process(tmp_path):
    """What a living process uses stays; once it is killed it is like anything else."""
    holder = job("die_holding", tmp_path / "c")
    assert holder.stdout.readline() == "holding\n"
    size = charged(64 + 5001)
    cache = Cache(tmp_path / "c", size + charged(1064))
    put(cache, 2)
    put(cache, 3)
    assert (tmp_path / "c/entries" / entry_name(1)).exists()
    assert not (tmp_path / "c/entries" / entry_name(2)).exists()
    killed(holder)
    cache.lookup(entry_name(3))  # used more recently, if there is nothing to keep the other
    put(cache, 4)
    assert not (tmp_path / "c/entries" / entry_name(1)).exists()
    assert not [name for name in names(tmp_path / "c/leases") if name.startswith(f"{holder.pid}-")]


def test_a_lock_that_a_forked_child_keeps_does_not_keep_a_lease(tmp_path):
    """The pid and the start time in the file's name say that its owner is gone, though its lock is held."""
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, 1)
    found = cache.lookup(entry_name(1))
    root = os.open(tmp_path / "c", os.O_RDONLY)
    folder = tmp_path / "c/leases"
    (mine,) = names(folder)
    assert leased(root) == {entry_name(1)}
    pid, start, *rest = mine.split("-")
    assert (int(pid), int(start)) == (os.getpid(), started_at(os.getpid()))
    (folder / mine).rename(folder / "-".join([pid, str(int(start) - 1), *rest]))  # another process had this pid
    assert leased(root) == set()
    assert names(folder) == []
    assert found.buffer.to_pybytes() == b"\1" * 1000
    os.close(root)


def test_readers_are_right_while_what_they_read_is_evicted(tmp_path):
    """Four processes, room for a third of what they want, entries held on to: every byte is as it was stored."""
    limit = sum(charged(5_064 + key) for key in range(60)) // 3
    jobs = [job("churn", tmp_path / "c", limit, seed) for seed in range(4)]
    said = [each.communicate(timeout=120)[0].split() for each in jobs]
    assert [each.returncode for each in jobs] == [0] * 4
    assert sum(int(text[1]) for text in said) > 10
    assert [int(text[2]) for text in said] == [0] * 4
    assert Cache(tmp_path / "c", limit).nbytes() <= limit


def test_a_fetch_that_takes_too_long_is_not_waited_for(tmp_path, monkeypatch):
    """Somebody who is stopped holds up nobody for longer than the limit: the other fetches too, and keeps nothing."""
    monkeypatch.setattr(cache_module, "WAIT_SECONDS", 0.2)
    first, second = Cache(tmp_path / "c", "1 MB"), Cache(tmp_path / "c", "1 MB")
    slow = first.lookup(entry_name(1))
    mine = second.lookup(entry_name(1))
    mine.store(4, lambda file: file.write(b"mine"))
    assert names(tmp_path / "c/entries") == [entry_name(1) + ".part"]
    slow.store(4, lambda file: file.write(b"slow"))
    assert second.lookup(entry_name(1)).buffer.to_pybytes() == b"slow"


def test_a_fetch_that_fails_is_the_next_ones_to_do(tmp_path):
    """Whoever waits is woken by the failure, and only one of them fetches."""
    cache, order, gate = Cache(tmp_path / "c", "1 MB"), [], threading.Event()
    claim = cache.lookup(entry_name(1))

    def ask():
        found = cache.lookup(entry_name(1))
        if not isinstance(found, CachedBytes):
            order.append("fetched")
            gate.wait(60)
            found.store(1, lambda file: file.write(b"x"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    while cache.stats()["waits"] < 4:
        time.sleep(0.005)
    claim.close()
    gate.set()
    for each in threads:
        each.join(60)
    assert order == ["fetched"]


def test_two_jobs_of_different_limits_share_a_folder(tmp_path):
    """Each keeps to its own when it writes."""
    large, small = Cache(tmp_path / "c", 10 * 4096), Cache(tmp_path / "c", 4 * 4096)
    for key in range(8):
        put(large, key)
    assert large.nbytes() == 8 * 4096
    put(small, 100)
    assert small.nbytes() <= 4 * 4096
    for key in range(20, 26):
        put(large, key)
    assert 4 * 4096 < large.nbytes() <= 10 * 4096


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_leases_for_itself(tmp_path):
    """It has its own lease file, and ends none of its parent's."""
    cache = Cache(tmp_path / "c", "1 MB")
    put(cache, 1)
    put(cache, 2)
    mine = cache.lookup(entry_name(1))
    code = """
import os, sys
from datapipe.storage.cache import Cache
from datapipe.storage.cache_entry import entry_name
from datapipe.storage.cache_leases import leased
cache = Cache(sys.argv[1], "1 MB")
mine = cache.lookup(entry_name(1))
root = os.open(sys.argv[1], os.O_RDONLY)
pid = os.fork()
if not pid:
    other = cache.lookup(entry_name(2))
    ok = leased(root) == {entry_name(1), entry_name(2)}
    del mine, other
    ok = ok and leased(root) == {entry_name(1)}
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
assert leased(root) == {entry_name(1)}
"""
    del mine
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "c")], check=True)


def test_nothing_is_said_at_exit(tmp_path):
    """A cache, a loader and a batch that outlive the script's last line end in silence, and leave no lease in use."""
    code = f"""
        import numpy as np, pyarrow as pa, pyarrow.parquet as pq
        import datapipe
        pq.write_table(pa.table({{"id": np.arange(100)}}), {str(tmp_path / "a.parquet")!r})
        cache = datapipe.Cache({str(tmp_path / "cache")!r}, "10 MB")
        data = datapipe.open_dataset({str(tmp_path / "a.parquet")!r}, cache=cache)
        for _ in range(2):
            loader = datapipe.DataLoader(data, 10, collate="arrow", num_threads=2)
            batches = list(loader)
        pa.kept = cache, data.fetch(0).decode()
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
