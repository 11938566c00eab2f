"""Texts → sets of shingles: the distinct runs of a few consecutive words, each a 32-bit hash.

What enters: a column of texts. What leaves: for each document its hashes, ascending and distinct. Invariant: the set of
a document is a function of its words (`word_hashes.RULE`) and the length of the run alone, however the table is cut.

A document of fewer words than a run has one shingle, all its words: two such are alike only if they are the same words
in the same order. A document without words has none, and is like no other.

32 bits: in two documents of 10,000 shingles each, one of them agrees by chance with probability 2%; it moves their
Jaccard similarity by 0.0001.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from datapipe.steps.word_hashes import LONGEST, PIECE, pieces, word_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

RULE: Final = "shingles 1"
_STEP: Final = 0xA24BAED4963EE407  # odd
_MIX: Final = 0x9FB21C651E98DF25


def shingle_sets(text: pa.ChunkedArray, words: int = 5) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The shingles of each document.

    Args:
        text: large_string, no nulls.
        words: how many words a run has.

    Returns:
        uint32[m], the sets one after the other, each ascending; int64[n + 1], where each begins (and the last ends).
    """
    import numpy as np

    parts: list[npt.NDArray[np.uint32]] = []
    counts: list[npt.NDArray[np.int64]] = []
    for group in groups(text):
        if len(group) == 1 and len(group[0]) > 2 * PIECE:
            hashes = [_long(group[0], words)]
            lengths = np.array([len(hashes[0])])
        else:
            found, lengths = _sets(group, words)
            hashes = [found]
        parts += hashes
        counts.append(lengths)
    offsets = np.zeros(len(text) + 1, np.int64)
    if counts:
        np.cumsum(np.concatenate(counts), out=offsets[1:])
    return np.concatenate(parts) if parts else np.zeros(0, np.uint32), offsets


def groups(text: pa.ChunkedArray) -> Iterator[list[bytes]]:
    """The documents as bytes, in groups of about `PIECE` bytes; a long one alone."""
    import numpy as np

    group: list[bytes] = []
    size = 0
    for chunk in text.chunks:
        if not len(chunk):
            continue
        _, ends, data = chunk.buffers()
        offsets = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        view = memoryview(data if data is not None else b"")
        for start, end in itertools.pairwise(offsets):
            if group and size + end - start > PIECE:
                yield group
                group, size = [], 0
            # Nothing beyond LONGEST is looked at; some bytes more, so that the cut falls between characters.
            group.append(bytes(view[start : min(end, start + LONGEST + 4)]))
            size += end - start
    if group:
        yield group


def _sets(documents: list[bytes], words: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The sets of a group, and the size of each."""
    import numpy as np

    ascii_only = [document.isascii() for document in documents]
    keys = []
    # The two kinds apart: a byte a character where that is enough.
    for kind in (True, False):
        places = [place for place, each in enumerate(ascii_only) if each is kind]
        if places:
            hashes, counts = word_hashes([documents[place] for place in places])
            shingles, owners = _runs(hashes, counts, words)
            keys.append((np.array(places, np.uint64) << np.uint64(32))[owners] | shingles)
    key = np.concatenate(keys)
    key.sort()
    if len(key):
        distinct = np.empty(len(key), bool)
        distinct[0] = True
        np.not_equal(key[1:], key[:-1], out=distinct[1:])
        key = key[distinct]
    sizes = np.diff(np.searchsorted(key, np.arange(len(documents) + 1, dtype=np.uint64) << np.uint64(32)))
    return key.astype(np.uint32), sizes


def _long(document: bytes, words: int) -> npt.NDArray[np.uint32]:
    """The set of one long document, piece by piece; the last words of a piece begin the runs of the next."""
    import numpy as np

    carried = np.zeros(0, np.uint64)
    parts = []
    for piece in pieces(document):
        hashes, _ = word_hashes([piece])
        carried = np.concatenate([carried, hashes])
        if len(carried) >= words:
            shingles, _ = _runs(carried, np.array([len(carried)]), words)
            parts.append(np.unique(shingles.astype(np.uint32)))
            carried = carried[len(carried) - words + 1 :]
    if not parts:
        shingles, _ = _runs(carried, np.array([len(carried)]), words)
        parts.append(shingles.astype(np.uint32))
    return np.unique(np.concatenate(parts))


def _runs(
    hashes: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], words: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes (32 bits of them) of the runs of words, and the document of each."""
    import numpy as np

    ends = np.cumsum(counts)
    whole = max(0, len(hashes) - words + 1)
    runs = _folded([hashes[place : place + whole] for place in range(words)])
    # A run that begins in the last words - 1 of a document would reach into the next.
    inside = np.ones(whole, bool)
    across = (ends[:, None] - np.arange(1, words)).ravel()
    inside[across[(across >= 0) & (across < whole)]] = False
    found = [runs[inside]]
    owners = [np.repeat(np.arange(len(counts)), np.maximum(counts - words + 1, 0))]
    for few in range(1, words):
        short = np.flatnonzero(counts == few)
        if len(short):
            starts = ends[short] - few
            found.append(_folded([hashes[starts + place] for place in range(few)]))
            owners.append(short)
    return np.concatenate(found), np.concatenate(owners)


def _folded(columns: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """One hash of as many words as there are columns, in the low 32 bits; the number of words enters too."""
    import numpy as np

    step = np.uint64(_STEP)
    folded = columns[-1] + np.uint64(len(columns))
    for column in reversed(columns[:-1]):
        folded *= step
        folded += column
    folded ^= folded >> np.uint64(29)
    folded *= np.uint64(_MIX)
    folded >>= np.uint64(32)
    return folded
