"""Lines, paragraphs and blocks of many documents: what Python's split functions give for each."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps.segmentation import Chunks
from datapipe.steps.text_pieces import line_blocks, lines, paragraphs, split_lines

TEXTS = st.lists(
    st.one_of(
        st.lists(
            st.sampled_from(["a", "b", "\n", "\n\n", " ", "\r", "\r\n", "é", "中", "🙂", "\x85", "\u2028"]), max_size=12
        ).map("".join),
        st.text("ab \n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000", max_size=30),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    ),
    max_size=8,
)
PLAIN = {
    lines: lambda text: text.split("\n"),
    line_blocks: lambda text: re.split(r"\n+", text),
    paragraphs: lambda text: re.split(r"\n{2,}", text.strip()),
    split_lines: str.splitlines,
}


def cut(how, texts):
    return how(Chunks.of(pa.array(texts, pa.large_string()))[0])


def lists(pieces):
    return pa.LargeListArray.from_arrays(pa.array(pieces.offsets), pieces.texts).to_pylist()


@pytest.mark.parametrize("how", list(PLAIN))
@given(TEXTS)
@settings(deadline=None, max_examples=200)
def test_is_python(how, texts):
    """The pieces of every document are Python's, empty ones too; so are their counts and lengths."""
    pieces = cut(how, texts)
    expected = [PLAIN[how](text) for text in texts]
    assert lists(pieces) == expected
    assert pieces.counts.tolist() == list(map(len, expected))
    assert pieces.chars.tolist() == [len(piece) for each in expected for piece in each]
    assert pieces.owners.tolist() == [i for i, each in enumerate(expected) for _ in each]
    last = [ord(piece[-1]) if piece else -1 for each in expected for piece in each]
    assert pieces.last_characters.tolist() == last


@pytest.mark.parametrize("how", list(PLAIN))
@given(TEXTS)
@settings(deadline=None)
def test_repeated(how, texts):
    """Pieces equal to one before, and their characters, as a set finds them in each document."""
    counts, chars = cut(how, texts).repeated()
    expected = []
    for text in texts:
        seen: set[str] = set()
        again = [piece for piece in PLAIN[how](text) if piece in seen or seen.add(piece)]
        expected.append((len(again), sum(map(len, again))))
    assert list(zip(counts.tolist(), chars.tolist(), strict=True)) == expected


@given(TEXTS)
@settings(deadline=None)
def test_where(texts):
    """The pieces that are kept, document by document."""
    pieces = cut(lines, texts)
    kept = pieces.where(pieces.chars > 1)
    assert lists(kept) == [[line for line in text.split("\n") if len(line) > 1] for text in texts]


def test_slices_of_columns():
    """A column that begins within a buffer, and one without a buffer."""
    column = pa.array(["x\ny", "a\n\nb", "", "z\n"], pa.large_string()).slice(1)
    assert lists(lines(Chunks.of(column)[0])) == [["a", "", "b"], [""], ["z", ""]]
    assert lists(lines(Chunks.of(pa.array([], pa.large_string()))[0])) == []
    assert lists(split_lines(Chunks.of(pa.array(["", ""], pa.large_string()))[0])) == [[], []]
