"""Work inside work: no moment counted twice, none lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.events import HIT
from datapipe.profiling.nesting import _cut, _cut_around_one, unnested


def rows(run):
    cut = unnested(run.spans, run.stages)
    return [(run.stages[s["stage"]], int(s["start"]), int(s["end"]), int(s["item"])) for s in cut]


def test_an_inner_span_takes_its_time_from_the_outer_and_gets_its_item(spans):
    """A footer read inside a fetch: before it and after it the fetch, all three on the fetch's block."""
    spans.add("fetch", 0, 1_000_000, item=7, nbytes=50, cpu=500, flags=HIT)
    spans.add("footer", 100_000, 400_000, cpu=200)
    run = spans.run()
    assert rows(run) == [
        ("fetch", 0, 100_000, 7), ("footer", 100_000, 400_000, 7), ("fetch", 400_000, 1_000_000, 7)
    ]  # fmt: skip
    cut = unnested(run.spans, run.stages)
    assert cut["bytes"].tolist() == [0, 0, 50]
    assert cut["cpu"].tolist() == [0, 200, 300]
    assert cut["flags"].tolist() == [0, 0, HIT]


def test_a_call_is_no_piece(spans):
    """What lies before an inner span for less than 20 µs is its own: "decompress" begins with "decode"."""
    spans.add("decode", 0, 1_000_000, item=3)
    spans.add("decompress", 5_000, 400_000)
    assert rows(spans.run()) == [("decompress", 0, 400_000, 3), ("decode", 400_000, 1_000_000, 3)]


def test_other_threads_and_free_spans_are_left_alone(spans):
    """A footer on another thread, or outside every fetch, stays as it is."""
    spans.add("fetch", 0, 1_000_000, item=1)
    spans.add("footer", 100_000, 200_000, thread=1)
    spans.add("footer", 2_000_000, 2_100_000)
    run = spans.run()
    assert (unnested(run.spans, run.stages) == run.spans).all()


@given(
    outer=st.lists(st.integers(30_000, 500_000), min_size=1, max_size=5),
    inner=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=6),
)
def test_the_pieces_cover_exactly_the_outer_spans(new_spans, outer, inner):
    """Whatever runs inside, the lengths still sum to the outer spans', and no two spans of the thread overlap."""
    spans, t, whole = new_spans(), 0, 0
    for i, length in enumerate(outer):
        spans.add("fetch", t, t + length, item=i)
        edges = sorted(e for pair in inner for e in pair)
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            spans.add("footer", t + length * a // 100, t + length * b // 100)
        t += length + 1_000
        whole += length
    run = spans.run()
    cut = unnested(run.spans, run.stages)
    assert int((cut["end"] - cut["start"]).sum()) == whole
    assert (cut["start"][1:] >= cut["end"][:-1]).all()
    assert (cut["end"] >= cut["start"]).all()
    assert (cut["item"] >= 0).all()


def test_the_path_goes_through_the_pieces(spans):
    """The wait for a batch is charged to fetch, footer, decompress and decode by what each took of it."""
    from datapipe.profiling.analysis import summarise

    ms = 1_000_000
    for i in range(12):
        t = i * 20 * ms
        spans.add("fetch", t, t + 4 * ms, item=i, thread=1)
        spans.add("footer", t + 1 * ms, t + 3 * ms, thread=1)
        spans.add("decode", t + 4 * ms, t + 12 * ms, item=i, cause=i, thread=1)
        spans.add("decompress", t + 4 * ms, t + 9 * ms, thread=1)
        spans.add("gather", t + 12 * ms, t + 14 * ms, item=i, cause=i, thread=1)
        spans.add("wait", t, t + 14 * ms, item=i, cause=i)
        spans.add("step", t, t + 20 * ms, item=i)
    run = spans.run()
    import dataclasses

    found = summarise(dataclasses.replace(run, spans=unnested(run.spans, run.stages)))
    waits = {part.name: round(part.mean / ms) for part in found.waits}
    assert waits == {"fetch": 2, "footer": 2, "decompress": 5, "decode": 3, "gather": 2}


@given(
    outer=st.tuples(st.integers(0, 100_000), st.integers(1, 100_000), st.integers(0, 50_000)),
    inner=st.tuples(st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 50_000)),
)
def test_one_inside_one_is_cut_as_any_number_is(new_spans, outer, inner):
    """The way of arrays, which most take, gives the pieces of the way one by one."""
    start, length, cpu = outer
    begin = start + min(inner[0], length)
    end = min(begin + inner[1], start + length)
    spans = new_spans().add("fetch", start, start + length, item=3, cause=2, thread=1, get=start - 9, nbytes=7, cpu=cpu)
    run = spans.add("footer", begin, end, thread=1, cpu=inner[2]).array()
    inside = int((run["item"] < 0).argmax())
    host = 1 - inside
    one, other = run.copy(), run.copy()
    pieces = _cut_around_one(one, np.array([host]), np.array([inside]))
    assert pieces.tolist() == [piece.tolist() for piece in _cut(other, host, [inside])]
    assert one.tolist() == other.tolist()
