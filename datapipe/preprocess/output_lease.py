"""The lease on an output that no file system locks: an object that its holder keeps changing.

What enters: a remote store. What leaves: the block runs, or an OutputError says that somebody else is there.
Invariant: no clock is compared with another machine's: a lease is alive if it changes while it is watched, and one that
a killed run left behind is taken over after `BEATS` times its holder's interval.

On S3 it is taken by a conditional request, so that of two runs that begin in the same moment one is refused. Elsewhere
it is best effort: both may go on, and only one publishes (`publishing`).
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import NotFoundError, OutputError, StorageError
from datapipe.preprocess.work import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.storage import Entry, Store

INTERVAL: Final = 5.0
"""Seconds between two beats of a holder."""
LONGEST: Final = 60.0
"""Seconds: no holder's interval is longer."""
BEATS: Final = 3
"""Intervals without a change after which a holder is taken for dead."""
LOOKS: Final = 10
"""So often at least a holder is looked at before it is taken for dead, and every second."""


@contextlib.contextmanager
def lease(store: Store, *, interval: float = INTERVAL) -> Iterator[None]:
    """Hold the output until the block ends.

    Raises:
        OutputError: another run holds it.
    """
    dead = _wait_for_dead(store, interval)
    token = uuid.uuid4().hex
    # Not believed at once: the answer to a write that was done may have been lost.
    store.put_if(LEASE, _said(token, 0, interval), dead)
    if _read(store).get("token") != token:
        raise _held(store)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, token, interval, ended), name="lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(StorageError):
            if _read(store).get("token") == token:
                store.delete(LEASE)


def _wait_for_dead(store: Store, interval: float) -> Entry | None:
    """What is to be replaced: the lease of a run that is dead; None where there is none."""
    first = _read(store)
    if not first:
        return _seen(store)
    said = first.get("interval")
    # What lies there may be anything; so long a wait as this is nobody's interval of ours.
    patience = BEATS * (said if isinstance(said, (int, float)) and 0 < said <= LONGEST else interval)
    looks = max(LOOKS, math.ceil(patience))
    # Looks are counted, and not time: a machine that stood still, and its holder with it, has seen nobody die.
    for _ in range(looks):
        time.sleep(patience / looks)
        now = _read(store)
        if not now:
            return _seen(store)
        if now != first:
            raise _held(store)
    return _seen(store)


def _seen(store: Store) -> Entry | None:
    try:
        return store.info(LEASE)
    except NotFoundError:
        return None


def _beat(store: Store, token: str, interval: float, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(interval):
        beat += 1
        # The storage may fail in passing; the next beat is in time, as it takes several to be taken for dead.
        with contextlib.suppress(StorageError):
            # Where somebody has removed it (and all of the work folder) it is put back.
            if _read(store).get("token", token) == token:
                _put(store, token, beat, interval)


def _put(store: Store, token: str, beat: int, interval: float) -> None:
    store.put(LEASE, _said(token, beat, interval))


def _said(token: str, beat: int, interval: float) -> bytes:
    return json.dumps({"token": token, "beat": beat, "interval": interval}).encode()


def _read(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(store.read(LEASE))
    except (NotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _held(store: Store) -> OutputError:
    return OutputError(
        f"another run holds {store.url}",
        expected="one run at a time on an output",
        fix="wait for it, stop it, or name another output",
    )
