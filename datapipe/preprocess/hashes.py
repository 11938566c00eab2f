"""Hash files: one split's 16-byte hashes, sorted, so that any range of hashes is one ranged read.

What enters: digests and the positions of their rows. What leaves: bytes in the layout below, or the records of a range.

    257 × uint64   where the records of each first byte begin, and where the last ends
    n   × Record   sorted by hash, then position

Invariant: the file does not depend on how many buckets will read it; a bucket is a range of first bytes, so all the
rows that share a hash are in one bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.storage import Store

RECORD: Final = (("high", "<u8"), ("low", "<u8"), ("position", "<u4"))
"""The hash as two numbers, most significant first, and the row's position in its split."""
_HEADER: Final = 257 * 8


def record_type() -> np.dtype[np.void]:
    """`RECORD` as a numpy dtype: 20 bytes."""
    import numpy as np

    return np.dtype(list(RECORD))


def digests_of(column: Any) -> npt.NDArray[np.uint8]:
    """A fixed_size_binary[16] column as uint8[n, 16]."""
    import numpy as np

    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * 16 : (chunk.offset + len(chunk)) * 16]
        for chunk in getattr(column, "chunks", [column])
        if len(chunk)
    ]
    return np.concatenate(parts).reshape(-1, 16) if parts else np.zeros((0, 16), np.uint8)


def digests_of_ids(ids: list[str]) -> npt.NDArray[np.uint8]:
    """xxh3_128 of each id's UTF-8 bytes: uint8[n, 16]."""
    import numpy as np
    from xxhash import xxh3_128_digest

    return np.frombuffer(b"".join(xxh3_128_digest(each.encode()) for each in ids), np.uint8).reshape(-1, 16)


def encode_hashes(digests: npt.NDArray[np.uint8], positions: npt.NDArray[np.integer[Any]]) -> bytes:
    """The bytes of a hash file.

    Args:
        digests: uint8[n, 16], big-endian.
        positions: integers[n] below 2^32.
    """
    import numpy as np

    words = np.ascontiguousarray(digests).view(">u8")
    records = np.zeros(len(digests), record_type())
    records["high"], records["low"], records["position"] = words[:, 0], words[:, 1], positions
    records = records[np.lexsort((records["position"], records["low"], records["high"]))]
    first = (records["high"] >> np.uint64(56)).astype(np.int64)
    begins = np.searchsorted(first, np.arange(257)).astype("<u8")
    return begins.tobytes() + records.tobytes()


def read_hashes(store: Store, path: str, low: int = 0, high: int = 256) -> npt.NDArray[np.void]:
    """The records whose first byte is in [low, high), sorted.

    Raises:
        StorageError: the file is not there, or is cut short (IntegrityError).
    """
    import numpy as np

    header = store.read(path, 0, _HEADER)
    if len(header) != _HEADER:
        raise IntegrityError(f"{path}: {len(header)} bytes", expected="a hash file", fix="run again with --fresh")
    begins = np.frombuffer(header, "<u8")
    start, end = int(begins[low]), int(begins[high])
    if start == end:
        return np.zeros(0, record_type())
    size = record_type().itemsize
    return np.frombuffer(store.read(path, _HEADER + start * size, _HEADER + end * size), record_type())
