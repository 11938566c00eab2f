"""The shingles of a split's documents, their sizes and scores, found by position.

    uint32[…]    the kept shingles of each document, one document after the other
    records      (begin uint64, position, size, kept uint32, score float64, check uint64), by position
    uint64[2]    how many records, and a magic number

What enters: batches of documents. What leaves: a file, and the documents of it that are asked for. Invariant: of the
shingles one batch is held while writing; of what is read, the table (36 bytes a document; of a local file the parts
that are looked at) and what was asked for, which is checked: a document's `check` is of its record and its shingles.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.storage import Store

_MAGIC: Final = 0x32544553_52414E44  # "DNARSET2"
_UNCHECKED: Final = 0x31544553_52414E44  # "DNARSET1", of records without `check`
_TAIL: Final = 16
_GAP: Final = 1 << 16
"""Bytes that are read along rather than asking again."""
_FEW: Final = 1024
"""Of so many documents one is looked up by itself (2 µs) rather than all positions put side by side (1 ns each)."""


def record_type() -> Any:
    """The type of a record of the table."""
    import numpy as np

    return np.dtype(
        [("begin", "<u8"), ("position", "<u4"), ("size", "<u4"), ("kept", "<u4"), ("score", "<f8"), ("check", "<u8")],
        align=False,
    )


def _checks(records: npt.NDArray[np.void], shingles: Iterable[npt.NDArray[np.uint32]]) -> list[int]:
    """Of each document: XXH3 of its record, but for where its shingles begin, and of its shingles."""
    import numpy as np
    import xxhash

    seeds = [xxhash.xxh3_64_intdigest(row) for row in _told(records)]
    return [
        xxhash.xxh3_64_intdigest(np.ascontiguousarray(each).data, seed=seed)
        for seed, each in zip(seeds, shingles, strict=True)
    ]


def _told(records: npt.NDArray[np.void]) -> Iterator[bytes]:
    """What the records say of their documents, as bytes of each."""
    import numpy as np

    names = ("position", "size", "kept", "score")
    table = np.zeros(len(records), np.dtype([(name, record_type()[name]) for name in names]))
    for name in names:
        table[name] = records[name]
    data, width = table.tobytes(), table.itemsize
    return (data[start : start + width] for start in range(0, len(data), width))


@final
class SetsWriter:
    """Appends batches to a local file."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: PTH123, SIM115  (closed by `close`)
        self._records: list[npt.NDArray[np.void]] = []
        self._shingles = 0
        self.rows = 0

    def add(
        self,
        positions: npt.NDArray[np.uint32],
        sizes: npt.NDArray[np.uint32],
        scores: npt.NDArray[np.float64],
        shingles: npt.NDArray[np.uint32],
        offsets: npt.NDArray[np.integer[Any]],
    ) -> None:
        """One batch: arrays of n documents in the order of their positions, their kept shingles, offsets int[n + 1]."""
        import numpy as np

        records = np.zeros(len(positions), record_type())
        records["begin"] = offsets[:-1].astype(np.int64) - int(offsets[0]) + self._shingles
        records["position"], records["size"], records["score"] = positions, sizes, scores
        records["kept"] = np.diff(offsets)
        cuts = (offsets.astype(np.int64) - int(offsets[0])).tolist()
        part = np.ascontiguousarray(shingles[int(offsets[0]) : int(offsets[-1])], "<u4")
        records["check"] = _checks(records, (part[a:b] for a, b in itertools.pairwise(cuts)))
        self._file.write(part.data)
        self._records.append(records)
        self._shingles += len(part)
        self.rows += len(records)

    def close(self) -> None:
        """End the file; a second call does nothing."""
        import numpy as np

        if self._file.closed:
            return
        try:
            for records in self._records:
                self._file.write(records.tobytes())
            self._file.write(np.array([self.rows, _MAGIC], "<u8").tobytes())
        finally:
            self._file.close()


@final
class SetsFile:
    """One sets file, open for reading."""

    def __init__(self, store: Store, path: str) -> None:
        """Read the table.

        Raises:
            IntegrityError: it is no sets file, or is cut short.
        """
        import numpy as np

        self._store = store
        self._path = path
        size = store.info(path).size
        tail = np.frombuffer(store.read(path, size - _TAIL, size) if size >= _TAIL else b"", "<u8")
        magic = int(tail[1]) if len(tail) == 2 else 0
        self._checked = magic == _MAGIC
        kind = record_type()
        if magic == _UNCHECKED:
            kind = np.dtype([field for field in kind.descr if field[0] != "check"])
            self._check_whole()
        table = int(tail[0]) * kind.itemsize if len(tail) == 2 else 0
        if magic not in (_MAGIC, _UNCHECKED) or table + _TAIL > size:
            raise IntegrityError(f"{path}: {size} bytes", expected="a whole sets file", fix="run again with --fresh")
        start = size - _TAIL - table
        local = store.local_path(path) if table > _GAP else None
        self.records: npt.NDArray[np.void]
        if local is not None:
            # A split of 64 MB has 1.6 MB of table, and may be asked for one document.
            self.records = np.asarray(np.memmap(local, kind, "r", offset=start, shape=(table // kind.itemsize,)))
        else:
            self.records = np.frombuffer(store.read(path, start, size - _TAIL), kind)
        self.held = 0 if local is not None else table
        """Bytes of the table that are in memory."""

    def _check_whole(self) -> None:
        """Of a file whose records have no checksums: its name is the checksum of all of it."""
        from datapipe.storage import checksum_bytes

        name = self._path.rpartition("/")[2].partition(".")[0]
        if self._path.startswith("index/") and checksum_bytes(self._store.read(self._path)) != name:
            raise self._damaged()

    def _damaged(self) -> IntegrityError:
        return IntegrityError(
            f"{self._store.url}/{self._path} is damaged",
            expected="shingles as they were written",
            fix="restore the file from a copy, or run without --append to make the dataset anew",
        )

    def rows_of(self, positions: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """The numbers of the records of these positions, all of which must be there."""
        import numpy as np

        known = self.records["position"]
        found: npt.NDArray[np.int64]
        if _FEW * len(positions) < len(known):
            # Each by itself: numpy would have all of the column side by side first.
            found = np.array([bisect.bisect_left(known, position) for position in positions.tolist()], np.int64)
        else:
            found = np.searchsorted(known, positions)
        inside = found < len(known)
        if not inside.all() or (known[found] != positions).any():
            raise IntegrityError(
                f"{self._path} lacks a document that shares a band",
                expected="sets and bands of the same documents",
                fix="run again with --fresh",
            )
        return found

    def shingles(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint32]]:
        """The kept shingles of the records with these numbers (ascending)."""
        import numpy as np

        begins = self.records["begin"][rows].astype(np.int64)
        ends = begins + self.records["kept"][rows].astype(np.int64)
        found: list[npt.NDArray[np.uint32]] = []
        for first, last in spans(begins.tolist(), ends.tolist(), _GAP // 4):
            low = int(begins[first])
            data = np.frombuffer(self._store.read(self._path, 4 * low, 4 * int(ends[last - 1])), "<u4")
            found += [data[begins[i] - low : ends[i] - low] for i in range(first, last)]
        if self._checked and _checks(self.records[rows], found) != self.records["check"][rows].tolist():
            raise self._damaged()
        return found


def spans(begins: Sequence[int], ends: Sequence[int], gap: int) -> list[tuple[int, int]]:
    """Ascending ranges put together where less than `gap` lies between: [first, last) of each run."""
    runs: list[tuple[int, int]] = []
    first = 0
    for place in range(1, len(begins) + 1):
        if place == len(begins) or begins[place] - ends[place - 1] > gap:
            runs.append((first, place))
            first = place
    return runs if begins else []
