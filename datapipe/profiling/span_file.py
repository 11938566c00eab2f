"""`spans.npz`: a run's spans as recorded, so that a what-if can replay it long after.

What enters and leaves: a `RawRun`; of its machine's counters only the lock's delay. Invariant: what is read back
replays as the run itself did; nothing in the file is unpickled, and what is not such a file is a `ProfileError`.

NumPy's own compressed archive: one array of spans, and one JSON text for the rest. A longer run keeps its last
`MOST_SPANS` spans, as its trace does.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import NoProfileError, ProfileError
from datapipe.events import FIELDS
from datapipe.profiling.lock_probe import LockDelay  # noqa: TC001  (pydantic reads the fields' types)
from datapipe.profiling.machine_watch import Watched
from datapipe.profiling.profile_file import write_whole

if TYPE_CHECKING:
    import os

    from datapipe.profiling.analysis import RawRun

NAME: Final = "spans.npz"
MOST_SPANS: Final = 300_000
"""Of 72 bytes, some 15 of them when compressed."""
_MOST_HEADER: Final = 1 << 16
_VERSION: Final = 1
_KEPT: Final = ("stages", "threads", "began", "ended", "wall", "started_unix_ns", "complete", "title", "lost")


@dataclass(frozen=True, kw_only=True)
class _About:
    """The text beside the spans, as checked when it is read."""

    version: int
    stages: tuple[str, ...]
    threads: tuple[str, ...]
    began: int
    ended: int
    wall: int
    started_unix_ns: int
    complete: bool
    title: str
    lost: int
    environment: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
    lock: LockDelay | None = None
    probes: tuple[tuple[int, int], ...] = ()
    stalled: float | None = None


def save_spans(run: RawRun, folder: str | os.PathLike[str]) -> Path:
    """Write `folder/spans.npz`, atomically.

    Raises:
        ProfileError: it cannot be written.
        NoSpaceError: the disk is full.
    """
    import numpy as np

    about: dict[str, Any] = {name: getattr(run, name) for name in _KEPT}
    lock = None if run.watched is None else run.watched.lock
    about |= {"version": _VERSION, "lock": None if lock is None else asdict(lock)}
    about |= {"environment": dict(run.environment), "notes": dict(run.notes)}
    about["probes"] = [] if run.watched is None else run.watched.probes
    about["stalled"] = None if run.watched is None else run.watched.stalled
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    held = io.BytesIO()
    np.savez_compressed(held, spans=run.spans[-MOST_SPANS:], about=text)
    return write_whole(Path(folder) / NAME, held.getvalue())


def load_spans(folder: str | os.PathLike[str]) -> RawRun:
    """Read a run's spans back.

    Args:
        folder: the folder of a run.

    Raises:
        NoProfileError: there are none.
        ProfileError: the file is damaged or of another version.
    """
    from pydantic import TypeAdapter

    from datapipe.profiling.analysis import RawRun

    file = Path(folder) / NAME
    try:
        spans, text = _arrays(file)
        about = TypeAdapter(_About).validate_json(text.tobytes())
    except (FileNotFoundError, NotADirectoryError):
        raise NoProfileError(
            f"there are no spans at {file}",
            expected="the folder of a run that was recorded by this version or a later one",
            fix="record the run again: datapipe profile, or with datapipe.profile(FOLDER) as prof",
        ) from None
    # NumPy's parser of headers has errors of many kinds, Python's tokenizer's among them.
    except Exception as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise ProfileError(f"{file} is damaged: {said[0]}", fix="record the run again") from error
    times = (about.began, about.ended, about.wall, about.started_unix_ns, *(n for probe in about.probes for n in probe))
    if any(abs(each) >= 1 << 62 for each in times):
        raise ProfileError(f"{file} is damaged: a time beyond 64 bits", fix="record the run again")
    if about.version != _VERSION or (len(spans) and int(spans["stage"].max()) >= len(about.stages)):
        raise ProfileError(f"{file} is not of this version", expected=f"version {_VERSION}", fix="record the run again")
    kept: dict[str, Any] = {name: getattr(about, name) for name in _KEPT}
    watched = None
    if about.lock is not None:
        watched = Watched(counters=(), lock=about.lock, limit=None, probes=about.probes, stalled=about.stalled)
    return RawRun(spans=spans, environment=about.environment, notes=about.notes, watched=watched, **kept)


def _arrays(file: Path) -> tuple[Any, Any]:
    """The spans and the text beside them, of which neither may be larger than one that is written.

    `numpy.load` would allocate what a header says, and take what is no archive for a pickle.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error and others: it is no such file.
    """
    import numpy as np

    kinds = {"spans": np.dtype(list(FIELDS)), "about": np.dtype(np.uint8)}
    found = []
    with zipfile.ZipFile(file) as archive:
        for name, kind in kinds.items():
            member = archive.getinfo(f"{name}.npy")
            if member.file_size > MOST_SPANS * kinds["spans"].itemsize + _MOST_HEADER:
                raise ValueError(f"{name} has {member.file_size:,} bytes")
            data = io.BytesIO(archive.read(member))  # compares its checksum
            if np.lib.format.read_magic(data) != (1, 0):
                raise ValueError(f"{name} is of another version of NumPy's format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(data)
            values = np.frombuffer(data.getvalue(), np.uint8)[data.tell() :]
            if dtype != kind or shape != (len(values) // kind.itemsize,):
                raise ValueError(f"{name} is {dtype}{list(shape)} in {len(values):,} bytes")
            found.append(values.view(kind))
    return found[0], found[1]
