"""Documents cut into lines, paragraphs or sentences: pieces, by the bytes they span.

What enters: the bytes of documents that lie one after the other, and where separators lie in them. What leaves:
`Pieces`, whose lengths, duplicates and texts are worked out for all documents at once. Invariant: the pieces are those
of Python's `str.split`, `re.split` or `str.splitlines`, as the function says, empty ones and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

from datapipe.steps.first_seen import first_seen
from datapipe.steps.word_table import BASE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.segmentation import Chunks


@final
@dataclass(frozen=True, eq=False)
class Pieces:
    """p pieces of n documents.

    Attributes:
        data: the bytes of the documents, uint8[b].
        starts, ends: bytes of each piece, int64[p], ascending; pieces do not overlap.
        offsets: int64[n + 1]; document i has the pieces offsets[i] … offsets[i + 1].
    """

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Pieces of each document, int64[n]."""
        import numpy as np

        counts: npt.NDArray[np.int64] = np.diff(self.offsets)
        return counts

    @cached_property
    def owners(self) -> npt.NDArray[np.int64]:
        """The document of each piece, int64[p]."""
        import numpy as np

        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    @cached_property
    def texts(self) -> pa.Array:
        """The pieces, large_string[p]."""
        import numpy as np
        import pyarrow as pa

        bounds = np.zeros(len(self.starts) + 1, np.int64)
        np.cumsum(self.ends - self.starts, out=bounds[1:])
        filled = self.ends > self.starts
        change = np.zeros(len(self.data) + 1, np.int8)
        change[self.starts[filled]] += 1
        change[self.ends[filled]] -= 1
        inside = np.cumsum(change[:-1], dtype=np.int8).view(bool)
        return pa.LargeStringArray.from_buffers(len(self.starts), pa.py_buffer(bounds), pa.py_buffer(self.data[inside]))

    @cached_property
    def chars(self) -> npt.NDArray[np.int64]:
        """Length of each piece in characters, int64[p]."""
        import pyarrow.compute as pc

        lengths: npt.NDArray[np.int64] = pc.utf8_length(self.texts).to_numpy()
        return lengths

    def where(self, keep: npt.NDArray[np.bool_]) -> Pieces:
        """Those pieces for which `keep`, bool[p]."""
        import numpy as np

        kept = np.concatenate(([0], np.cumsum(keep)))
        return Pieces(self.data, self.starts[keep], self.ends[keep], kept[self.offsets])

    def sums(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        """The sum of numbers of pieces over each document, int64[n]."""
        import numpy as np

        total = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=total[1:])
        sums: npt.NDArray[np.int64] = total[self.offsets[1:]] - total[self.offsets[:-1]]
        return sums

    def repeated(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many pieces of each document are equal to one before, and how many characters they have: two int64[n]."""
        import numpy as np

        codes = self.texts.dictionary_encode().indices.to_numpy()
        keys = (self.owners.astype(np.uint64) << np.uint64(32) | codes.astype(np.uint64)) * np.uint64(BASE)
        again = first_seen(keys) != np.arange(len(keys))
        return self.sums(again), self.sums(np.where(again, self.chars, 0))

    @cached_property
    def last_characters(self) -> npt.NDArray[np.int64]:
        """The code point each piece ends in, int64[p]; -1 for an empty piece."""
        import numpy as np

        points = np.full(len(self.ends), -1, np.int64)
        at = np.flatnonzero(self.ends > self.starts)
        last = self.ends[at] - 1
        value = self.data[last].astype(np.int64)
        shift = np.zeros(len(at), np.int64)
        point = value.copy()
        open_ = value >= 0x80
        point[open_] &= 0x3F
        for mask in (0x1F, 0x0F, 0x07):  # of the lead byte of two, three and four bytes
            last = last - 1
            shift = shift + 6
            byte = np.where(open_, self.data[np.maximum(last, 0)], 0).astype(np.int64)
            leads = open_ & (byte >= 0xC0)
            point[leads] |= (byte[leads] & mask) << shift[leads]
            follows = open_ & ~leads
            point[follows] |= (byte[follows] & 0x3F) << shift[follows]
            open_ = follows
        points[at] = point
        return points


def lines(chunks: Chunks) -> Pieces:
    r"""The documents' lines by `text.split("\n")`."""
    newline = _positions(chunks, 10)
    return _cut(chunks, chunks.documents[:-1], chunks.documents[1:], newline, newline + 1)


def line_blocks(chunks: Chunks) -> Pieces:
    r"""The documents' lines by `re.split(r"\n+", text)`."""
    first, behind = _newline_runs(chunks)
    return _cut(chunks, chunks.documents[:-1], chunks.documents[1:], first, behind)


def paragraphs(chunks: Chunks) -> Pieces:
    r"""The documents' paragraphs by `re.split(r"\n{2,}", text.strip())`."""
    import numpy as np

    first, behind = _newline_runs(chunks)
    has = np.diff(chunks.offsets) > 0
    starts, ends = chunks.documents[:-1].copy(), chunks.documents[:-1].copy()
    starts[has] = chunks.starts[chunks.offsets[:-1][has]]
    ends[has] = chunks.ends[chunks.offsets[1:][has] - 1]
    document = np.searchsorted(chunks.documents, first, side="right") - 1
    inside = (behind - first > 1) & (first > starts[document]) & (first < ends[document])
    return _cut(chunks, starts, ends, first[inside], behind[inside])


def split_lines(chunks: Chunks) -> Pieces:
    """The documents' lines by `text.splitlines()`: nine more characters end a line, and a last empty line is none."""
    import numpy as np

    data, documents = chunks.data, chunks.documents
    ends_line = np.zeros(256, bool)
    ends_line[[*range(10, 14), *range(28, 31)]] = True
    at = np.flatnonzero(ends_line[data])
    behind = at + 1
    returns = at[:-1][(data[at[:-1]] == 13) & (data[at[1:]] == 10) & (at[1:] == at[:-1] + 1)]
    if len(returns):
        returns = returns[~np.isin(returns + 1, documents)]
        behind[np.searchsorted(at, returns)] += 1
        stays = ~np.isin(at, returns + 1)
        at, behind = at[stays], behind[stays]
    for lead, tails in ((b"\xc2", (b"\x85",)), (b"\xe2", (b"\x80\xa8", b"\x80\xa9"))):
        width = 1 + len(tails[0])
        leads = np.flatnonzero(data[: len(data) - width + 1] == lead[0])
        for tail in tails:
            found = leads
            for k, byte in enumerate(tail, 1):
                found = found[data[found + k] == byte]
            at, behind = np.append(at, found), np.append(behind, found + width)
    at.sort()
    behind.sort()
    every = _cut(chunks, documents[:-1], documents[1:], at, behind)
    last = np.zeros(len(every.starts), bool)
    last[every.offsets[1:] - 1] = True
    return every.where(~last | (every.ends > every.starts))


def _positions(chunks: Chunks, byte: int) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.flatnonzero(chunks.data == byte)


def _newline_runs(chunks: Chunks) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where runs of newlines begin and end; a document's end ends a run."""
    import numpy as np

    at = _positions(chunks, 10)
    if not len(at):
        return at, at
    new = np.ones(len(at), bool)
    new[1:] = at[1:] != at[:-1] + 1
    # The newline that begins a document goes on with none of the document before it.
    heads = np.searchsorted(at, chunks.documents[:-1])
    heads = heads[heads < len(at)]
    new[heads] = True
    first = np.flatnonzero(new)
    return at[first], at[np.append(first[1:] - 1, len(at) - 1)] + 1


def _cut(
    chunks: Chunks,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    separators: npt.NDArray[np.int64],
    behind: npt.NDArray[np.int64],
) -> Pieces:
    """Documents that span starts … ends, cut at separators that span separators … behind, all ascending."""
    import numpy as np

    before = np.searchsorted(separators, chunks.documents)
    offsets = before + np.arange(len(before))
    piece_starts = np.empty(offsets[-1] if len(offsets) else 0, np.int64)
    piece_ends = np.empty(len(piece_starts), np.int64)
    document = np.searchsorted(chunks.documents, separators, side="right") - 1
    place = np.arange(len(separators)) + document
    piece_ends[place] = separators
    piece_starts[place + 1] = behind
    piece_starts[offsets[:-1]] = starts
    piece_ends[offsets[1:] - 1] = ends
    return Pieces(chunks.data, piece_starts, piece_ends, offsets)
