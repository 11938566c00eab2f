"""The words of lines that were cut out of documents whose words are known already.

What enters: the segmentation of documents, the chunks that make up each line, the lines as they read now, and which of
them read otherwise than in the document. What leaves: the lines' segmentation. Invariant: it is that of `segment`, word
for word; only the lines that changed are looked at again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.steps.segmentation import Chunks, Segmentation, bytes_of, segment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


def segment_lines(
    documents: Segmentation,
    lines: pa.Array,
    first: npt.NDArray[np.int64],
    behind: npt.NDArray[np.int64],
    changed: npt.NDArray[np.bool_],
) -> Segmentation:
    """The words of `lines`.

    Args:
        documents: where the lines are from.
        lines: large_string[k].
        first, behind: line j has the chunks first[j] … behind[j] of the documents, and begins with the first of them
            and ends with the last; int64[k].
        changed: lines of which that is not so (they were rewritten); bool[k].
    """
    import numpy as np
    import pyarrow as pa

    again = segment(pa.chunked_array([lines.filter(pa.array(changed))]))
    if again.vocabulary is not documents.vocabulary or documents.chunk_words is None:
        return segment(pa.chunked_array([lines]))  # codes of two vocabularies do not go together
    assert again.chunk_words is not None
    old, new = documents.chunks, again.chunks
    # The chunks of both, one after the other, each with its place in its line.
    from_, to = first.copy(), behind.copy()
    from_[changed], to[changed] = new.offsets[:-1] + len(old.starts), new.offsets[1:] + len(old.starts)
    chunk = ranges(from_, to)
    line = np.repeat(np.arange(len(lines)), to - from_)
    heads = np.zeros(len(lines), np.int64)
    some = ~changed & (behind > first)
    heads[some] = old.starts[first[some]]
    heads[changed] = new.documents[:-1]
    data, bounds = bytes_of(lines)
    starts = np.concatenate((old.starts, new.starts))[chunk] + (bounds[:-1] - heads)[line]
    ends = np.concatenate((old.ends, new.ends))[chunk] + (bounds[:-1] - heads)[line]
    chunk_words = np.concatenate((documents.chunk_words, again.chunk_words))
    words_before = np.zeros(len(chunk_words) + 1, np.int64)
    np.cumsum(chunk_words, out=words_before[1:])
    word = ranges(words_before[from_], words_before[to])
    counts = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(words_before[to] - words_before[from_], out=counts[1:])
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(to - from_, out=offsets[1:])
    return Segmentation(
        text=lines,
        codes=np.concatenate((documents.codes, again.codes))[word],
        offsets=counts,
        table=again.table,
        chunk_words=chunk_words[chunk],
        vocabulary=again.vocabulary,
        _chunks=Chunks(data=data, documents=bounds, starts=starts, ends=ends, offsets=offsets),
    )


def ranges(first: npt.NDArray[np.int64], behind: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers first[0] … behind[0], first[1] … behind[1], and so on, one after the other."""
    import numpy as np

    lengths = behind - first
    before = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=before[1:])
    numbers: npt.NDArray[np.int64] = np.arange(before[-1]) + np.repeat(first - before[:-1], lengths)
    return numbers
