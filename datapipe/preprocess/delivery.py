"""A delivery: files that are added to a dataset as a new snapshot, compared with all that is there, without reading it.

What enters: the dataset's newest manifest, the files that were found. What leaves: the files that are new, and what the
earlier snapshots hand on: their index, the products of global steps (a vocabulary), their shards and ledgers.
Invariant: a file that was delivered before is not delivered again; one that has changed since, or a recipe that has, is
refused, because the rows made of it before could not be taken back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, CorpusError, DatasetError, IntegrityError, NotFoundError, StorageError
from datapipe.preprocess.recipe import canonical
from datapipe.preprocess.statistics_task import STATISTICS
from datapipe.preprocess.tasks import OutputFile
from datapipe.preprocess.work import INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datapipe.corpus import SourceFile
    from datapipe.dataset import FileEntry, Manifest
    from datapipe.preprocess.recipe import Recipe
    from datapipe.storage import Store

_PROBE: Final = 64 << 10
"""Bytes at each end of a file that are compared to tell whether it is the one that was delivered."""


@final
@dataclass(frozen=True, kw_only=True)
class Before:
    """What earlier snapshots hand on.

    Attributes:
        manifest: of the newest of them. data: the bytes that it was read from.
        sources: by file name, [bytes, probe].
        given: products by global step.
        index: by name, (split, file).
    """

    manifest: Manifest = field(repr=False)
    data: bytes = field(repr=False)
    sources: Mapping[str, tuple[int, str]] = field(repr=False)
    given: Mapping[str, OutputFile] = field(default_factory=dict)
    index: Mapping[str, list[tuple[int, OutputFile]]] = field(default_factory=dict, repr=False)

    @property
    def splits(self) -> int:
        """How many splits they have: the number of the delivery's first."""
        return len(self.manifest.ledger)

    @property
    def bytes(self) -> int:
        """Of all files delivered before."""
        return sum(size for size, _ in self.sources.values())


def before_of(store: Store, recipe: Recipe, snapshot: int | None = None, known: Before | None = None) -> Before | None:
    """What a delivery to `store` is added to; None where nothing has been published there yet.

    Args:
        snapshot: its number; None: the newest. known: what came of this for the same recipe, and is so still where
            the manifest has not changed.

    Raises:
        ConfigError: the dataset was made by another recipe. ManifestError, IntegrityError: it is damaged.
    """
    from datapipe.dataset import snapshot_with_bytes

    seen = None if known is None else (known.manifest, known.data)
    try:
        manifest, data = snapshot_with_bytes(store, snapshot, seen)
    except NotFoundError:
        return None
    if known is not None and manifest is known.manifest:
        return known
    _check_recipe(manifest, recipe)
    sources: dict[str, tuple[int, str]] = {}
    for entry in manifest.sources:
        sources |= {name: (size, probe) for name, size, probe in json.loads(checked(store, entry))}
    index: dict[str, list[tuple[int, OutputFile]]] = {}
    for each in manifest.index:
        index.setdefault(each.name, []).append((each.split, _output(each.file)))
    given = {}
    for name, files in index.items():
        # "<step>:statistics": what the first delivery was measured by, the next ones are.
        step, _, kind = name.partition(":")
        if kind == STATISTICS:
            given[step] = files[-1][1]
    if manifest.vocabulary is not None:
        given["vocabulary"] = _output(manifest.vocabulary)
    return Before(manifest=manifest, data=data, sources=sources, given=given, index=index)


def no_longer(store: Store, files: Iterable[str]) -> str | None:
    """A sentence on the files of the published dataset that are not among `files`: a run anew leaves them out."""
    from datapipe.dataset import read_snapshot

    try:
        manifest = read_snapshot(store, None)
        known = [name for entry in manifest.sources for name, _, _ in json.loads(checked(store, entry))]
    except (DatasetError, StorageError, ValueError):
        return None  # there is none, or it is damaged, and about to be replaced
    gone = sorted({*known} - {*files})
    if not gone:
        return None
    one = len(gone) == 1
    what = gone[0] if one else f"{len(gone):,} files ({gone[0]} is one)"
    return (
        f"{what} had been delivered, and {'is' if one else 'are'} no input of this run: made anew, the dataset"
        f" is without {'its' if one else 'their'} rows; --append adds to what is there"
    )


def checked(store: Store, entry: FileEntry) -> bytes:
    """The bytes of a file that a manifest names.

    Raises:
        IntegrityError: they are not those that it names.
    """
    from datapipe.storage import checksum_bytes

    data = store.read(entry.path)
    if (found := checksum_bytes(data)) != entry.checksum.value:
        raise IntegrityError(
            f"{store.url}/{entry.path}: checksum {found}",
            expected=f"{entry.checksum.value}, as the manifest says",
            fix="restore the file from a copy, or run without --append",
        )
    return data


def _output(entry: FileEntry) -> OutputFile:
    return OutputFile(path=entry.path, bytes=entry.bytes, checksum=entry.checksum.value)


def _check_recipe(manifest: Manifest, recipe: Recipe) -> None:
    """Refuse to mix rows of two recipes; how the input is cut into tasks is no part of them."""

    def plain(value: Mapping[str, Any]) -> dict[str, Any]:
        return {**value, "output": {**value["output"], "split_bytes": None}}

    if manifest.recipe is None:
        raise ConfigError("the dataset was not made by a recipe", expected="one that datapipe preprocess made")
    old, new = plain(manifest.recipe), plain(recipe.as_dict())
    if canonical(old) == canonical(new):
        return
    parts = [key for key in new if canonical(old.get(key)) != canonical(new[key])]
    raise ConfigError(
        f"the dataset was made by another recipe: its {', '.join(parts)} differ",
        expected="the recipe, options and seed that made it",
        fix="append with the same --recipe and --set, or write another output",
    )


def new_files(
    files: Sequence[SourceFile], before: Before, storage_options: Mapping[str, Any] | None
) -> list[SourceFile]:
    """The files that were not delivered before.

    Raises:
        CorpusError: a file has the name of one that was delivered, and another content.
    """
    found = []
    for file in files:
        known = before.sources.get(file.name)
        if known is None:
            found.append(file)
        elif known != (file.size, probe_of(file, storage_options)):
            raise CorpusError(
                f"{file.name} was delivered before, and has changed since",
                expected="files that stay as they were delivered: their rows are in the dataset",
                fix="deliver the new content under another name, or run without --append to make the dataset anew",
            )
    return found


def probe_of(file: SourceFile, storage_options: Mapping[str, Any] | None, store: Store | None = None) -> str:
    """16 hex digits that tell a file from another of the same name: XXH3 of its first and last 64 KiB.

    A change that keeps size, beginning and end is not seen: reading all of what was delivered before is what an
    append is there to avoid.
    """
    import xxhash

    from datapipe.storage import open_store

    store = store or open_store(file.root, storage_options=storage_options)
    digest = xxhash.xxh3_64(store.read(file.path, 0, min(_PROBE, file.size)))
    if file.size > _PROBE:
        digest.update(store.read(file.path, file.size - _PROBE, file.size))
    return digest.hexdigest()


def put_sources(store: Store, sources: Iterable[Sequence[Any]]) -> FileEntry:
    """Store a snapshot's list of files, [name, bytes, probe] of each."""
    from datapipe.dataset import put_file_entry
    from datapipe.storage import checksum_bytes

    data = canonical(sorted(map(list, sources)))
    return put_file_entry(store, f"{INDEX}/sources/{checksum_bytes(data)}.json", data)
