"""Where each piece of each document goes, decided from lengths alone.

What enters: the documents' lengths in tokens. What leaves: a `Layout`, pieces with their source, target and segment.
Invariant: the pieces cover each document exactly, in order, and no two overlap in the target; a row's pieces begin at
its start and leave no hole, and the segment ids of a row are 1, 2, 3, … from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Pieces, and the rows they make.

    Attributes:
        source, target, length, segment: int64[pieces]: offset in the documents laid end to end, offset in the rows laid
            end to end, tokens, and segment id.
        first_document, row_tokens, row_documents: int64[rows].
        contiguous: source equals target for every piece, in order.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int64]
    first_document: npt.NDArray[np.int64]
    row_tokens: npt.NDArray[np.int64]
    row_documents: npt.NDArray[np.int64]
    contiguous: bool


def plan_concat(lengths: npt.NDArray[np.int64], seq_len: int) -> Layout:
    """Documents end to end, cut every `seq_len` tokens; the last row may be short."""
    import numpy as np

    # Cut the stream at every document's end and at every row's end.
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    bounds = np.union1d(np.union1d(ends, np.arange(0, total, seq_len)), [0, total])
    start, length = bounds[:-1], np.diff(bounds)
    # The document of a piece is the first that ends beyond its start: a document without tokens never is.
    document = np.searchsorted(ends, start, side="right")
    return _layout(document, start, length, start // seq_len, start, contiguous=True)


def plan_best_fit(lengths: npt.NDArray[np.int64], seq_len: int, window: int) -> Layout:
    """Best-fit decreasing within windows of `window` documents; of equal lengths the earlier document goes first.

    A document longer than a row gives whole rows and a rest, which is placed like a document. Rows of a window come in
    the order of their first piece, pieces of a row in the order of their documents.
    """
    import numpy as np

    sources, rows, total = [], [], 0
    ends = np.cumsum(lengths)
    for begin in range(0, len(lengths), window):
        document, start, length = _cut_documents(lengths[begin : begin + window], seq_len)
        row = _best_fit(length, seq_len)
        base = int(ends[begin] - lengths[begin])
        sources.append((document + begin, start + base, length))
        rows.append(row + total)
        total += int(row.max(initial=-1)) + 1
    if not sources:
        sources, rows = [_cut_documents(lengths, seq_len)], [np.zeros(0, np.int64)]
    document, start, length = (np.concatenate(each) for each in zip(*sources, strict=True))
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    document, start, length, row = document[order], start[order], length[order], row[order]
    before = np.cumsum(length) - length
    first = np.searchsorted(row, row, side="left")
    target = row * seq_len + before - before[first]
    return _layout(document, start, length, row, target, contiguous=False)


def _layout(document: Any, source: Any, length: Any, row: Any, target: Any, *, contiguous: bool) -> Layout:
    """A layout from pieces sorted by row (then place)."""
    import numpy as np

    first = np.flatnonzero(np.diff(row, prepend=-1))
    counts = np.diff(first, append=len(row))
    return Layout(
        source=source,
        target=target,
        length=length,
        segment=np.arange(len(row)) - np.repeat(first, counts) + 1,
        first_document=document[first],
        row_tokens=np.add.reduceat(length, first) if len(first) else np.zeros(0, np.int64),
        row_documents=counts,
        contiguous=contiguous,
    )


def _cut_documents(lengths: Any, seq_len: int) -> tuple[Any, Any, Any]:
    """Pieces of at most seq_len tokens, each from its document's start: (document, start end to end, length)."""
    import numpy as np

    starts = np.cumsum(lengths) - lengths
    pieces = -(-lengths // seq_len)
    document = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    length = np.minimum(seq_len, lengths[document] - number * seq_len)
    return document, starts[document] + number * seq_len, length


def _best_fit(lengths: Any, seq_len: int) -> Any:
    """The row of each piece: the longest piece first, into the fullest row that has room, else into a new one."""
    import numpy as np

    # Rows by free space; the bit s of `free` says that some row has s left, so that the fullest row with room for n is
    # the lowest set bit at or above n: a few machine words of work instead of a search tree.
    stacks: list[list[int]] = [[] for _ in range(seq_len + 1)]
    free = 0
    row = np.zeros(len(lengths), np.int64)
    count = 0
    for piece in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[piece])
        fitting = free >> need
        if fitting:
            space = need + (fitting & -fitting).bit_length() - 1
            target = stacks[space].pop()
            if not stacks[space]:
                free &= ~(1 << space)
        else:
            space, target = seq_len, count
            count += 1
        row[piece] = target
        left = space - need
        if left:
            stacks[left].append(target)
            free |= 1 << left
    # Renumber by first piece, so that rows stay near the order of the documents.
    _, first = np.unique(row, return_index=True)
    rank = np.empty(count, np.int64)
    rank[np.argsort(first)] = np.arange(count)
    return rank[row]
