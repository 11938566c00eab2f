from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.events import Recorder
from datapipe.profiling.span_archive import SpanArchive


@given(bursts=st.lists(st.integers(0, 40), max_size=8), capacity=st.integers(2, 32), most=st.integers(1, 60))
def test_every_span_is_kept_once_or_counted_lost(bursts, capacity, most):
    """Whatever the pace of writing and looking: kept + lost = written, no number twice, none invented."""
    recorder = Recorder(capacity)
    archive = SpanArchive(recorder, capacity=capacity, interval=60, most=most)
    ring, written = recorder.ring(), 0
    for burst in bursts:
        for _ in range(burst):
            ring.write(0, written, written, written, written, written)
            written += 1
        archive._take(least=capacity // 2)
    kept = archive.spans()["item"]
    assert len(np.unique(kept)) == len(kept)
    assert len(kept) + sum(archive.lost.values()) == written
    assert len(kept) <= most
    assert set(kept.tolist()) <= set(range(written))


def test_looking_twice_adds_nothing():
    recorder = Recorder(8)
    archive = SpanArchive(recorder, capacity=8, interval=60)
    recorder.ring().write(0, 1, 1, 1, 1, 1)
    assert len(archive.spans()) == len(archive.spans()) == 1


def test_it_can_be_stopped_before_its_first_look():
    archive = SpanArchive(Recorder(8), capacity=8, interval=3600)
    archive.start()
    archive.stop()
    assert not archive._thread.is_alive()
