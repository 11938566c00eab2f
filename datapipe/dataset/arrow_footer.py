"""Where an Arrow IPC file's record batches lie and how many rows they hold, without their rows.

What enters: an open Arrow IPC file. What leaves: per record batch its rows, its size uncompressed and a digest.
Invariant: of a record batch only its message header, eight bytes of each compressed buffer and its two ends are read.

pyarrow tells neither where batches lie nor how many rows one holds before it has read, and decompressed, all of it. So
the few fields that are needed are taken from the FlatBuffers themselves: Footer {2: dictionaries, 3: recordBatches},
Message {2: header, 3: bodyLength} and RecordBatch {0: length, 2: buffers, 3: compression} of the format's File.fbs and
Message.fbs, columnar format version 1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, final

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC: Final = b"ARROW1"
SAMPLE: Final = 64 << 10
"""Bytes at either end of a record batch that its digest sees."""
_CONTINUATION: Final = 0xFFFFFFFF
_RECORD_BATCH: Final = 3  # MessageHeader's tag


_BLOCK: Final = "<qixxxxq"

Block = tuple[int, int, int]
"""Where a message of the file lies: its offset, its header's length, its body's."""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """One record batch: rows, bytes of its buffers uncompressed, where in the file it ends, a digest of its ends."""

    rows: int
    size: int
    end: int
    digest: bytes


def batch_summaries(file: BinaryIO) -> list[BatchSummary]:
    """The record batches of an Arrow IPC file, in order.

    Raises:
        ValueError, struct.error: it is not one, it is cut, or its metadata is damaged.
    """
    size = file.seek(0, 2)
    tail = _at(file, size - 10, 10)
    (length,) = struct.unpack("<i", tail[:4])
    if tail[4:] != MAGIC or not 0 < length <= size - 10:
        raise ValueError("it does not end as an Arrow file does")
    return summaries_of(file, *footer_blocks(_at(file, size - 10 - length, length)))


def summaries_of(file: BinaryIO, places: list[Block], blocks: list[Block]) -> list[BatchSummary]:
    """The same of a file whose footer lists these dictionaries and batches."""
    dictionaries = b"".join(_digest(file, block) for block in places)
    summaries = [_summary(file, block) for block in blocks]
    if dictionaries and summaries:
        first = summaries[0]
        summaries[0] = BatchSummary(first.rows, first.size, first.end, first.digest + dictionaries)
    return summaries


def footer_blocks(footer: bytes) -> tuple[list[Block], list[Block]]:
    """The dictionaries and the record batches that a footer lists.

    Raises:
        ValueError, struct.error: its metadata is damaged.
    """
    table = _Table.root(footer)
    return list(table.structs(2, _BLOCK)), list(table.structs(3, _BLOCK))  # type: ignore[arg-type]  # three numbers each


def sampled(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    """The byte ranges [start, end) that summaries of these blocks are made of, compressed buffers apart."""
    spans = []
    for offset, header, body in blocks:
        end = offset + header + body
        spans += [(offset, min(end, offset + header + SAMPLE)), (max(offset, end - SAMPLE), end)]
    return spans


def prefixes(block: Block, header: bytes) -> list[tuple[int, int]]:
    """The byte ranges of the lengths that compressed buffers of a record batch begin with."""
    body = block[0] + block[1]
    if _batch(header).place(3) is None:
        return []
    return [(body + start, body + start + 8) for start, length in batch_buffers(header) if length >= 8]


def batch_buffers(header: bytes) -> list[tuple[int, int]]:
    """Where a record batch's buffers lie in its body, (offset, length) each, from its message header.

    Raises:
        ValueError, struct.error: its metadata is damaged.
    """
    return list(_batch(header).structs(2, "<qq"))  # type: ignore[arg-type]  # two numbers each


def _batch(header: bytes) -> _Table:
    (mark,) = struct.unpack_from("<I", header)
    message = _Table.root(header[8 if mark == _CONTINUATION else 4 :])
    if message.number(1, "<B") != _RECORD_BATCH:
        raise ValueError("a block of the footer is no record batch")
    return message.table(2)


def _summary(file: BinaryIO, block: Block) -> BatchSummary:
    offset, header_bytes, _ = block
    batch = _batch(_at(file, offset, header_bytes))
    compressed = batch.place(3) is not None
    body = offset + header_bytes
    total = 0
    for start, length in batch.structs(2, "<qq"):
        plain = struct.unpack("<q", _at(file, body + start, 8))[0] if compressed and length >= 8 else -1
        total += length if plain < 0 else plain  # -1: this buffer did not shrink and is stored as it is
    rows = batch.number(0, "<q")
    if rows < 0 or total < 0:
        raise ValueError("its metadata is damaged")
    return BatchSummary(rows, total, body + block[2], _digest(file, block))


def _digest(file: BinaryIO, block: Block) -> bytes:
    offset, header_bytes, body_bytes = block
    whole = header_bytes + body_bytes
    digest = xxhash.xxh3_128(f"{header_bytes}:{body_bytes};".encode())
    digest.update(_at(file, offset, min(whole, header_bytes + SAMPLE)))
    digest.update(_at(file, offset + max(0, whole - SAMPLE), min(whole, SAMPLE)))
    return digest.digest()


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    # Checked before anything is allocated: a damaged length may be any number.
    if offset < 0 or length < 0 or offset + length > file.seek(0, 2):
        raise ValueError("it is cut short, or its metadata is damaged")
    file.seek(offset)
    return file.read(length)


@final
class _Table:
    """A FlatBuffers table: `place` finds a field, the rest read it."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        vtable = at - struct.unpack_from("<i", data, at)[0]
        if vtable < 0:
            raise ValueError("its metadata is damaged")
        (length,) = struct.unpack_from("<H", data, vtable)
        self._fields = struct.unpack_from(f"<{max(0, length - 4) // 2}H", data, vtable + 4)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The table that a buffer is."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def place(self, field: int) -> int | None:
        """Where the field's value is; None where it is left out."""
        found = self._fields[field] if field < len(self._fields) else 0
        return self._at + found if found else None

    def number(self, field: int, kind: str) -> int:
        """A number; 0 where it is left out."""
        place = self.place(field)
        return 0 if place is None else int(struct.unpack_from(kind, self._data, place)[0])

    def table(self, field: int) -> _Table:
        """A table within this one."""
        place = self._place(field)
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def structs(self, field: int, kind: str) -> Iterator[tuple[int, ...]]:
        """The elements of a vector of structs; none where it is left out."""
        if self.place(field) is None:
            return
        place = self._place(field)
        start = place + struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, start)
        size = struct.calcsize(kind)
        for i in range(count):
            yield struct.unpack_from(kind, self._data, start + 4 + i * size)

    def _place(self, field: int) -> int:
        place = self.place(field)
        if place is None:
            raise ValueError("its metadata is damaged")
        return place
