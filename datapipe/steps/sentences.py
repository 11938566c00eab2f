"""Where sentences begin, by words: what spaCy's rule-based `Sentencizer` finds in each document.

What enters: a `Segmentation` with chunks. What leaves: how many sentences each document has, or the sentences as
pieces. Invariant: a sentence begins at the first word after an end of sentence ("." as a word of its own, and 127 more)
that is neither such an end nor punctuation; so does one at white space between words that is not one plain space, which
spaCy takes for a word. Every document has at least one sentence, as datatrove counts them (`split_into_sentences`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.steps.text_pieces import Pieces
from datapipe.steps.word_table import END, OTHER, PUNCTUATION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.segmentation import Segmentation


@final
@dataclass(frozen=True)
class _Breaks:
    """Sentences that begin within documents: after which word, at which (-1: white space at the end)."""

    last: npt.NDArray[np.int64]
    next: npt.NDArray[np.int64]
    chunk_of: npt.NDArray[np.int64]
    wide: npt.NDArray[np.int64]
    document: npt.NDArray[np.int64]


def count_sentences(words: Segmentation) -> npt.NDArray[np.int64]:
    """Sentences of each document, int64[n], each at least 1."""
    import numpy as np

    breaks = _breaks(words)
    return 1 + np.bincount(breaks.document, minlength=len(words.text))


def sentences(words: Segmentation) -> Pieces:
    """The documents' sentences, white space and all: joined, they are the document."""
    import numpy as np

    breaks = _breaks(words)
    chunks = words.chunks
    assert words.chunk_words is not None
    # Where white space makes the break, it is at the first wide gap after the last word; else at the next word.
    gap = np.searchsorted(breaks.wide, breaks.chunk_of[breaks.last], side="right")
    wide = np.append(breaks.wide, len(chunks.starts))[gap]
    chunk_end = np.where(breaks.next >= 0, breaks.chunk_of[breaks.next], len(chunks.starts))
    trailing = (breaks.next < 0) & (wide >= chunks.offsets[breaks.document + 1])
    first_word = np.concatenate(([0], np.cumsum(words.chunk_words)))
    behind = np.concatenate(([0], np.cumsum(words.table.utf8[words.codes], dtype=np.int64)))
    at_gap = ~trailing & (wide <= chunk_end) & (wide < len(chunks.starts))
    places = np.where(trailing, chunks.documents[breaks.document + 1], 0)
    places[at_gap] = chunks.starts[wide[at_gap]]
    rest = ~trailing & ~at_gap
    chunk = chunk_end[rest]
    places[rest] = chunks.starts[chunk] + behind[breaks.next[rest]] - behind[first_word[chunk]]
    counts = 1 + np.bincount(breaks.document, minlength=len(words.text))
    offsets = np.concatenate(([0], np.cumsum(counts)))
    starts, ends = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
    place = np.arange(len(places)) + breaks.document
    starts[offsets[:-1]], ends[offsets[1:] - 1] = chunks.documents[:-1], chunks.documents[1:]
    starts[place + 1], ends[place] = places, places
    return Pieces(chunks.data, starts, ends, offsets)


def _breaks(words: Segmentation) -> _Breaks:
    """Every sentence that begins after another in its document, in order."""
    import numpy as np

    chunks = words.chunks
    if words.chunk_words is None:
        raise ValueError("the words were given: their places in the text are not known")
    wide, trailing = _wide_gaps(words)
    chunk_of = np.repeat(np.arange(len(chunks.starts)), words.chunk_words)
    closing = words.table.closing[words.codes]
    telling = np.flatnonzero(closing != PUNCTUATION)
    document = np.repeat(np.arange(len(words.offsets) - 1), words.counts)[telling]
    kind = closing[telling]
    ends = np.flatnonzero(kind == END)
    following = ends + 1
    inside = following < len(telling)
    inside[inside] = document[following[inside]] == document[ends[inside]]
    last = telling[ends]
    next_ = np.full(len(ends), -1, np.int64)
    next_[inside] = telling[following[inside]]
    # Is there a wide gap after the last word's chunk, up to the next word's, or to the end of the document.
    gaps_before = np.searchsorted(wide, np.arange(len(chunks.starts) + 1))
    after = gaps_before[chunk_of[last] + 1]
    owner = document[ends]
    upto = np.where(inside, chunk_of[np.maximum(next_, 0)] + 1, chunks.offsets[owner + 1])
    gap = gaps_before[upto] > after
    gap |= ~inside & trailing[owner]
    plain = np.zeros(len(ends), bool)
    plain[inside] = kind[following[inside]] == OTHER
    breaks = gap | plain
    return _Breaks(last[breaks], next_[breaks], chunk_of, wide, owner[breaks])


def _wide_gaps(words: Segmentation) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The chunks with more than one plain space before (a document's first aside), and documents that end in that."""
    import numpy as np

    chunks = words.chunks
    before = np.ones(len(chunks.starts), np.int64)
    before[1:] = chunks.ends[:-1]
    single = chunks.starts - before == 1
    single[single] = chunks.data[before[single]] == ord(" ")
    heads = chunks.offsets[:-1]
    wide = ~single
    wide[heads[heads < len(wide)]] = False
    trailing = np.zeros(len(words.text), bool)
    has = np.diff(chunks.offsets) > 0
    end = chunks.ends[chunks.offsets[1:][has] - 1]
    left = chunks.documents[1:][has] - end
    one = np.zeros(len(end), bool)
    one[left == 1] = chunks.data[end[left == 1]] == ord(" ")
    trailing[has] = (left > 0) & ~one
    return np.flatnonzero(wide), trailing
