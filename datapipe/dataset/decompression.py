"""How much of decoding a Parquet row group is decompression: measured on a sample, while a profile records.

What enters: the stored bytes of a row group, and what decoding it cost. What leaves: the share of that which
decompressing takes, and a "decompress" span inside the time of "decode".
Invariant: without a recorder nothing is read, timed or computed; rows are never touched by it.

Arrow decompresses and decodes in one call, so the two cannot be clocked apart as they happen. But a page's bytes can be
decompressed once more: one row group in `EVERY` is, page by page, on the CPU clock of its own thread, and its CPU time
over the decoding's is the share; those of all samples so far are averaged. So the split costs at most 1 / `EVERY` of
the decoding, and is an estimate for the row groups between two samples.

Pages: https://github.com/apache/parquet-format (PageHeader: thrift's compact protocol; a version-2 page keeps its
levels uncompressed before its values).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.dataset.byte_ranges import ByteRanges
    from datapipe.events import Recorder

EVERY: Final = 128
_MOST: Final = 0.95
"""Of a decoding: the rest is at least the rows' way into Arrow."""
_CODECS: Final = {"SNAPPY": "snappy", "ZSTD": "zstd", "GZIP": "gzip", "BROTLI": "brotli", "LZ4": "lz4_raw"}
_STRUCT: Final = 12
_DEPTH: Final = 8
"""Structs within structs; a page header's statistics are the third."""


class Page(NamedTuple):
    """A page in its chunk: where its data begins, how much of it is levels, bytes stored and decompressed."""

    start: int
    levels: int
    stored: int
    size: int
    compressed: bool


@final
class Decompression:
    """The share of decoding that is decompression, for the row groups of one set of columns; shared by threads."""

    def __init__(self) -> None:
        self._seen = 0
        self._cpu = 0.0
        self._of = 0.0

    def begin(self, recorder: Recorder, meta: Any, group: int, leaves: list[int], file: ByteRanges) -> _Decoding | None:
        """A decoding begins on this thread; None where nothing is compressed as we know it."""
        chunks = [meta.row_group(group).column(leaf) for leaf in leaves]
        packed = [chunk for chunk in chunks if chunk.compression in _CODECS]
        if not packed:
            return None
        sampled, self._seen = self._seen % EVERY == 0, self._seen + 1
        return _Decoding(self, recorder, packed, file, sampled=sampled)

    def learn(self, cpu: int, of: int) -> None:
        """Decompressing took `cpu` ns where decoding took `of`."""
        self._cpu += cpu
        self._of += of

    @property
    def share(self) -> float:
        """Of a decoding's time, 0 to 1; 0 before the first sample."""
        return min(_MOST, self._cpu / self._of) if self._of > 0 else 0.0


@final
class _Decoding:
    """One row group being decoded."""

    def __init__(
        self, owner: Decompression, recorder: Recorder, chunks: list[Any], file: ByteRanges, *, sampled: bool
    ) -> None:
        self._owner = owner
        self._recorder = recorder
        self._chunks = chunks
        self._file = file
        self._sampled = sampled
        self._cpu = time.thread_time_ns()
        self._start = time.perf_counter_ns()

    def end(self) -> None:
        """It is decoded: say how much of the time was decompression."""
        end, cpu = time.perf_counter_ns(), time.thread_time_ns() - self._cpu
        if self._sampled:
            again = sum(_decompress_again(chunk, self._file) for chunk in self._chunks)
            self._owner.learn(again, max(cpu, again))
        share = self._owner.share
        start, until = self._start, self._start + int((end - self._start) * share)
        if until > start:
            size = sum(chunk.total_compressed_size for chunk in self._chunks)
            stage = self._recorder.stage("decompress")
            self._recorder.ring().write(stage, -1, start, start, until, until, size, int(cpu * share))


def _decompress_again(chunk: Any, file: ByteRanges) -> int:
    """Ns of CPU time that the pages of one column chunk take to decompress; 0 where they are not as expected."""
    import pyarrow as pa

    first = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    codec, taken = _CODECS[chunk.compression], 0
    try:
        file.seek(first)
        data = memoryview(file.read(chunk.total_compressed_size))
        for page in pages(data):
            if page.size > chunk.total_uncompressed_size:
                return 0
            if page.compressed and page.stored > page.levels:
                part = data[page.start + page.levels : page.start + page.stored]
                began = time.thread_time_ns()
                pa.decompress(part, decompressed_size=page.size - page.levels, codec=codec, asbytes=False)
                taken += time.thread_time_ns() - began
    except (OSError, ValueError, pa.ArrowException):
        return 0  # decoding has said already what is wrong with it, if anything is
    return taken


def pages(data: memoryview) -> Iterator[Page]:
    """The pages of a column chunk, in order.

    Args:
        data: the chunk's stored bytes.

    Raises:
        ValueError: a header is cut short or damaged.
    """
    at = 0
    while at < len(data):
        try:
            header, at = _struct(data, at, 0)
            levels, compressed = 0, True
            if isinstance(second := header.get(8), dict):
                levels = second.get(5, 0) + second.get(6, 0)
                compressed = bool(second.get(7, True))
            levels, size, stored = int(levels), int(header[2]), int(header[3])
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(f"a page header is damaged ({error})") from None
        # A length below 0 would lead back to where it came from.
        if min(levels, size, stored) < 0 or at + stored > len(data):
            raise ValueError("a page header is damaged")
        yield Page(at, levels, stored, size, compressed)
        at += stored


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits in a page header")


def _struct(data: memoryview, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """A thrift struct in the compact protocol: field number → value."""
    if depth > _DEPTH:
        raise ValueError("a page header nests too deeply")
    found: dict[int, Any] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return found, at
        if head >> 4:
            field += head >> 4
        else:
            step, at = _varint(data, at)
            field = (step >> 1) ^ -(step & 1)
        found[field], at = _value(data, at, head & 0x0F, depth)


def _value(data: memoryview, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A value of a compact type: 1 and 2 are booleans, 3 a byte, 4 to 6 zigzag, 7 a double, 8 bytes, 9 and 10 lists."""
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        raw, at = _varint(data, at)
        return (raw >> 1) ^ -(raw & 1), at
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        return bytes(data[at : at + length]), at + length
    if kind in (9, 10):
        head = data[at]
        count, at = (head >> 4, at + 1) if head >> 4 < 15 else _varint(data, at + 1)
        if count > len(data) or depth > _DEPTH:  # each element takes a byte at least
            raise ValueError("a list in a page header is longer than the page")
        for _ in range(count):
            _, at = _value(data, at, 3 if head & 0x0F in (1, 2) else head & 0x0F, depth + 1)
        return None, at
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    raise ValueError(f"thrift type {kind} in a page header")
