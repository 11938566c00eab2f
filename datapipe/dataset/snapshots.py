"""Snapshots: every state that a dataset was published in, and what of its folder belongs to one of them.

    manifest.json                       the newest snapshot
    snapshots/00000-<8hex>.json         the manifests of those before it, unchanged

What enters: a store. What leaves: manifests, and the paths that some snapshot names. Invariant: a manifest is copied
here before another takes its place, so that a snapshot that was ever appended to can be opened as long as it is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datapipe.dataset.manifest import MANIFEST_NAME, parse_manifest
from datapipe.dataset.snapshot_facts import read_facts
from datapipe.errors import DatasetError, ManifestError, NotFoundError

if TYPE_CHECKING:
    from datapipe.dataset.manifest import Manifest
    from datapipe.storage import Store

FOLDER: Final = "snapshots"
_NAME: Final = re.compile(rf"{FOLDER}/(\d{{5,}})-[0-9a-f]{{8}}\.json")


def keep_snapshot(store: Store, manifest: Manifest, data: bytes | None = None) -> str:
    """Copy a manifest to where it stays when the next is published; its path. No other has its number.

    Args:
        data: the bytes that it was read from, where they are at hand: to write them anew takes as long as to read them.
    """
    path = f"{FOLDER}/{manifest.snapshot:05d}-{manifest.fingerprint.removeprefix('dp1-')[:8]}.json"
    for entry in list(store.list(FOLDER)):
        match = _NAME.fullmatch(entry.path)
        if match and int(match[1]) == manifest.snapshot and entry.path != path:
            # Of a line that was made anew, by a run that was killed before it had removed this one.
            store.delete(entry.path)
    store.put(path, manifest.to_json() if data is None else data)
    return path


def snapshot_paths(store: Store) -> dict[int, str]:
    """Number → path of the snapshots that were kept; the newest is not among them, it is the manifest."""
    found = ((_NAME.fullmatch(entry.path), entry.path) for entry in store.list(FOLDER))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def read_snapshot(store: Store, number: int | None = None) -> Manifest:
    """The manifest of a snapshot; None: the newest.

    Raises:
        DatasetError: there is no such snapshot; the message has those there are.
    """
    return snapshot_with_bytes(store, number)[0]


def snapshot_with_bytes(
    store: Store, number: int | None = None, known: tuple[Manifest, bytes] | None = None
) -> tuple[Manifest, bytes]:
    """The same, and the bytes that it was read from; `known`: what came of this before, for where nothing changed.

    Raises:
        DatasetError: as `read_snapshot`.
    """
    data = store.read(MANIFEST_NAME)
    if number is None and known is not None and known[1] == data:
        return known
    newest = parse_manifest(data, where=f"{store.url}/{MANIFEST_NAME}")
    if number is None or number == newest.snapshot:
        return newest, data
    kept = snapshot_paths(store)
    if number not in kept:
        past = isinstance(number, int) and 0 <= number < newest.snapshot
        raise DatasetError(
            f"{store.url} has no snapshot {number!r}" + (" any more: it has expired, or was erased" if past else ""),
            expected=f"one of {', '.join(map(str, [*(n for n in kept if n < newest.snapshot), newest.snapshot]))}",
            fix=f"name one of these; {newest.snapshot} is the newest",
        )
    data = store.read(kept[number])
    return parse_manifest(data, where=f"{store.url}/{kept[number]}"), data


def lineage(store: Store, newest: Manifest) -> list[Manifest]:
    """The snapshots that lead to `newest`, oldest first, itself included.

    A manifest whose parent is another content than what is kept ends the line: it was published over them.
    """
    line = [newest]
    kept = snapshot_paths(store)
    while line[0].parent is not None:
        path = kept.get(line[0].snapshot - 1)
        if path is None:
            break
        try:
            before = parse_manifest(store.read(path), where=f"{store.url}/{path}")
        except NotFoundError:
            break
        if before.fingerprint != line[0].parent:
            break
        line.insert(0, before)
    return line


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One state that a dataset was published in.

    Attributes:
        number: from 0. kind: "delivery", "compacted" (the same content in other shards), "rolled back" (an earlier
            content once more), "changed" (rows were erased) or "unknown" (the one before it has expired, and nobody
            wrote down what made this one).
        rows, tokens (None where not counted), shards: all. added: rows more (or fewer) than the one before; None where
            that is not known any more.
        newest: whether it is what opens by default.
    """

    number: int
    kind: str
    fingerprint: str
    rows: int
    added: int | None
    tokens: int | None
    shards: int
    newest: bool


def snapshots_of(store: Store, *, damaged: bool = False) -> list[Snapshot]:
    """Every snapshot that can be opened, the oldest first.

    Args:
        damaged: whether those before the newest may be so: they are left out.

    Raises:
        StorageError, ManifestError: a manifest cannot be read.
    """
    newest = read_snapshot(store)
    found: list[Snapshot] = []
    seen: list[tuple[str, tuple[str, ...]]] = []
    before: Manifest | None = None
    facts = read_facts(store)
    for number, path in [*snapshot_paths(store).items(), (newest.snapshot, "")]:
        manifest = newest
        if path:
            if number >= newest.snapshot:
                continue  # kept by who was killed before the next was published
            try:
                manifest = parse_manifest(store.read(path), where=f"{store.url}/{path}")
            except NotFoundError:
                continue  # it has just expired
            except ManifestError:
                if not damaged:
                    raise
                continue
        follows = before is not None and before.snapshot == manifest.snapshot - 1
        known = manifest.snapshot == 0 or follows
        told = facts.get(manifest.snapshot)
        content = manifest.fingerprint, tuple(entry.path for entry in manifest.sources)
        kind = _kind(content, seen) if known else "unknown"
        if manifest.parent is None and manifest.snapshot:
            kind = "changed"  # an erasure alone ends the line
        added = manifest.rows - (before.rows if before is not None else 0) if known else None
        if told is not None and told.fingerprint == manifest.fingerprint:
            kind, added = told.kind, told.added
        found.append(
            Snapshot(
                number=manifest.snapshot,
                kind=kind,
                fingerprint=manifest.fingerprint,
                rows=manifest.rows,
                added=added,
                tokens=manifest.tokens,
                shards=len(manifest.shards),
                newest=not path,
            )
        )
        seen.append(content)
        before = manifest
    return found


def _kind(content: tuple[str, tuple[str, ...]], seen: list[tuple[str, tuple[str, ...]]]) -> str:
    """What made it: told from the content and the files that were delivered, its own and those before it."""
    if seen and content == seen[-1]:
        return "compacted"
    if content in seen:
        return "rolled back"
    return "delivery" if not seen or len(content[1]) > len(seen[-1][1]) else "changed"
