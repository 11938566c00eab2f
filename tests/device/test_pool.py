"""Recycled buffers: used again only when nobody holds them, in whatever form."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from datapipe.device import BufferPool
from datapipe.device.pool import SMALL

LARGE = (SMALL // 8 + 5,)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_the_array_is_gone():
    pool = BufferPool()
    array = pool.empty(LARGE, np.int64)
    place = address(array)
    assert pool.lent == 1
    del array
    assert pool.lent == 0
    assert address(pool.empty(LARGE, np.int64)) == place
    assert pool.allocated == 1


HOLDERS = {
    "slice": lambda a: a[3:5],
    "view of a view": lambda a: a[2:][1:].reshape(-1, 1),
    "other dtype": lambda a: a.view(np.uint8),
    "memoryview": memoryview,
    "frombuffer": lambda a: np.frombuffer(a, np.uint8),
    "iterator": iter,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_any_view_keeps_the_memory(hold):
    pool = BufferPool()
    array = pool.empty(LARGE, np.int64)
    place, held = address(array), hold(array)
    del array
    gc.collect()
    assert pool.lent == 1
    other = pool.empty(LARGE, np.int64)
    assert address(other) != place
    del held
    gc.collect()
    assert pool.lent == 1
    assert address(pool.empty(LARGE, np.int64)) == place


def test_a_tensor_and_its_views_keep_the_memory():
    torch = pytest.importorskip("torch")
    pool = BufferPool()
    tensor = torch.from_numpy(pool.empty(LARGE, np.int64))
    view = tensor[7:9].view(-1, 1)
    back = view.numpy()
    assert pool.lent == 1
    del tensor
    assert pool.lent == 1
    del view
    assert pool.lent == 1
    del back
    assert pool.lent == 0


def test_small_arrays_are_not_recycled_unless_told():
    assert BufferPool().empty((3,), np.int8).base is None
    pool = BufferPool(recycle_all=True)
    array = pool.empty((3,), np.int8)
    assert pool.lent == 1
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert pool.empty((0, 4), np.int64).shape == (0, 4)


def test_idle_memory_is_bounded():
    pool = BufferPool(idle_bytes=4 * SMALL)
    arrays = [pool.empty((SMALL,), np.uint8) for _ in range(20)]
    places = {address(a) for a in arrays}
    assert len(places) == 20
    del arrays
    assert sum(size * len(free) for size, free in pool._free.items()) <= 4 * SMALL


def test_lengths_that_vary_share_buffers():
    """Ragged batches: an eighth is wasted at most, and no length has a buffer of its own."""
    pool = BufferPool()
    for n in range(SMALL, 2 * SMALL, 97):
        array = pool.empty((n,), np.uint8)
        assert array.nbytes == n
        assert len(pool._lent[next(iter(pool._lent))][1]) <= n * 9 / 8 + 512
        del array
    assert pool.allocated <= 18


def test_threads_never_share_a_buffer():
    """Many threads fill, check and drop buffers at once: each finds what it wrote."""
    pool = BufferPool()
    wrong = []

    def work(mark):
        for i in range(300):
            array = pool.empty(LARGE, np.int64)
            array[:] = mark * 1000 + i
            view = array[::7]
            del array
            if not (view == mark * 1000 + i).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.lent == 0


class Poison(RuleBasedStateMachine):
    """Taken, sliced and dropped in whatever order: what is held keeps its values while new arrays are filled."""

    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.pool = BufferPool()
        self.count = 0
        self.alive = {}

    @rule(target=held, rows=st.integers(1, 4))
    def take(self, rows):
        self.count += 1
        array = self.pool.empty((rows, SMALL), np.uint8)
        array[:] = self.count % 251
        self.alive[self.count] = array
        return self.count

    @rule(target=held, which=consumes(held), part=st.integers(0, 3))
    def keep_a_part(self, which, part):
        self.alive[which] = self.alive[which][:, part : part + 100]
        return which

    @rule(which=consumes(held))
    def drop(self, which):
        del self.alive[which]

    @invariant()
    def nothing_held_has_changed(self):
        assert all((array == which % 251).all() for which, array in self.alive.items())
        assert self.pool.lent == len(self.alive)


Poison.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestPoison = Poison.TestCase


def test_a_batch_held_at_exit_ends_in_silence():
    """At exit the interpreter sets a module's names to None, and then the last batches go: nothing is printed."""
    import subprocess
    import sys

    code = (
        "import numpy as np\nimport datapipe.device.pool as module\n"
        "pool = module.BufferPool()\nheld = [pool.empty((64, 1024), np.int64) for _ in range(3)]\n"
        "for name in list(vars(module)):\n    vars(module)[name] = None\n"
        "del held\nassert pool.lent == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
