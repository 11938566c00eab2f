"""The words of a text column, found once and shared by every rule that counts words.

What enters: a column of text, or a column and lists of words made elsewhere. What leaves: a `Segmentation`: the words
of each document as codes into a table of their features (word_table.py), and where its chunks (runs of characters
without white space) lie. Invariant: the words of a document are those of `split_chunk` for each of its chunks, in
order; each distinct chunk is split once, however often and in however many tables it occurs; nothing loops over words.

Chunks are found in the bytes of the column, all documents at once; Arrow gives each distinct one a number; a bounded
table per thread (`_Vocabulary`) knows the words of those met before.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.steps.chunk_words import words_of_chunks
from datapipe.steps.columns import text_of
from datapipe.steps.word_table import WordTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_MAX_WORDS: Final = 1 << 20
"""A vocabulary of more words is given up for an empty one: a word costs some 100 bytes with its chunk, all 100 MB."""

_TWO_BYTES: Final = (0x85, 0xA0)
_THREE_BYTES: Final = {
    0xE1: ((0x9A, 0x80),),
    0xE2: (*((0x80, low) for low in range(0x80, 0x8B)), (0x80, 0xA8), (0x80, 0xA9), (0x80, 0xAF), (0x81, 0x9F)),
    0xE3: ((0x80, 0x80),),
}
"""White space beyond ASCII in UTF-8: U+0085, U+00A0; U+1680, U+2000-200A, U+2028, U+2029, U+202F, U+205F, U+3000."""


@final
@dataclass(frozen=True)
class Chunks:
    """Runs of characters without white space, c of them in n documents.

    Attributes:
        data: the bytes of all documents, uint8[b].
        documents: where each document's bytes begin, and the end, int64[n + 1].
        starts, ends: bytes of each chunk, int64[c].
        offsets: int64[n + 1]; document i has the chunks offsets[i] … offsets[i + 1].
    """

    data: npt.NDArray[np.uint8]
    documents: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, array: pa.Array) -> tuple[Chunks, npt.NDArray[np.bool_]]:
        """The chunks of large_string texts without nulls, and which bytes are of white space, bool[b]."""
        import numpy as np

        data, documents = bytes_of(array)
        blank = _white_space(data)
        starts, ends = _runs(~blank, documents)
        offsets = np.searchsorted(starts, documents)
        return cls(data=data, documents=documents, starts=starts, ends=ends, offsets=offsets), blank


@final
@dataclass(frozen=True, eq=False)
class Segmentation:
    """The words of n documents, W in all.

    Attributes:
        text: large_string[n], one array, no nulls.
        codes: rows of `table`, int32[W].
        offsets: int64[n + 1]; document i has the words offsets[i] … offsets[i + 1].
        table: features by code.
        chunk_words: how many words each chunk has, int64[c]; None where the words were given.
        vocabulary: what gave the codes: those of two segmentations are comparable where it is the same object.
    """

    text: pa.Array
    codes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    table: WordTable
    chunk_words: npt.NDArray[np.int64] | None = None
    vocabulary: object = field(default=None, repr=False)
    _chunks: Chunks | None = field(default=None, repr=False)

    @cached_property
    def chunks(self) -> Chunks:
        """The chunks of the text."""
        return Chunks.of(self.text)[0] if self._chunks is None else self._chunks

    @classmethod
    def from_lists(cls, text: pa.ChunkedArray, words: pa.Array) -> Segmentation:
        """Words that something else has split: `words` is list<string>[n] or large_list, without nulls."""
        import numpy as np
        import pyarrow as pa

        flat = words.flatten().dictionary_encode()
        offsets = words.offsets.to_numpy().astype(np.int64)
        return cls(
            text=_one_array(text),
            codes=flat.indices.cast(pa.int32()).to_numpy(),
            offsets=offsets - offsets[0],
            table=WordTable.of(flat.dictionary.to_pylist()),
        )

    def grouped(self, text: pa.Array, offsets: npt.NDArray[np.int64]) -> Segmentation:
        """The words of documents made of these rows: `text` holds rows offsets[i] … offsets[i + 1], joined."""
        return Segmentation(
            text=text,
            codes=self.codes,
            offsets=self.offsets[offsets],
            table=self.table,
            chunk_words=self.chunk_words,
            vocabulary=self.vocabulary,
        )

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Words of each document, int64[n]."""
        import numpy as np

        counts: npt.NDArray[np.int64] = np.diff(self.offsets)
        return counts

    def sums(self, feature: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The sum of a feature of words (a column of `table`) over each document, int64[n]."""
        import numpy as np

        total = np.zeros(len(self.codes) + 1, np.int64)
        np.cumsum(feature[self.codes], out=total[1:])
        sums: npt.NDArray[np.int64] = total[self.offsets[1:]] - total[self.offsets[:-1]]
        return sums

    def distinct_of(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """How many different ones of `words` each document has, int64[n]."""
        import numpy as np

        found = np.zeros(len(self.offsets) - 1, np.int64)
        filled = self.counts > 0
        wanted = WordTable.of(list(dict.fromkeys(words))).key
        for low in range(0, len(wanted) if filled.any() else 0, 64):
            bits = np.zeros(len(self.table), np.uint64)
            for bit, key in enumerate(wanted[low : low + 64]):
                bits[self.table.key == key] = np.uint64(1) << np.uint64(bit)
            each = np.bitwise_or.reduceat(bits[self.codes], self.offsets[:-1][filled])
            found[filled] += np.bitwise_count(each)
        return found

    def lists(self) -> pa.Array:
        """The words themselves, large_list<large_string>[n]; not for segmentations made from lists."""
        import numpy as np
        import pyarrow as pa

        chunks = self.chunks
        bounds = np.zeros(len(self.codes) + 1, np.int64)
        np.cumsum(self.table.utf8[self.codes], out=bounds[1:])
        solid = chunks.data[~_white_space(chunks.data)]
        words = pa.LargeStringArray.from_buffers(len(self.codes), pa.py_buffer(bounds), pa.py_buffer(solid))
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), words)


@final
class _Vocabulary:
    """Chunks met so far and their words; grows by whole batches, so that a number once given stays."""

    def __init__(self) -> None:
        import numpy as np

        self.chunks: dict[str, int] = {}
        self.table = WordTable.of([])
        self.offsets = np.zeros(1, np.int64)  # chunk k has the rows offsets[k] … offsets[k + 1] of the table

    @property
    def full(self) -> bool:
        return len(self.table) > _MAX_WORDS

    def numbers(self, distinct: Sequence[str]) -> npt.NDArray[np.int64]:
        """The chunks' numbers, those never met before split and added."""
        import numpy as np

        chunks = self.chunks
        numbers = np.fromiter(map(chunks.get, distinct, itertools.repeat(-1)), np.int64, len(distinct))
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            numbers[unknown] = np.arange(len(chunks), len(chunks) + len(unknown))
            new = [distinct[k] for k in unknown.tolist()]
            chunks.update(zip(new, numbers[unknown].tolist(), strict=True))
            words = words_of_chunks(new)
            bounds = np.append(words.starts, len(words.points))
            self.table = self.table.plus(WordTable.of_points(words.points, bounds))
            self.offsets = np.concatenate((self.offsets, np.cumsum(words.counts) + self.offsets[-1]))
        return numbers


@final
class _ThreadState(threading.local):
    """What a thread keeps: its vocabulary, and the last column it segmented (held, so that its address stays taken)."""

    vocabulary: _Vocabulary | None = None
    last: tuple[tuple[object, ...], object, Segmentation] | None = None


_STATE: Final = _ThreadState()


def segmented(table: pa.Table) -> Segmentation:
    """The words of a table's column `text`; the last column's are remembered, so that the next step has them.

    Raises:
        ConfigError: there is no column `text`, or it holds no text.
    """
    if "text" not in table.column_names:
        text_of(table)
    column = table.column("text")
    key = _identity(column)
    last = _STATE.last
    if last is not None and last[0] == key:
        return last[2]
    result = segment(text_of(table))
    _STATE.last = (key, column, result)
    return result


def remember(column: pa.ChunkedArray, words: Segmentation) -> None:
    """Let `segmented` know the words of a column that a step has just made."""
    _STATE.last = (_identity(column), column, words)


def _identity(column: pa.ChunkedArray) -> tuple[object, ...]:
    """What tells a column in memory from every other that is alive."""
    return tuple(
        (chunk.offset, len(chunk), *(buffer.address if buffer is not None else None for buffer in chunk.buffers()))
        for chunk in column.chunks
    )


def segment(text: pa.ChunkedArray) -> Segmentation:
    """The words of a column: large_string, no nulls."""
    import numpy as np
    import pyarrow as pa

    vocabulary = _STATE.vocabulary
    if vocabulary is None or vocabulary.full:
        vocabulary = _STATE.vocabulary = _Vocabulary()
    array = _one_array(text)
    chunks, blank = Chunks.of(array)
    starts, ends = chunks.starts, chunks.ends
    lengths = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts, out=lengths[1:])
    encoded = pa.LargeStringArray.from_buffers(
        len(starts), pa.py_buffer(lengths), pa.py_buffer(chunks.data[~blank])
    ).dictionary_encode()
    numbers = vocabulary.numbers(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
    first = vocabulary.offsets[numbers]
    words = vocabulary.offsets[numbers + 1] - first
    behind = np.zeros(len(words) + 1, np.int64)
    np.cumsum(words, out=behind[1:])
    codes = (np.arange(behind[-1]) + np.repeat(first - behind[:-1], words)).astype(np.int32)
    return Segmentation(
        text=array,
        codes=codes,
        offsets=behind[chunks.offsets],
        table=vocabulary.table,
        chunk_words=words,
        vocabulary=vocabulary,
        _chunks=chunks,
    )


def bytes_of(array: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of a large_string array without nulls, and where each text begins in them, int64[n + 1]."""
    import numpy as np

    _, offsets, data = array.buffers()
    if not len(array):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    if data is None:
        return np.zeros(0, np.uint8), bounds - bounds[0]
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def _one_array(text: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if text.num_chunks == 1:
        return text.chunk(0)
    return pa.concat_arrays(text.chunks) if text.num_chunks else pa.array([], text.type)


def _white_space(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The bytes of characters for which `str.isspace` holds, bool[b]."""
    import numpy as np

    ascii_table = np.zeros(256, bool)
    ascii_table[[*range(9, 14), *range(28, 33)]] = True
    blank = ascii_table[data]
    at = np.flatnonzero(data[:-1] == 0xC2) if len(data) else np.zeros(0, np.int64)
    at = at[np.isin(data[at + 1], _TWO_BYTES)]
    blank[at] = blank[at + 1] = True
    for lead, rests in _THREE_BYTES.items():
        leads = np.flatnonzero(data[:-2] == lead) if len(data) > 2 else np.zeros(0, np.int64)
        if not len(leads):
            continue
        rest = data[leads + 1].astype(np.uint16) << 8 | data[leads + 2]
        at = leads[np.isin(rest, np.array([high << 8 | low for high, low in rests], np.uint16))]
        blank[at] = blank[at + 1] = blank[at + 2] = True
    return blank


def _runs(
    inside: npt.NDArray[np.bool_], documents: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where runs of `inside` begin and end; a document's end ends a run."""
    import numpy as np

    if not len(inside):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    stops = inside.copy()
    stops[:-1] &= ~inside[1:]
    heads = documents[:-1][documents[:-1] < len(inside)]
    begins[heads] = inside[heads]
    tails = documents[1:][documents[1:] > 0] - 1
    stops[tails] = inside[tails]
    return np.flatnonzero(begins), np.flatnonzero(stops) + 1
