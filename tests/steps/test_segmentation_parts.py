"""segment_lines: lines cut out of documents are segmented as if they were new."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import segmentation
from datapipe.steps.segmentation import segment
from datapipe.steps.segmentation_parts import ranges, segment_lines
from tests.steps.one_text import column

LINES = st.lists(st.text("ab.('1 \t", max_size=12).map(str.strip), min_size=1, max_size=6)


@given(st.lists(LINES, min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=200)
def test_lines_cut_out(documents, data):
    """Lines taken from documents, some of them rewritten, are segmented as if they were new."""
    words = segment(column(["\n".join(lines) for lines in documents]))
    all_lines = [line for lines in documents for line in lines]
    keep = data.draw(st.lists(st.booleans(), min_size=len(all_lines), max_size=len(all_lines)))
    changed = data.draw(st.lists(st.booleans(), min_size=len(all_lines), max_size=len(all_lines)))
    counts = np.cumsum([0] + [len(line.split()) for line in all_lines])
    kept = [i for i, k in enumerate(keep) if k]
    texts = [all_lines[i] + " x." if changed[i] else all_lines[i] for i in kept]
    arrays = [np.array(values, np.int64) for values in ([counts[i] for i in kept], [counts[i + 1] for i in kept])]
    lines = pa.array(texts, pa.large_string())
    found = segment_lines(words, lines, *arrays, np.array([changed[i] for i in kept], bool))
    expected = segment(column(texts))
    assert found.lists().to_pylist() == expected.lists().to_pylist()
    for name in ("starts", "ends", "offsets", "documents"):
        assert getattr(found.chunks, name).tolist() == getattr(expected.chunks, name).tolist()


def test_two_vocabularies(monkeypatch):
    """Where the vocabulary was given up in between, all lines are segmented anew."""
    words = segment(column(["one two\nthree [1]"]))
    monkeypatch.setattr(segmentation, "_MAX_WORDS", 0)
    lines = pa.array(["one two", "three "], pa.large_string())
    found = segment_lines(words, lines, np.array([0, 2]), np.array([2, 4]), np.array([False, True]))
    assert found.lists().to_pylist() == [["one", "two"], ["three"]]


def test_ranges():
    """Ranges one after the other, empty ones and none."""
    assert ranges(np.array([3, 7, 0]), np.array([5, 7, 2])).tolist() == [3, 4, 0, 1]
    assert ranges(np.array([], np.int64), np.array([], np.int64)).tolist() == []
