"""Stretches of a long run: its spans, packed, from one clean moment of the loop to another.

What enters: spans, and where to cut. What leaves: `Stretch`es, an eighth as large, and the spans back from them.
Invariant: packing loses nothing; a cut lies where the loop begins a step (or, where it begins none for long, anything
else) with all before it over, so that no part of a step lies on both sides.

Work of the loader does lie on both sides: a stretch has with it the last `MARGIN` spans of work of the one before, so
that the batches its first steps waited for are known.

Columns as differences, their bytes by significance ("byte shuffle", as Blosc and Parquet's BYTE_STREAM_SPLIT have it),
then zstd: 8 of a span's 72 bytes, 0.1 µs a span on a quiet core (measured on a made-up run).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, final

from datapipe.events import DEVICE, FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Spans = npt.NDArray[np.void]

STRETCH: Final = 1 << 17
"""Spans of a stretch, about: 9 MB as they are, and what 16,000 steps of eight spans leave."""
MARGIN: Final = 1 << 12


class Loop(NamedTuple):
    """Numbers of the loop's thread and of the stages that a cut goes by."""

    thread: int
    step: int
    epoch: int


@final
@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One stretch.

    Attributes:
        began, ended: ns on the spans' clock; it ends where the next begins.
        count: spans of its own. steps: of these, steps of the loop. epochs: passes that lie in it.
        number: the largest number of a step until its end, -1 where none has one.
        margin: spans of the stretch before that are packed with it.
        data: margin and own spans, packed; None: left out, of a run that is too long to keep all.
        parts: how many stretches, one after the other, were left out here.
    """

    began: int
    ended: int
    count: int
    steps: int
    epochs: int
    number: int
    margin: int = 0
    data: bytes | None = None
    parts: int = 1

    def spans(self) -> tuple[Spans, Spans]:
        """The margin and its own spans, each by start.

        Raises:
            ValueError: it was left out.
        """
        if self.data is None:
            raise ValueError("a stretch that was left out has no spans")
        both = unpack(self.data, self.margin + self.count)
        return both[: self.margin], both[self.margin :]


@final
@dataclass(frozen=True, kw_only=True)
class LongRun:
    """A run of more spans than are kept as they are.

    Attributes:
        stretches: in order of time, without a hole.
        across: spans of the loop that lie in more than one of them, or in one and in what follows: passes, evaluations.
        newest: the spans after the last stretch, by start; margin: work of before.
        loop: of the run.
    """

    stretches: tuple[Stretch, ...]
    across: Spans
    newest: Spans
    margin: Spans
    loop: Loop

    @property
    def border(self) -> int:
        """When the last stretch ended, ns."""
        return self.stretches[-1].ended

    @property
    def count(self) -> int:
        """Spans of the whole run, those left out too."""
        return sum(each.count for each in self.stretches) + len(self.across) + len(self.newest)

    def tail(self, least: int) -> Spans:
        """At least so many of the newest spans, where they are one stretch after the other, by start."""
        import numpy as np

        parts, found = [self.newest], len(self.newest)
        for stretch in reversed(self.stretches):
            if found >= least or stretch.data is None:
                break
            parts.append(stretch.spans()[1])
            found += stretch.count
        return np.concatenate(parts[::-1])


def loop_of(spans: Spans, *, step: int, epoch: int) -> Loop | None:
    """Whose loop it is: the thread with the most steps; None where there is no step."""
    import numpy as np

    threads = spans["thread"][spans["stage"] == step]
    return Loop(int(np.bincount(threads).argmax()), step, epoch) if len(threads) else None


def on_the_loop(spans: Spans, loop: Loop) -> npt.NDArray[np.bool_]:
    """bool[spans]: what the loop's own thread did itself."""
    mine: npt.NDArray[np.bool_] = (spans["thread"] == loop.thread) & (spans["flags"] & DEVICE == 0)
    return mine


def clean_cut(spans: Spans, loop: Loop, *, until: int, anything: bool = False) -> int | None:
    """The last time up to `until` (ns) at which the loop begins a step, all before it over; None where there is none.

    Args:
        spans: by start.
        loop: whose steps.
        until: no later than this.
        anything: the beginning of whatever the loop does will do.
    """
    import numpy as np

    mine = spans[on_the_loop(spans, loop) & (spans["stage"] != loop.epoch)]
    if len(mine) < 2:
        return None
    mine = mine[np.lexsort((-mine["end"], mine["start"]))]
    reach = np.maximum.accumulate(mine["end"])
    clean = (mine["start"][1:] >= reach[:-1]) & (mine["start"][1:] <= until)
    clean &= mine["start"][1:] > mine["start"][0]
    if not anything:
        clean &= mine["stage"][1:] == loop.step
    found = np.flatnonzero(clean)
    return int(mine["start"][1:][found[-1]]) if len(found) else None


def joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The same, of several that are left out one after the other one made."""
    found: list[Stretch] = []
    for each in stretches:
        before = found[-1] if found else None
        if before is not None and before.data is None and each.data is None:
            found[-1] = replace(
                each, began=before.began, count=before.count + each.count, steps=before.steps + each.steps,
                epochs=before.epochs + each.epochs, parts=before.parts + each.parts,
            )  # fmt: skip
        else:
            found.append(each)
    return found


_DIFFERENCES: Final = ("item", "cause", "start", "get", "end", "put", "bytes", "cpu")


def pack(spans: Spans) -> bytes:
    """Spans as bytes."""
    import numpy as np
    import pyarrow as pa

    start, end = spans["start"], spans["end"]
    columns = (
        spans["item"], spans["cause"], np.diff(start, prepend=start.dtype.type(0)), start - spans["get"], end - start,
        spans["put"] - end, spans["bytes"], spans["cpu"], spans["stage"], spans["thread"], spans["flags"],
    )  # fmt: skip
    shuffled = [
        np.ascontiguousarray(column).view(np.uint8).reshape(len(spans), column.itemsize).T.tobytes()
        for column in columns
    ]
    packed: bytes = pa.compress(b"".join(shuffled), codec="zstd", asbytes=True)
    return packed


def unpack(data: bytes, count: int) -> Spans:
    """The spans that were packed, `count` of them."""
    import numpy as np
    import pyarrow as pa

    kind = np.dtype(list(FIELDS))
    raw = pa.decompress(data, decompressed_size=count * kind.itemsize, codec="zstd", asbytes=True)
    spans, at = np.empty(count, dtype=kind), 0
    for name in (*_DIFFERENCES, "stage", "thread", "flags"):
        size = kind[name].itemsize
        shuffled = np.frombuffer(raw, np.uint8, count * size, at).reshape(size, count)
        spans[name] = np.ascontiguousarray(shuffled.T).view(kind[name])[:, 0]
        at += count * size
    spans["start"] = np.cumsum(spans["start"])
    spans["get"] = spans["start"] - spans["get"]
    spans["end"] += spans["start"]
    spans["put"] += spans["end"]
    return spans
