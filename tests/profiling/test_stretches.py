"""Stretches: packed and unpacked without loss, cut where the loop is at a clean moment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.events import DEVICE, FIELDS
from datapipe.profiling.stretches import Loop, Stretch, clean_cut, joined, loop_of, pack, unpack

LOOP = Loop(thread=0, step=0, epoch=21)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 50))
def test_packing_loses_nothing(seed, count):
    """Any bytes whatever come back: negative times, the largest numbers, spans in no order."""
    kind = np.dtype(list(FIELDS))
    spans = np.frombuffer(np.random.default_rng(seed).bytes(count * kind.itemsize), dtype=kind)
    assert unpack(pack(spans), count).tobytes() == spans.tobytes()


def test_a_cut_lies_where_a_step_begins_and_all_before_it_is_over(spans):
    """Not inside a step, an evaluation or a phase that holds steps; not after `until`."""
    spans.add("step", 0, 10).add("wait", 0, 4).add("step", 10, 20).add("evaluate", 20, 60)
    spans.add("step", 25, 40).add("step", 40, 55).add("step", 60, 70).add("fetch", 5, 65, thread=1)
    found = [clean_cut(spans.array(), LOOP, until=until) for until in (9, 10, 19, 59, 60, 99)]
    assert found == [None, 10, 10, 10, 60, 60]
    assert clean_cut(spans.array(), LOOP, until=30, anything=True) == 20


def test_the_loop_is_the_thread_with_the_most_steps(spans):
    """Not the one that writes most; what a device did is nobody's cut."""
    for i in range(5):
        spans.add("decode", i, i + 1, thread=1).add("step", i * 10, i * 10 + 10, thread=2, flags=0)
    assert loop_of(spans.array(), step=0, epoch=21) == Loop(thread=2, step=0, epoch=21)
    assert loop_of(spans.array()[:0], step=0, epoch=21) is None
    assert clean_cut(spans.add("step", 60, 70, thread=0, flags=DEVICE).array(), LOOP, until=99) is None


def test_stretches_left_out_one_after_the_other_are_one():
    """Their time, spans and steps are added up; one that is kept stands alone, and only that has spans."""
    kept = Stretch(began=20, ended=30, count=0, steps=0, epochs=0, number=4, data=pack(np.empty(0, list(FIELDS))))
    left = [
        Stretch(began=b, ended=b + 10, count=5, steps=2, epochs=1, number=b // 5) for b in (0, 10, 30, 40)
    ]  # fmt: skip
    one, two, three = joined([*left[:2], kept, *left[2:]])
    assert (one.began, one.ended, one.count, one.steps, one.epochs, one.number, one.parts) == (0, 20, 10, 4, 2, 2, 2)
    assert two is kept
    assert (three.began, three.ended, three.number) == (30, 50, 8)
    assert [len(part) for part in kept.spans()] == [0, 0]
    with pytest.raises(ValueError, match="left out"):
        one.spans()
