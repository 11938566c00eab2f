"""Files of labels: `metadata.csv`, `.tsv` or `.jsonl` (also `labels.*`) beside pictures or sounds, or above them.

    file_name,label,caption
    cats/1.jpg,cat,a cat asleep

What enters: such a file. What leaves: its fields, by the path of the file that a record is about, relative to the
folder that the file of labels lies in: the layout of the Hugging Face imagefolder and audiofolder
(huggingface.co/docs/datasets/image_load). Values are texts; of JSON, what is no string is JSON text.

Invariant: of several records for one file the first counts; of a file without a record all fields are null. One file of
labels is held in memory a process, the one used last.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from datapipe.corpus.reasons import UNREADABLE_FILE
from datapipe.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import LabelFile, SourceFile
    from datapipe.storage import Store

NAMES: Final = tuple(f"{stem}{suffix}" for stem in ("metadata", "labels") for suffix in (".csv", ".tsv", ".jsonl"))
"""What a file of labels may be called; of several in one folder the first of these counts."""
KEY: Final = "file_name"
_HELD: Final = 2

Fields = dict[str, dict[str, str | None]]


def is_label_file(path: str) -> bool:
    """Whether a file is called as one of labels."""
    return path.rpartition("/")[2].lower() in NAMES


def add_label_file(known: dict[tuple[str, str], LabelFile], root: str, path: str, etag: str) -> None:
    """Take up a file of labels, by root and folder; of several in a folder the first of `NAMES` counts."""
    from datapipe.corpus.piece import LabelFile

    def rank(each: str) -> tuple[int, str]:
        return NAMES.index(each.rpartition("/")[2].lower()), each

    folder = (root, path.rpartition("/")[0])
    if folder not in known or rank(path) < rank(known[folder].path):
        known[folder] = LabelFile(path=path, etag=etag)


def with_labels(file: SourceFile, known: Mapping[tuple[str, str], LabelFile]) -> SourceFile:
    """A picture or sound with the file of labels in its folder, or in the nearest one above it."""
    from dataclasses import replace

    if file.format not in ("image", "audio"):
        return file
    folder = file.path
    while folder:
        folder = folder.rpartition("/")[0]
        if (file.root, folder) in known:
            return replace(file, labels=known[file.root, folder])
    return file


def labels_of(store: Store, labels: LabelFile, path: str, options: ReadOptions) -> Mapping[str, str | None]:
    """The fields of the record about the file at `path`, `file_name` left out; all null where there is no record.

    Raises:
        ConfigError: the file of labels has no field file_name.
        CorpusError: it has changed since it was found, or cannot be read.
    """
    below = path[len(labels.path.rpartition("/")[0]) :].lstrip("/")
    records, none = _fields(_Opened(store), labels, options.max_row_bytes)
    return records.get(below, none)


def records_of(store: Store, labels: LabelFile, options: ReadOptions) -> tuple[Fields, tuple[str, ...]]:
    """Every record of a file of labels, by the path that it is about, and the names of its fields; as `labels_of`."""
    records, none = _fields(_Opened(store), labels, options.max_row_bytes)
    return records, tuple(none)


class _Opened:
    """A store that is equal to every other of its root: what was read of a file is found again."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __hash__(self) -> int:
        return hash(self.store.origin)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opened) and other.store.origin == self.store.origin


@lru_cache(maxsize=_HELD)
def _fields(opened: _Opened, labels: LabelFile, max_row_bytes: int) -> tuple[Fields, dict[str, str | None]]:
    """Every record of the file of labels, and one without any value."""
    from datapipe.corpus.csv_rows import read_csv
    from datapipe.corpus.file_fault import FileFault
    from datapipe.corpus.jsonl import read_jsonl
    from datapipe.corpus.options import ALL, ReadOptions
    from datapipe.corpus.piece import Piece, SourceFile

    store = opened.store
    if labels.etag and store.info(labels.path).etag != labels.etag:
        raise CorpusError(
            f"{labels.path} changed since it was found",
            expected="input that stays as it is during a run",
            fix="run the same command again once nothing writes to it",
        )
    format_ = labels.path.rpartition(".")[2].lower()
    file = SourceFile(root="", path=labels.path, name=labels.path, format=format_, size=0, etag="")
    options = ReadOptions(text_column=None, columns=ALL, max_row_bytes=max_row_bytes)
    found: Fields = {}
    none: dict[str, str | None] = {}
    reader = read_jsonl if format_ == "jsonl" else read_csv
    try:
        for batch in reader(store, Piece(file=file), options):
            for row in batch.table.drop_columns(["row_id"]).to_pylist():
                about = row.pop(KEY, None)
                if about is None:
                    raise ConfigError(
                        f"{labels.path}: a record without {KEY!r}; it has {', '.join(list(row)[:8])}",
                        expected=f"the column {KEY}: the path of the file that a record is about",
                        fix=f"call that column {KEY}, or rename the file if it holds no labels",
                    )
                found.setdefault(about.removeprefix("./"), row)
            none |= dict.fromkeys(name for name in batch.table.column_names if name not in (KEY, "row_id"))
            for bad in batch.quarantined:
                raise CorpusError(
                    f"{labels.path}: {bad.reason} ({bad.detail})",
                    expected="a file of labels that can be read throughout",
                    fix="repair the record, or remove it",
                )
    except FileFault as fault:
        raise CorpusError(
            f"{labels.path}: {fault.reason or UNREADABLE_FILE} ({fault.detail})",
            expected="a file of labels that can be read throughout",
            fix="repair the file, or remove it",
        ) from None
    return found, none
