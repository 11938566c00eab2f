"""Where each piece of each document goes, decided from lengths alone.

What enters: the documents' lengths in tokens. What leaves: a `Layout`, pieces with their source, target and segment.
Invariant: the pieces cover each document exactly, in order, and no two overlap in the target; a row's pieces begin at
its start and leave no hole, and the segment ids of a row are 1, 2, 3, … from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datapipe.best_fit import best_fit, cut_to_fit

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
        row, count = best_fit(length, seq_len)
        base = int(ends[begin] - lengths[begin])
        sources.append((document + begin, start + base, length))
        rows.append(row + total)
        total += count
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

    document, start, length = cut_to_fit(lengths, seq_len)
    return document, (np.cumsum(lengths) - lengths)[document] + start, length
