"""Files of fixed-size records, sorted, that are read by ranges of a hash: what is joined over the whole corpus.

    uint64[4097]  where the records of each class begin (a class: the leading 12 bits of the first field), little-endian
    records       sorted by their fields, left to right

What enters: arrays of records in any order. What leaves: a file, and ranges of it. Invariant: the file is a function of
the set of records; memory while it is written is `SPILL` bytes and one class, while a range is read that of the range.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import IntegrityError

if TYPE_CHECKING:
    import contextlib
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.work import WorkFolder
    from datapipe.storage import Store

CLASSES: Final = 4096
SPILL: Final = 64 << 20
"""Bytes of records that are held before they are sorted into a scratch file."""
_HEADER: Final = 8 * (CLASSES + 1)


def put_records(file: BinaryIO, records: npt.NDArray[Any]) -> None:
    """Append an array to a file.

    Not by `ndarray.tofile`: on a full disk it loses the last 4 KiB without a word (numpy ignores what `fclose` says).

    Raises:
        OSError: they cannot be written; some of it comes where the file is closed.
    """
    import numpy as np

    file.write(np.ascontiguousarray(records).data)


@final
class RecordWriter:
    """Sorts records of one type into a file, beyond memory where need be."""

    def __init__(self, kind: str, work: WorkFolder, stack: contextlib.ExitStack, *, distinct: bool = False) -> None:
        """`stack` removes the scratch files; `distinct`: equal records are written once."""
        self._kind = kind
        self._work = work
        self._stack = stack
        self._distinct = distinct
        self._held: list[npt.NDArray[np.void]] = []
        self._bytes = 0
        self._runs: list[tuple[str, npt.NDArray[np.int64]]] = []

    def add(self, records: npt.NDArray[np.void]) -> None:
        """Take an array of records; its first field is a uint64 whose leading bits are the class."""
        if len(records):
            self._held.append(records)
            self._bytes += records.nbytes
            if self._bytes >= SPILL:
                self._spill()

    def finish(self) -> tuple[str, int] | None:
        """The local file (a scratch file: move it, or it is removed) and its records; None where there are none."""
        import numpy as np

        if not self._runs:
            records, begins = self._sorted()
            if not len(records):
                return None
            path = self._stack.enter_context(self._work.scratch_file(self._kind))
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(begins.astype("<u8").tobytes())
                put_records(file, records)
            return path, len(records)
        kind = self._spill()
        path = self._stack.enter_context(self._work.scratch_file(self._kind))
        counts = np.zeros(CLASSES + 1, np.int64)
        runs = [(np.memmap(run, kind, mode="r"), begins) for run, begins in self._runs]
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(bytes(_HEADER))
            for number in range(CLASSES):
                part = np.concatenate([run[begins[number] : begins[number + 1]] for run, begins in runs])
                part = in_order(part, distinct=self._distinct)
                put_records(file, part)
                counts[number + 1] = len(part)
            file.seek(0)
            file.write(np.cumsum(counts).astype("<u8").tobytes())
        return path, int(counts.sum())

    def _spill(self) -> Any:
        """What is held, into a scratch file; the type of the records."""
        import numpy as np

        if self._held:
            records, begins = self._sorted()
            path = self._stack.enter_context(self._work.scratch_file(self._kind))
            with open(path, "wb") as file:  # noqa: PTH123
                put_records(file, records)
            self._runs.append((path, begins))
            self._kept_type = records.dtype
        return np.dtype(self._kept_type)

    def _sorted(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        import numpy as np

        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return np.zeros(0, np.void), np.zeros(CLASSES + 1, np.int64)
        records = in_order(np.concatenate(held), distinct=self._distinct)
        return records, begins_of(records)


def in_order(records: npt.NDArray[np.void], *, distinct: bool = False) -> npt.NDArray[np.void]:
    """Records sorted by their fields, left to right; `distinct`: equal ones once."""
    import numpy as np

    names = records.dtype.names or ()
    records = records[np.lexsort([records[name] for name in reversed(names)])]
    if distinct and len(records):
        new = np.zeros(len(records), bool)
        new[0] = True
        for name in names:
            new[1:] |= records[name][1:] != records[name][:-1]
        records = records[new]
    return records


def begins_of(records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Where each class begins in sorted records: int64[CLASSES + 1]."""
    import numpy as np

    first = records[(records.dtype.names or ("",))[0]]
    return np.searchsorted(first >> np.uint64(52), np.arange(CLASSES + 1, dtype=np.uint64))


def read_begins(store: Store, path: str, low: int = 0, high: int = CLASSES) -> npt.NDArray[np.int64]:
    """Where the classes low … high - 1 begin and the last of them ends: int64[high - low + 1].

    Raises:
        IntegrityError: the file is cut short.
    """
    import numpy as np

    data = store.read(path, 8 * low, 8 * (high + 1))
    if len(data) != 8 * (high - low + 1):
        raise _cut_short(path)
    return np.frombuffer(data, "<u8").astype(np.int64)


def read_records(store: Store, path: str, kind: Any, begin: int, end: int) -> npt.NDArray[np.void]:
    """Records number begin … end - 1.

    Raises:
        IntegrityError: the file is cut short.
    """
    import numpy as np

    size = np.dtype(kind).itemsize
    if begin == end:
        return np.zeros(0, kind)
    data = store.read(path, _HEADER + begin * size, _HEADER + end * size)
    if len(data) != (end - begin) * size:
        raise _cut_short(path)
    return np.frombuffer(data, kind)


def class_ranges(counts: npt.NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Cut classes into runs of at most `limit` records (or one class): [low, high) of each.

    Args:
        counts: int64[c], the records of each class over all files.
    """
    ranges: list[tuple[int, int]] = []
    low = held = 0
    for number, count in enumerate(counts.tolist()):
        if held and held + count > limit:
            ranges.append((low, number))
            low, held = number, 0
        held += count
    if held:
        ranges.append((low, len(counts)))
    return ranges


def _cut_short(path: str) -> IntegrityError:
    return IntegrityError(
        f"{os.path.basename(path)} is shorter than its own table says",  # noqa: PTH119
        expected="a whole record file",
        fix="run again with --fresh",
    )
