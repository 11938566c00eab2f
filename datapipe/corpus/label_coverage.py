"""Whether files of labels and the pictures or sounds beside them go together.

What enters: source files, as discovery found them. What leaves: sentences: how many have no record, whose fields are
then null, and how many records are about a file that is not in the input. Invariant: each file of labels is read once,
whole; nothing is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.corpus.labels import records_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import LabelFile, SourceFile


def uncovered_labels(
    files: Iterable[SourceFile], options: ReadOptions, storage_options: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """What to say of files without a record, and of records without a file, by file of labels.

    Raises:
        ConfigError, CorpusError: as `labels.labels_of`. StorageError: a file of labels could not be read.
    """
    from datapipe.storage import open_store

    by_root: dict[str, list[SourceFile]] = {}
    for file in files:
        if file.format in ("image", "audio"):
            by_root.setdefault(file.root, []).append(file)
    said: list[str] = []
    for root, mine in by_root.items():
        used: dict[LabelFile, list[str]] = {}
        for file in mine:
            if file.labels is not None:
                used.setdefault(file.labels, []).append(file.path)
        if used:
            store, there = open_store(root, storage_options=storage_options), {file.path for file in mine}
            for labels, paths in used.items():
                said += _said(labels, paths, there, *records_of(store, labels, options))
    return tuple(said)


def _said(
    labels: LabelFile, paths: list[str], there: set[str], records: Mapping[str, Any], fields: Iterable[str]
) -> list[str]:
    folder = labels.path.rpartition("/")[0]
    start = f"{folder}/" if folder else ""
    said, null = [], ", ".join(fields)
    bare = [path for path in paths if path.removeprefix(start) not in records]
    if bare and null:
        said.append(
            f"{labels.path} has no record of {len(bare):,} of {len(paths):,} files: {null} "
            f"{'are' if ',' in null else 'is'} null there (such as {_shown(min(bare))})"
        )
    gone = [name for name in records if start + name not in there]
    if gone:
        said.append(
            f"{labels.path}: {len(gone):,} of {len(records):,} records are about a file that is not in the input "
            f"(such as {_shown(min(gone))})"
        )
    return [_shown(each) for each in said]


def _shown(text: str) -> str:
    """File names need not be Unicode, nor printable; what is said of them is."""
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in whole)
