"""A ring that another process writes: its spans arrive whole, live, in order, and are counted when lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.events import Recorder
from datapipe.profiling import profile
from datapipe.profiling.process_ring import ProcessRing, make_ring_file
from datapipe.profiling.recording import CAPACITY


@pytest.fixture(scope="module")
def new_ring(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("rings"), []

    def make(capacity, thread=0):
        path = folder / f"{len(made)}.ring"
        make_ring_file(path, capacity)
        made.append(ProcessRing(path, thread=thread, name="worker"))
        return made[-1]

    return make


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 40), capacity=st.integers(1, 16))
def test_the_newest_spans_are_held_in_order_and_the_rest_counted(new_ring, count, capacity):
    """Whatever is written: the last `capacity` are there, oldest first, with every field; `lost` is what is not."""
    ring = new_ring(capacity, thread=3)
    for i in range(count):
        ring.write(7, i, i + 1, i + 2, i + 3, i + 4, nbytes=5, cpu=6, cause=i - 1, flags=1)
    held = ring.array()
    assert held["item"].tolist() == list(range(max(0, count - capacity), count))
    assert (ring.count, ring.lost) == (count, max(0, count - capacity))
    for span in held:
        i = int(span["item"])
        assert span.tolist() == (i, i - 1, i + 1, i + 2, i + 3, i + 4, 5, 6, 7, 3, 1)


def _write(path, count, stage):
    ring = ProcessRing(path, thread=1, name="worker")
    for i in range(count):
        ring.write(stage, i, i, i, i, i)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_the_spans_of_a_killed_process_are_kept(tmp_path, how):
    """What was written before a SIGKILL is in the profile, beyond what a ring holds at once too."""
    path = tmp_path / "one.ring"
    make_ring_file(path, CAPACITY)
    with profile() as prof:
        prof.recorder.adopt(lambda thread: ProcessRing(path, thread=thread, name="worker"))
        process = multiprocessing.get_context(how).Process(
            target=_write, args=(path, 1000, prof.recorder.stage("mine"))
        )
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    raw = prof.raw()
    mine = raw.spans[raw.spans["stage"] == raw.stages.index("mine")]
    assert np.array_equal(np.sort(mine["item"]), np.arange(1000))
    assert raw.lost == 0


def test_a_ring_needs_its_file(tmp_path):
    """No file: an OSError, not a ring that writes nowhere; and no ring's file is made over another's."""
    with pytest.raises(OSError):
        ProcessRing(tmp_path / "none", thread=0, name="worker")
    make_ring_file(tmp_path / "a", 4)
    with pytest.raises(FileExistsError):
        make_ring_file(tmp_path / "a", 4)


def test_threads_and_processes_are_numbered_together(new_ring):
    """An adopted ring takes the next thread number, and a thread that comes later the one after."""
    recorder = Recorder(8)
    recorder.ring()
    recorder.adopt(lambda thread: new_ring(4, thread))
    assert [ring.thread for ring in recorder.rings()] == [0, 1]
    assert recorder.threads[1] == "worker"


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="a system that allocates files")
def test_a_ring_has_its_space_or_is_not_there(tmp_path, monkeypatch):
    """Every page is the ring's own from the start; on a full disk there is no file, where a page without room kills."""
    make_ring_file(tmp_path / "whole", 8192)
    assert (tmp_path / "whole").stat().st_blocks * 512 >= 8192 * 72

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="no space"):
        make_ring_file(tmp_path / "none", 8192)
    assert not (tmp_path / "none").exists()
