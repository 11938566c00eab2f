"""Runs: what one delivery has left to be compared with, sorted by a hash, so that a few hashes cost a few reads.

    header   64 bytes: magic, first class, end class, slots, bytes of a record, records, 0, checksum of these
    records  sorted by their first field, a hash (uint64), then by the others
    table    one entry for each slot of hashes and one more: where its records begin, and their checksum

A class is the leading 12 bits of a hash (`record_file`); slots are equal ranges of hashes, some 64 records each.

What enters: records of a range of classes, in order. What leaves: the file; later the records of the hashes asked for.
Invariant: the file is a function of its records; what is read is in proportion to the hashes asked for and not to the
file, and every byte of it is checked by a checksum of its own before it is believed.
"""

from __future__ import annotations

import itertools
import os
import struct
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import IntegrityError
from datapipe.preprocess.near.record_file import CLASSES, put_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.storage import Store

    Keys = npt.NDArray[np.uint64]
    Ints = npt.NDArray[np.int64]

_MAGIC: Final = 0x31_4E555250_444150  # "PADPRUN1"
_HEADER: Final = 64
_ENTRY: Final = 16
_SHIFT: Final = 64 - (CLASSES.bit_length() - 1)
"""From a hash to its class."""
SLOT: Final = 64
"""Records in a slot, about: 1.5 to 3 kB, less than a disk's page or two, and a table of 1% of the file."""
_CHUNK: Final = 1 << 20
_SLOTS_AT_ONCE: Final = 1024
"""Slots of a local file that are checked and then looked through: 2 MB, which a processor's cache still holds."""
_GAP: Final = 64 << 10
"""Bytes that are read along from a remote store rather than asking again."""


@final
class RunWriter:
    """Writes one run to a local file.

    Args:
        low, high: classes [low, high) that the records are of. kind: their type; its first field is the hash.
    """

    def __init__(self, path: str, kind: Any, low: int, high: int) -> None:
        import numpy as np

        self._kind = np.dtype(kind)
        self._path = path
        self._low, self._high = low, high
        self._file = open(path, "w+b")  # noqa: PTH123, SIM115  (closed by `finish`)
        self._file.write(bytes(_HEADER))
        self.rows = 0

    def add(self, records: npt.NDArray[np.void]) -> None:
        """Append records, which are in order and not before those that were appended."""
        put_records(self._file, records)
        self.rows += len(records)

    def finish(self) -> None:
        """Write the table, then the header."""
        import numpy as np

        slots = max(1, self.rows // SLOT)
        counts = np.zeros(slots, np.int64)
        self._file.flush()
        records = _mapped(self._path, self._kind, _HEADER, self.rows)
        name = (self._kind.names or ("",))[0]
        for start in range(0, self.rows, _CHUNK):
            part = _slots(np.asarray(records[start : start + _CHUNK][name]), self._low, self._high, slots)
            counts[: part[-1] + 1] += np.bincount(part)
        table = np.zeros(slots + 1, _entry())
        table["begin"][1:] = np.cumsum(counts)
        begins = table["begin"].tolist()
        for start in range(0, slots, _CHUNK // SLOT):
            end = min(slots, start + _CHUNK // SLOT)
            data = np.ascontiguousarray(records[begins[start] : begins[end]]).view(np.uint8).data
            cuts = [(begin - begins[start]) * self._kind.itemsize for begin in begins[start : end + 1]]
            table["check"][start:end] = [
                _check(data[a:b], slot) for slot, (a, b) in enumerate(itertools.pairwise(cuts), start)
            ]
        put_records(self._file, table)
        self._file.seek(0)
        header = struct.pack("<7Q", _MAGIC, self._low, self._high, slots, self._kind.itemsize, self.rows, 0)
        self._file.write(header + struct.pack("<Q", _check(header, 0)))
        self._file.close()

    def close(self) -> None:
        """Let the file go, finished or not."""
        self._file.close()


@final
class Run:
    """One run, opened: its header has been read, and its length is what that says."""

    def __init__(self, store: Store, path: str, kind: Any) -> None:
        """Read the header.

        Raises:
            IntegrityError, NotFoundError: it is damaged, or of other records, or gone.
        """
        import numpy as np

        self._store, self._path, self._kind = store, path, np.dtype(kind)
        size = store.info(path).size
        header = store.read(path, 0, _HEADER) if size >= _HEADER else b""
        if not header or _check(header[:-8], 0) != struct.unpack("<Q", header[-8:])[0]:
            raise self._damaged("its header is damaged")
        magic, self.low, self.high, self._slots, item, self.rows, _ = struct.unpack("<7Q", header[:-8])
        self._table = _HEADER + self.rows * item
        if magic != _MAGIC or item != self._kind.itemsize or size != self._table + (self._slots + 1) * _ENTRY:
            raise self._damaged(f"{size:,} bytes")
        if not self._slots or not self.low < self.high <= CLASSES:
            raise self._damaged(f"{self._slots} slots of classes {self.low} to {self.high}")
        local = store.local_path(path)
        # Only the pages that are touched are read. A plain array: each cut of a memmap costs as much as ten of these.
        self._map = None if local is None else np.asarray(_mapped(local, np.uint8, 0, size))

    def matching(self, keys: Keys) -> npt.NDArray[np.void]:
        """The records whose hash is one of `keys` (ascending, distinct), in order.

        Raises:
            IntegrityError: what was read of it is damaged.
        """
        import numpy as np

        classes = keys >> np.uint64(_SHIFT)
        keys = keys[(classes >= self.low) & (classes < self.high)]
        if not self.rows or not len(keys):
            return np.zeros(0, self._kind)
        slots = _slots(keys, self.low, self.high, self._slots)  # ascending, as the keys are
        begin = np.append(np.flatnonzero(np.diff(slots, prepend=-1)), len(slots))
        wanted = slots[begin[:-1]]
        step = len(wanted) if self._map is None else _SLOTS_AT_ONCE
        found = [np.zeros(0, self._kind)]
        for first in range(0, len(wanted), step):
            last = min(first + step, len(wanted))
            records, begins, ends = self._of(wanted[first:last])
            at = np.repeat(np.arange(last - first), np.diff(begin[first : last + 1]))
            mine = keys[begin[first] : begin[last]]
            found.append(_equal(records, (self._kind.names or ("",))[0], mine, at, begins, ends))
        return np.concatenate(found)

    def between(self, low: int, high: int) -> npt.NDArray[np.void]:
        """The records of classes [low, high), in order.

        Raises:
            IntegrityError: as `matching`.
        """
        import numpy as np

        low, high = max(low, self.low), min(high, self.high)
        if not self.rows or low >= high:
            return np.zeros(0, self._kind)
        limits = np.array([low << _SHIFT, (high << _SHIFT) - 1], np.uint64)
        first, last = _slots(limits, self.low, self.high, self._slots).tolist()
        records, begins, ends = self._of(np.arange(first, last + 1))
        records = records[int(begins[0]) : int(ends[-1])]
        classes = records[(self._kind.names or ("",))[0]] >> np.uint64(_SHIFT)
        chosen: npt.NDArray[np.void] = records[(classes >= low) & (classes < high)]
        return chosen

    def _of(self, slots: Ints) -> tuple[npt.NDArray[np.void], Ints, Ints]:
        """Records, and where in them those of some slots (ascending) begin and end; these have been checked.

        Of a local file that is all of it, and what is not asked for is not touched.
        """
        import numpy as np
        import xxhash

        if self._map is not None:
            entries = self._map[self._table :].view(_entry())
            begins, ends, checks = entries["begin"][slots], entries["begin"][slots + 1], entries["check"][slots]
        else:
            # A slot ends where the next begins: the entries of both.
            wanted = np.unique(np.concatenate([slots, slots + 1]))
            entries = self._read(self._table, _entry(), wanted, wanted + 1)
            at = np.searchsorted(wanted, slots)
            begins, ends, checks = entries["begin"][at], entries["begin"][at + 1], entries["check"][at]
        if (begins > ends).any() or (ends > self.rows).any():
            raise self._damaged("its table is damaged")
        begins, ends = begins.astype(np.int64), ends.astype(np.int64)
        if self._map is not None:
            records = self._map[_HEADER : self._table].view(self._kind)
        else:
            records = np.ascontiguousarray(self._read(_HEADER, self._kind, begins, ends))
            ends = np.cumsum(ends - begins)
            begins = np.concatenate([[0], ends[:-1]])
        data, size = records.view(np.uint8).data, self._kind.itemsize
        digest = xxhash.xxh3_64_intdigest  # as `_check`: there may be 10^5 of them
        cuts = zip((begins * size).tolist(), (ends * size).tolist(), strict=True)
        for slot, check, (a, b) in zip(slots.tolist(), checks.tolist(), cuts, strict=True):
            if digest(data[a:b], slot) != check:
                raise self._damaged(f"slot {slot} is damaged")
        return records, begins, ends

    def _read(self, offset: int, kind: Any, begins: Ints, ends: Ints) -> Any:
        """Elements [begin, end) of each range (ascending, apart), one after the other, of a store far away."""
        import numpy as np

        kind = np.dtype(kind)
        counts = ends - begins
        gap = max(1, _GAP // kind.itemsize)
        some = np.flatnonzero(counts)
        joins = np.flatnonzero(begins[some][1:] - ends[some][:-1] > gap) + 1
        runs = np.split(some, joins) if len(some) else []
        ranges = [
            (offset + int(begins[run[0]]) * kind.itemsize, offset + int(ends[run[-1]]) * kind.itemsize) for run in runs
        ]
        parts = []
        for run, data in zip(runs, self._store.read_ranges(self._path, ranges), strict=True):
            whole = np.frombuffer(data, kind)
            first = int(begins[run[0]])
            parts += [whole[int(begins[i]) - first : int(ends[i]) - first] for i in run.tolist()]
        return np.concatenate([np.zeros(0, kind), *parts])

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self._store.url}/{self._path}: {what}",
            expected="a whole run of the index, as it was written",
            fix="restore the file from a copy, or run without --append to make the dataset anew",
        )


def matching(store: Store, paths: Sequence[str], kind: Any, keys: Keys) -> npt.NDArray[np.void]:
    """The records of several runs whose hash is one of `keys` (ascending, distinct)."""
    import numpy as np

    return np.concatenate([np.zeros(0, kind), *(Run(store, path, kind).matching(keys) for path in paths)])


def with_split(kind: Any) -> np.dtype[Any]:
    """The type of a run's record: one of a split's file, and the split."""
    import numpy as np

    return np.dtype([*np.dtype(kind).descr, ("split", "<u4")])


def joined(records: npt.NDArray[np.void], splits: npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """Records of a split's file → of a run."""
    import numpy as np

    found = np.zeros(len(records), with_split(records.dtype))
    for name in records.dtype.names or ():
        found[name] = records[name]
    found["split"] = splits
    return found


def parted(records: npt.NDArray[np.void], kind: Any) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    """The inverse of `joined`: records of `kind`, and the split of each."""
    import numpy as np

    kind = np.dtype(kind)
    found = np.zeros(len(records), kind)
    for name in kind.names or ():
        found[name] = records[name]
    return found, records["split"].astype(np.uint32)


def _slots(keys: Keys, low: int, high: int, slots: int) -> Ints:
    """The slot of each hash: its leading 32 bits, from `low` on, scaled to the number of slots."""
    import numpy as np

    place = (keys >> np.uint64(32)) - np.uint64(low << (_SHIFT - 32))
    found: Ints = (place * np.uint64(slots) // np.uint64((high - low) << (_SHIFT - 32))).astype(np.int64)
    return found


def _equal(records: npt.NDArray[np.void], name: str, keys: Keys, at: Ints, begins: Ints, ends: Ints) -> Any:
    """The records whose `name` is one of `keys` (ascending): each lies, if at all, in its slot, [begins, ends)[at].

    Where most of what lies there is asked for anyway, its hashes are put side by side and searched by numpy. Else by
    halving, all keys at once, in place: some bytes of a slot are looked at, and records that are found are copied.
    """
    import numpy as np

    values = records[name]
    low, high = begins[at], ends[at]
    if (begins[1:] == ends[:-1]).all() and int(ends[-1] - begins[0]) <= SLOT * len(keys):
        start = int(begins[0])
        side_by_side = np.ascontiguousarray(values[start : int(ends[-1])])
        first = np.searchsorted(side_by_side, keys) + start
        some = _hits(values, keys, first, high)
        after = np.searchsorted(side_by_side, keys[some], side="right") + start
    else:
        first = _halved(values, keys, low, high, after=False)
        some = _hits(values, keys, first, high)
        after = _halved(values, keys[some], first[some], high[some], after=True)
    counts = after - first[some]
    starts = np.cumsum(counts) - counts
    return records[np.repeat(first[some] - starts, counts) + np.arange(int(counts.sum()))]


def _hits(values: Any, keys: Keys, first: Ints, high: Ints) -> Ints:
    """Which keys are there: the first value that is not below the key is the key itself."""
    import numpy as np

    inside = np.flatnonzero(first < high)
    found: Ints = inside[values[first[inside]] == keys[inside]]
    return found


def _halved(values: Any, keys: Keys, low: Ints, high: Ints, *, after: bool) -> Ints:
    """For each key the place in [low, high), where values ascend, of the first that is not below it, or is above."""
    import numpy as np

    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = np.minimum((low + high) >> 1, len(values) - 1)
        there = values[middle]
        right = ((there <= keys) if after else (there < keys)) & (low < high)
        low, high = np.where(right, middle + 1, low), np.where(right, high, np.minimum(middle, high))
    return low


def _entry() -> Any:
    import numpy as np

    return np.dtype([("begin", "<u8"), ("check", "<u8")])


def _check(data: Any, slot: int) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(data, seed=slot)


def _mapped(path: str, kind: Any, offset: int, count: int) -> Any:
    import numpy as np

    if not count:
        return np.zeros(0, kind)
    if os.path.getsize(path) < offset + count * np.dtype(kind).itemsize:  # noqa: PTH202  (a plain path)
        raise IntegrityError(f"{path} was cut short", expected="a file as long as it was", fix="restore it from a copy")
    return np.memmap(path, kind, mode="r", offset=offset, shape=(count,))
