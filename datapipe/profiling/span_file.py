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
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ProfileError
from datapipe.events import FIELDS
from datapipe.profiling.lock_probe import LockDelay
from datapipe.profiling.machine_watch import Watched
from datapipe.profiling.profile_file import write_whole

if TYPE_CHECKING:
    import os

    from datapipe.profiling.analysis import RawRun

NAME: Final = "spans.npz"
MOST_SPANS: Final = 300_000
"""Of 72 bytes, some 15 of them when compressed."""
_VERSION: Final = 1
_KEPT: Final = ("stages", "threads", "began", "ended", "wall", "started_unix_ns", "complete", "title", "lost")


def save_spans(run: RawRun, folder: str | os.PathLike[str]) -> Path:
    """Write `folder/spans.npz`, atomically.

    Raises:
        ProfileError: it cannot be written.
        NoSpaceError: the disk is full.
    """
    import numpy as np

    about: dict[str, Any] = {name: getattr(run, name) for name in _KEPT}
    lock = None if run.watched is None else run.watched.lock
    about |= {"version": _VERSION, "environment": dict(run.environment), "lock": None if lock is None else asdict(lock)}
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
        ProfileError: there are none, or the file is damaged or of another version.
    """
    import numpy as np

    from datapipe.profiling.analysis import RawRun

    file = Path(folder) / NAME
    try:
        with zipfile.ZipFile(file) as archive:  # an .npz is a zip: NumPy takes anything else for a pickle
            for name in archive.namelist():
                archive.read(name)  # compares its checksum
        with np.load(file, allow_pickle=False) as held:
            spans, about = held["spans"], json.loads(held["about"].tobytes())
        kept: dict[str, Any] = {name: about[name] for name in _KEPT}
        known = about["version"] == _VERSION and spans.dtype == np.dtype(list(FIELDS)) and spans.ndim == 1
        numbered = not len(spans) or int(spans["stage"].max()) < len(kept["stages"])
        environment = dict(about["environment"])
        lock = None if about.get("lock") is None else LockDelay(**about["lock"])
        probes = tuple((int(when), int(late)) for when, late in about.get("probes", ()))
        stalled = None if about.get("stalled") is None else float(about["stalled"])
    except FileNotFoundError:
        raise ProfileError(
            f"there are no spans at {file}",
            expected="the folder of a run that was recorded by this version or a later one",
            fix="record the run again: datapipe profile, or with datapipe.profile(FOLDER) as prof",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ProfileError(f"{file} is damaged: {error}", fix="record the run again") from error
    if not known or not numbered:
        raise ProfileError(f"{file} is not of this version", expected=f"version {_VERSION}", fix="record the run again")
    kept |= {"stages": tuple(kept["stages"]), "threads": tuple(kept["threads"])}
    watched = None if lock is None else Watched(counters=(), lock=lock, limit=None, probes=probes, stalled=stalled)
    return RawRun(spans=spans, environment=environment, watched=watched, **kept)
