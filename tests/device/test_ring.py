"""Page-locked memory: allocated once, cut up, used again, never given twice."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from datapipe.device import BufferPool
from datapipe.device.pool import plain_memory
from datapipe.device.ring import ALIGN, FIRST_BYTES, PIECE_BYTES, PinnedRing

MOST = 1 << 16


class Parts(RuleBasedStateMachine):
    """Taken, kept as a view and dropped in any order: what is held keeps its bytes, and all comes together again."""

    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.asked = []
        self.ring = PinnedRing(self.allocate, most_bytes=MOST)
        self.alive = {}
        self.count = 0

    def allocate(self, nbytes):
        self.asked.append(nbytes)
        return plain_memory(nbytes)

    @rule(target=held, nbytes=st.integers(1, MOST // 3))
    def take(self, nbytes):
        part = self.ring.take(nbytes)
        self.count += 1
        if part is not None:
            assert part.nbytes == nbytes
            array = np.frombuffer(part, np.uint8)
            assert array.__array_interface__["data"][0] % 16 == 0
            array[:] = self.count % 251
            self.alive[self.count] = array
        return self.count

    @rule(target=held, which=consumes(held), begin=st.integers(0, 50))
    def keep_a_view(self, which, begin):
        if which in self.alive:
            self.alive[which] = self.alive[which][begin:]
        return which

    @rule(which=consumes(held))
    def drop(self, which):
        self.alive.pop(which, None)

    @invariant()
    def nothing_held_has_changed_and_no_more_was_asked_for(self):
        assert all((array == which % 251).all() for which, array in self.alive.items())
        assert sum(self.asked) == self.ring.nbytes <= MOST

    def teardown(self):
        if self.asked:
            self.alive.clear()
            assert self.ring.take(max(self.asked)) is not None  # neighbours were joined


Parts.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestParts = Parts.TestCase


def test_pieces_are_few_large_and_powers_of_two():
    """Torch rounds page-locked requests up to one: anything else would lock memory that nobody uses."""
    asked = []
    ring = PinnedRing(asked.append, most_bytes=5 * PIECE_BYTES)
    assert ring.take(10) is None  # nothing could be had
    assert asked == [FIRST_BYTES]
    assert ring.take(10) is None
    assert asked == [FIRST_BYTES]  # nor is it asked for again
    asked.clear()

    def allocate(nbytes):
        asked.append(nbytes)
        return plain_memory(nbytes)

    ring = PinnedRing(allocate, most_bytes=3 * ALIGN)
    assert ring.take(3 * ALIGN) is None
    parts = [ring.take(ALIGN + 1), ring.take(1)]
    assert None not in parts
    assert asked == [2 * ALIGN, ALIGN]
    assert ring.take(1) is None
    assert PinnedRing(allocate, most_bytes=0).take(1) is None


def test_a_small_loader_locks_little_and_a_large_one_soon_enough():
    """Pieces double up to the largest; a buffer beyond that gets one of its own."""
    asked = []

    def allocate(nbytes):
        asked.append(nbytes)
        return memoryview(np.empty(nbytes, np.uint8).data)  # no page of it is touched

    ring = PinnedRing(allocate, most_bytes=8 * PIECE_BYTES)
    parts = [ring.take(FIRST_BYTES // 2) for _ in range(2 * 2 * PIECE_BYTES // FIRST_BYTES + 2)]
    assert None not in parts
    assert asked == [FIRST_BYTES, *(FIRST_BYTES << n for n in range(5)), PIECE_BYTES]
    assert ring.take(PIECE_BYTES + 1) is not None
    assert asked[-1] == 2 * PIECE_BYTES


def test_a_pool_over_a_ring_makes_room_from_idle_sizes_before_it_turns_to_plain_memory():
    ring = PinnedRing(plain_memory, most_bytes=MOST)
    pool = BufferPool(ring.take, recycle_all=True, idle_bytes=MOST)
    for size in (MOST // 2, MOST // 4 * 3, MOST):  # each needs what the one before left idle
        array = pool.empty((size,), np.uint8)
        del array
    assert (pool.overflows, ring.nbytes) == (0, MOST)
    held = pool.empty((MOST,), np.uint8)
    other = pool.empty((MOST,), np.uint8)
    assert (pool.overflows, pool.lent) == (1, 2)
    held[:], other[:] = 1, 2
    assert (held == 1).all()
    del held, other
    assert pool.lent == 0
    pool.empty((MOST,), np.uint8)
    assert pool.overflows == 1  # page-locked again, now that there is room


def test_threads_never_share_a_part():
    """Threads take, fill, check and drop at once: each finds what it wrote, and the ring is whole afterwards."""
    ring = PinnedRing(plain_memory, most_bytes=MOST)
    wrong = []

    def work(mark):
        for i in range(200):
            part = ring.take(1000 + 37 * (i % 20))
            if part is None:
                continue
            array = np.frombuffer(part, np.uint8)
            array[:] = (mark * 50 + i) % 251
            del part
            if not (array == (mark * 50 + i) % 251).all():
                wrong.append(mark)
            del array

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert ring.take(ring.nbytes) is not None
