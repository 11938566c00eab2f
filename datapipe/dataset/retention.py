"""How long snapshots and files stay: what belongs to no kept snapshot goes, once no reader can be at it any more.

    snapshots/times.json    {"replaced": {number: time}, "unneeded": {path: time from which on it may be removed}}

What enters: a store that nobody else writes to meanwhile. What leaves: fewer snapshots, fewer files. Invariant: a file
that a kept snapshot names is never removed; one that a snapshot named is removed no sooner than its grace period after
that snapshot expired, so that who had it open reads on; killed anywhere, the next call goes on. Times are Unix times of
the machines that write here; a grace period has to be longer than their clocks differ.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datapipe.dataset.manifest import MANIFEST_NAME, parse_manifest
from datapipe.dataset.snapshot_facts import SnapshotFacts, put_facts
from datapipe.dataset.snapshots import FOLDER, read_snapshot, snapshot_paths, snapshots_of
from datapipe.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.dataset.manifest import Manifest
    from datapipe.storage import Store

TIMES: Final = f"{FOLDER}/times.json"
GRACE: Final = 86_400.0
"""Seconds, unless the caller says otherwise: longer than most epochs, between which a reader takes up the newest."""
_OURS: Final = re.compile(
    r"data/.+-[0-9a-f]{8}\.(?:parquet|arrow)"
    r"|index/[a-z_]+/[0-9a-f]{32}\.[a-z_]+|tokenizer-[0-9a-f]{8}\.json"
)
"""Names that only a run of ours gives: what somebody else put there stays."""


@dataclass(frozen=True, kw_only=True)
class Expired:
    """What `expire` did.

    Attributes:
        snapshots: numbers of those that can no longer be opened. kept: of those that can.
        removed: files. removed_bytes: of them. waiting: files that will go, once their grace period is over.
    """

    snapshots: tuple[int, ...]
    kept: tuple[int, ...]
    removed: tuple[str, ...]
    removed_bytes: int
    waiting: tuple[str, ...]


def named_by(manifest: Manifest) -> set[str]:
    """The paths of all files that a snapshot is made of, its manifest apart."""
    paths = {shard.path for shard in manifest.shards} | {entry.path for entry in manifest.sources}
    paths |= {each.file.path for each in manifest.index}
    return paths if manifest.vocabulary is None else paths | {manifest.vocabulary.path}


def expire(
    store: Store,
    *,
    keep: int | None = None,
    older_than: float | None = None,
    grace: float = GRACE,
    now: float,
    replaced: Mapping[int, float] | None = None,
) -> Expired:
    """Let old snapshots go, the oldest first, and remove what has been unneeded for long enough.

    Args:
        keep: how many of the newest stay, 1 or more; None: it is no reason to go.
        older_than: those go that were replaced more than so many seconds ago; None: no reason either. With both, one
            goes that either names.
        grace: seconds for which files of an expired snapshot stay. now: Unix time.
        replaced: when snapshots were replaced, where that is known; of others the first call that sees them notes it.

    Raises:
        ConfigError: a number is out of range. StorageError: something cannot be read or removed.
    """
    if keep is not None and keep < 1:
        raise ConfigError(f"keep={keep}", expected="1 or more: the newest snapshot stays")
    if (older_than is not None and older_than < 0) or grace < 0:
        raise ConfigError(f"older_than={older_than}, grace={grace}", expected="seconds, 0 or more")
    newest = read_snapshot(store)
    paths = {number: path for number, path in snapshot_paths(store).items() if number < newest.snapshot}
    times = read_times(store)
    since = {number: (replaced or {}).get(number, times["replaced"].get(str(number), now)) for number in paths}
    going = _going(sorted(paths), keep, older_than, since, now)
    kept = [number for number in sorted(paths) if number not in going]
    needed = named_by(newest)
    for number in kept:
        needed |= named_by(parse_manifest(store.read(paths[number]), where=f"{store.url}/{paths[number]}"))
    loose = {entry.path: entry.size for entry in store.list() if _OURS.fullmatch(entry.path)}
    loose = {path: size for path, size in loose.items() if path not in needed}
    from_ = {path: min(times["unneeded"].get(path, now + grace), now + grace) for path in loose}
    # On record before anything goes: who is killed here has promised the grace period, and removed nothing.
    noted = {"replaced": {str(number): since[number] for number in kept}, "unneeded": from_}
    _put_times(store, noted)
    if going:
        put_facts(store, {
            each.number: SnapshotFacts(fingerprint=each.fingerprint, kind=each.kind, added=each.added)
            for each in snapshots_of(store, damaged=True)  # one that goes need not be whole
            if each.number not in going
        })  # fmt: skip
    for number in going:
        store.delete(paths[number])
    due = [path for path, time in from_.items() if time <= now]
    for path in due:
        store.delete(path)
    left = {path: time for path, time in from_.items() if time > now}
    _put_times(store, {**noted, "unneeded": left})
    return Expired(
        snapshots=tuple(going),
        kept=(*kept, newest.snapshot),
        removed=tuple(due),
        removed_bytes=sum(loose[path] for path in due),
        waiting=tuple(left),
    )


def _going(
    numbers: list[int], keep: int | None, older_than: float | None, since: Mapping[int, float], now: float
) -> list[int]:
    """The oldest ones, up to the last that a rule names: what is left is a line without gaps."""
    last = -1
    for place, number in enumerate(numbers):
        too_many = keep is not None and len(numbers) - place >= keep
        too_old = older_than is not None and now - since[number] > older_than
        if too_many or too_old:
            last = place
    return numbers[: last + 1]


def spared(store: Store, now: float) -> set[str]:
    """Files that belong to no snapshot any more, and that a reader may still be at."""
    return {path for path, time in read_times(store)["unneeded"].items() if time > now}


def read_times(store: Store) -> dict[str, dict[str, Any]]:
    """`times.json`; nothing where it is not there, or is not what `expire` wrote."""
    none: dict[str, dict[str, Any]] = {"replaced": {}, "unneeded": {}}
    try:
        found = json.loads(store.read(TIMES))
        whole = all(isinstance(t, (int, float)) for part in none for t in found[part].values())
    except (NotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return none
    return {part: dict(found[part]) for part in none} if whole else none


def _put_times(store: Store, times: Mapping[str, Any]) -> None:
    store.put(TIMES, json.dumps(times, indent=1, sort_keys=True).encode() + b"\n")


def roll_back(store: Store, number: int) -> Manifest:
    """Publish the content of an earlier snapshot once more, as the newest; those in between stay until they expire.

    Raises:
        DatasetError: there is no such snapshot. StorageError: it cannot be read, or the new one not written.
    """
    from datapipe.dataset.snapshots import keep_snapshot
    from datapipe.dataset.writer import publish

    newest, old = read_snapshot(store), read_snapshot(store, number)
    if old.shards == newest.shards and old.sources == newest.sources and old.index == newest.index:
        return newest
    made = old.model_copy(update={"snapshot": newest.snapshot + 1, "parent": newest.fingerprint})
    parse_manifest(made.to_json(), where=f"{store.url}/{MANIFEST_NAME}")
    keep_snapshot(store, newest)
    publish(store, made, over=newest)
    return made
