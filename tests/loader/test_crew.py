"""Ends: whichever way a process or a loader ends, threads are gone within a second and nobody is warned."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.errors import ClosedError
from datapipe.loader import DataLoader
from datapipe.loader import executor as executor_module
from datapipe.loader.crew import JOIN_SECONDS, Crew
from tests.loader.loader_threads import loader_threads


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    rows = np.arange(100_000, dtype=np.int64)
    pq.write_table(
        pa.table({"id": rows, "text": [f"row {i}" for i in rows]}), folder / "a.parquet", row_group_size=2000
    )
    return folder


def python(folder, code):
    """Run code in a process of its own, where every warning is an error."""
    setup = f"""
        import os, signal, sys, threading, time
        from datapipe import DataLoader, open_dataset
        def loader(**options):
            return DataLoader(open_dataset({str(folder)!r}), 50, collate="numpy", num_threads=3, **options)
    """
    text = textwrap.dedent(setup) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "code",
    [
        "it = iter(loader()); next(it)",
        "keep = loader(); it = iter(keep); next(it); del it; keep.self = keep; two = loader(); list(two)",
        "keep = [iter(loader(memory_budget=1)) for _ in range(4)]; [[next(it) for _ in range(30)] for it in keep]",
        "it = iter(loader(transform=lambda b: (time.sleep(0.05), b)[1])); next(it); one = iter(loader(prefetch=0))",
        "keep = loader(); threading.Thread(target=lambda: next(iter(keep))).start()",
        "keep = loader(); list(keep); pid = os.fork(); pid or sys.exit(0); assert os.waitpid(pid, 0)[1] == 0",
    ],
)
def test_nothing_is_said_at_exit(parquet, code):
    """Abandoned at any point, the interpreter ends in silence and with success."""
    done = python(parquet, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_forked_child_is_told_to_begin_anew(parquet, workers):
    """It has none of the threads that were at its next batch, and does not wait for them; the parent goes on."""
    code = f"""
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from datapipe.errors import ClosedError
        from worker_transforms import slowly
        own = loader(transform=slowly, workers={workers!r})
        it = iter(own)
        next(it)
        if not (pid := os.fork()):
            signal.alarm(100)
            for _ in range(2):
                try:
                    next(it)
                except ClosedError:
                    continue
                os._exit(1)
            if {workers!r} == "thread":
                assert len([batch for batch, _ in zip(own, range(9))]) == 9
            own.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert len([batch for batch, _ in zip(it, range(9))]) == 9
    """
    done = python(parquet, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("closed", [False, True])
def test_the_interpreter_waits_for_a_thread_that_is_slow_to_come_back(parquet, closed):
    """Longer than a close waits, and for those too whose loader is gone: else they come back into nothing."""
    code = f"""
        import atexit, contextlib
        from datapipe.loader import crew
        came = threading.Event()
        def slow(batch):
            came.set()
            time.sleep(2)
            return batch
        def take():
            with contextlib.suppress(Exception):  # closed while it waits
                next(it)
        keep = loader(transform=slow)
        it = iter(keep)
        threading.Thread(target=take, daemon=True).start()
        came.wait()
        if {closed}:
            keep.close()
            del keep, it
        atexit.unregister(crew._end_all)
        atexit.register(lambda: print(sum(t.name.startswith("datapipe-loader") for t in threading.enumerate())))
        atexit.register(crew._end_all)
    """
    done = python(parquet, textwrap.dedent(code))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_an_error_in_the_loop_is_all_that_is_said(parquet):
    done = python(parquet, "for batch in loader():\n    raise RuntimeError('mine')")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: mine\n")
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("prefetch", [0, 4])
def test_ctrl_c_ends_it(parquet, prefetch):
    """The signal comes while a transform runs, on whichever thread: one KeyboardInterrupt, and no thread is left."""
    code = f"""
        def slow(batch):
            slow.calls += 1
            if slow.calls == 5:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            return batch
        slow.calls = 0
        keep = loader(transform=slow, prefetch={prefetch})
        try:
            for batch in keep:
                pass
        except KeyboardInterrupt:
            keep.close()
            assert not [t for t in threading.enumerate() if t.name.startswith("datapipe-loader")]
            print("ended at", keep.state_dict()["position"] < 100)
    """
    done = python(parquet, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended at True\n", "")


def test_a_read_that_never_returns_keeps_no_process_alive(parquet):
    code = """
        keep = loader()
        keep.dataset.__class__.fetch = lambda self, block: threading.Event().wait()
        end = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        end.daemon = True
        try:
            end.start()
            next(iter(keep))
        except KeyboardInterrupt:
            print("ended")
    """
    done = python(parquet, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_memory_does_not_grow_over_epochs(parquet):
    """What a process holds after 20 epochs is what it held after 5: counted in Python's and in Arrow's allocations."""
    code = """
        import gc, tracemalloc
        import pyarrow as pa
        from datapipe.dataset.arrow_memory import shared_pool
        keep = loader(memory_budget=1 << 20)
        def held():
            keep.set_epoch(keep.epoch + 2)  # throws away what is read ahead: how much that is depends on time
            gc.collect()
            return tracemalloc.get_traced_memory()[0], pa.total_allocated_bytes() + shared_pool().bytes_allocated()
        tracemalloc.start()
        for epoch in range(5):
            for batch in keep: pass
        del batch
        python, arrow = held()
        for epoch in range(15):
            for batch in keep: pass
        del batch
        after = held()
        print(after[0] - python < 200_000, after[1] - arrow < 2_000_000, keep.stats()["held_bytes"])
    """
    done = python(parquet, code)
    assert (done.stdout, done.stderr) == ("True True 0\n", "")


def test_close_does_not_wait_for_a_read_that_hangs(memory, monkeypatch):
    """Threads and the consumer's own call inside a read that does not return: `close` comes back all the same."""
    monkeypatch.setattr(executor_module, "JOIN_SECONDS", JOIN_SECONDS)
    dataset = memory([10] * 8)
    dataset.gate = threading.Event()
    loader = DataLoader(dataset, 10, num_threads=2, prefetch=2, collate="numpy")
    iterator, met = iter(loader), []

    def consume():
        try:
            next(iterator)
        except ClosedError as error:
            met.append(error)

    consumer, closer = threading.Thread(target=consume), threading.Thread(target=loader.close)
    try:
        consumer.start()
        for _ in range(6000):
            if dataset.reads:
                break
            time.sleep(0.01)
        closer.start()
        closer.join(60)
        assert not closer.is_alive()
        assert loader_threads()  # those that read are still there
        with pytest.raises(ClosedError):
            iter(loader)
    finally:
        dataset.gate.set()
    consumer.join(60)
    assert len(met) == 1


def test_a_crew_grows_and_shrinks():
    """Those beyond leave when woken; a place that is wanted again is filled again."""
    lock = threading.Condition()
    crew = None
    at_work = set()

    def work(place):
        with lock:
            at_work.add(place)
            while place < crew.wanted:
                lock.notify_all()
                lock.wait()
            at_work.discard(place)
            crew.left(place)
            lock.notify_all()

    with lock:
        crew = Crew(work, 2)
        for wanted in (2, 5, 1, 4, 0):
            crew.resize(wanted)
            lock.notify_all()
            assert lock.wait_for(lambda n=wanted: at_work == set(range(n)), 60)
    assert crew.join(time.monotonic() + 60) == 0
