"""Windows of sounds in the published shards: which there are of a sound, and which sound a window is of.

What enters: a stored run whose sounds were cut by `audio_windows`, ids of sounds and of windows ("<sound>#<frame>", as
the shards have them). What leaves: windows with their places. Invariant: a window is told by the shards' own rows; a
row of the input whose own id reads like a window's is still that row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import InputError
from datapipe.preprocess.row_in_shards import InShards, columns_of, every_shard, held, place_of
from datapipe.steps.audio_bytes import FRAMES, RATE
from datapipe.steps.audio_windows import SPEC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from datapipe.preprocess.stored_run import StoredRun
    from datapipe.preprocess.suppression import Suppression

_SHOWN: Final = 3


@final
@dataclass(frozen=True, kw_only=True)
class Window:
    """One window of a sound.

    Attributes:
        row_id: of the window. start_frame, end_frame: of the sound, as it was when it was cut; the end is not in it,
            and counts the silence that an end was padded with. sample_rate: frames a second. Where the shards have no
            such columns (output.columns), the last two are None.
    """

    row_id: str
    start_frame: int
    end_frame: int | None
    sample_rate: int | None

    def __str__(self) -> str:
        if self.end_frame is None or not self.sample_rate:
            return f"from frame {self.start_frame:,}"
        seconds = (f"{frame / self.sample_rate:.3f} s" for frame in (self.start_frame, self.end_frame))
        return f"from {' to '.join(seconds)} (frames {self.start_frame:,} to {self.end_frame:,})"


def cuts_windows(run: StoredRun) -> bool:
    """Whether the shards' rows are windows of sounds."""
    return any(step.name == SPEC.name for step in run.steps)


def sound_of(row_id: str) -> str | None:
    """The id of the sound that a window of this id is of; None: no window has such an id."""
    sound, mark, frame = row_id.rpartition("#")
    return sound if mark and frame.isascii() and frame.isdecimal() else None


def sounds_of(table: pa.Table) -> list[str]:
    """Of each row of a shard, the id of its sound; of what is no window's id, the id itself."""
    return [sound_of(each) or each for each in table.column("row_id").to_pylist()]


def windows_of(run: StoredRun, split: int, sound: str) -> tuple[InShards, tuple[Window, ...]]:
    """Where a sound's windows are, and which they are, in order; `split`: where the sound was read.

    Where rows were moved between splits all shards are searched, one column of each.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    path = next((entry.shard for entry in run.manifest.ledger if entry.split == split), None)
    there = every_shard(run) if run.moved else [held(run, path)] if path is not None else []
    for part in there:
        if part is None:
            continue
        table = columns_of(run, part, ["row_id"])
        if table is None:
            return InShards(shard=part.path, remark="the rows do not say of which sound they are (output.columns)"), ()
        begins = pc.starts_with(table.column("row_id").cast(pa.string()), f"{sound}#")
        ids = {at: table.column("row_id")[at].as_py() for at in pc.indices_nonzero(begins).to_pylist()}
        mine = [at for at, each in ids.items() if sound_of(each) == sound]
        if mine:
            facts = columns_of(run, part, [name for name in (FRAMES, RATE) if name in run.manifest.schema.names])
            windows = tuple(_window(ids[at], at, facts) for at in mine)
            return InShards(shard=part.path, rows=tuple(place_of(part, at) for at in mine)), windows
    return InShards(shard=None, remark="no window of it is there"), ()


def _window(row_id: str, at: int, facts: pa.Table | None) -> Window:
    start = int(row_id.rpartition("#")[2])
    row = facts.slice(at, 1).to_pylist()[0] if facts is not None and facts.num_columns else {}
    frames = row.get(FRAMES)
    end = None if frames is None else start + frames
    return Window(row_id=row_id, start_frame=start, end_frame=end, sample_rate=row.get(RATE))


def check_no_windows(run: StoredRun, unknown: Sequence[str], suppression: Suppression) -> list[str]:
    """Of ids of no row of the input, those that are not windows of a sound that has been erased.

    Raises:
        InputError: one is a window of a sound that is there.
    """
    if not cuts_windows(run):
        return list(unknown)
    left = [each for each in unknown if sound_of(each) not in suppression]
    if windows := dict(_windows_among(run, left)):
        shown = ", ".join(f"{each!r} of {sound!r}" for each, sound in list(windows.items())[:_SHOWN])
        more = f" and {len(windows) - _SHOWN:,} more" if len(windows) > _SHOWN else ""
        sounds = list(dict.fromkeys(windows.values()))
        raise InputError(
            f"windows of sounds: {shown}{more}; nothing was erased",
            expected="ids of sounds: a sound is erased whole, with all of its windows. Another window may hold the "
            "same part of it, and the next run would cut this one again",
            fix=f"datapipe erase DATASET {' '.join(sounds[:_SHOWN])}{' …' if len(sounds) > _SHOWN else ''}",
        )
    return left


def _windows_among(run: StoredRun, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(window, sound) of the ids that begin with a sound's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs = [(each, sound) for each in ids if (sound := sound_of(each)) is not None]
    sounds = pa.array(sorted({sound for _, sound in pairs}), pa.string())
    known: set[str] = set()
    for files in run.files.values() if pairs else ():
        there = run.table(files[0], ["row_id"]).column("row_id")
        known.update(there.filter(pc.is_in(there, value_set=sounds)).to_pylist())
    return (pair for pair in pairs if pair[1] in known)
