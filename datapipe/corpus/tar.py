"""Tar files of samples, as WebDataset has them: a whole file enters, its rows leave.

    000001.jpg  000001.cls  000001.json   →  one row: image, label, the fields of the object
    000002.jpg  …

Members that follow each other and share the name up to its first dot are one row (github.com/webdataset/webdataset,
"The WebDataset Format"): the picture or sound, `.cls` → `label`, `.txt` → `text`, the fields of `.json`, and any other
member as bytes under its ending. A row's position is its number in the file. `.gz` and `.zst` are read as they come.

Invariant: nothing is written to any disk, whatever a member is called; members that are no regular files, lead out of
the folder or are larger than a row may be cost their row alone, each with its reason; a file that is cut gives every
row before the cut, then the fault. Memory: one row of at most `max_row_bytes`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.corpus.byte_stream import open_stream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.in_batches import in_batches
from datapipe.corpus.json_row import as_text
from datapipe.corpus.media_rows import AUDIO_SUFFIXES, IMAGE_SUFFIXES, MediaRows
from datapipe.corpus.reasons import (
    INVALID_JSON,
    MALFORMED_ROW,
    MISSING_MEDIA,
    NO_COLUMNS,
    NOT_REGULAR_FILE,
    ROW_TOO_LARGE,
    UNSAFE_PATH,
)
from datapipe.corpus.tar_stream import TarStream
from datapipe.corpus.utf8 import decode_counting, without_surrogates

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

_SUFFIXES: Final = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES}
_MOST_MEMBERS: Final = 256
"""Members of one row."""


def read_tar(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of a whole .tar, .tar.gz, .tgz or .tar.zst file."""
    if options.media is None:
        raise FileFault(NO_COLUMNS, "a tar file of samples, and rows of text or of a table are read")
    rows = MediaRows(options, piece.file.name)
    with open_stream(store, piece.file.path) as stream:
        yield from in_batches(rows, _Samples(TarStream(stream), rows, options).each())


@final
class _Samples:
    """Reads members one by one and adds a row where the next begins."""

    def __init__(self, stream: TarStream, rows: MediaRows, options: ReadOptions) -> None:
        self._stream = stream
        self._rows = rows
        self._options = options
        self._number = 0
        self._begin("")

    def _begin(self, key: str) -> None:
        self._key = key
        self._found: dict[str, bytes] = {}
        self._paths: dict[str, str] = {}
        self._size = 0
        self._bad: tuple[str, str] | None = None
        self._any = False

    def each(self) -> Iterator[None]:
        """Add every sample to the rows, stopping after each.

        Raises:
            FileFault: the file is cut or damaged here; the sample that was being read is lost in it.
        """
        for member in self._stream.members():
            if member.isdir():
                continue
            name = _clean(member.name)
            key, ending = _parted(name)
            if self._any and key != self._key:
                self._end()
                yield None
            if not self._any:
                self._begin(key)
            self._any = True
            self._take(member, name, ending)
        if self._any:
            self._end()
            yield None
        self._stream.check_end()

    def _take(self, member: tarfile.TarInfo, name: str, ending: str) -> None:
        """One member of the sample at hand."""
        if name.startswith("/") or ".." in name.split("/"):
            self._spoil(UNSAFE_PATH, name)
        elif not member.isreg() or member.issparse():
            kind = "a link" if member.islnk() or member.issym() else "a sparse file" if member.isreg() else "no file"
            self._spoil(NOT_REGULAR_FILE, f"{name} is {kind}")
        elif ending in self._found or len(self._found) >= _MOST_MEMBERS:
            self._spoil(MALFORMED_ROW, f"{name}: two members of one name and ending, or more than {_MOST_MEMBERS}")
        elif self._size + member.size > self._options.max_row_bytes:
            self._spoil(ROW_TOO_LARGE, f"{name}: {member.size:,} bytes; a row may have {self._options.max_row_bytes:,}")
        elif self._bad is None:
            self._size += member.size
            self._found[ending] = self._stream.content(member)
            self._paths[ending] = name

    def _spoil(self, reason: str, detail: str) -> None:
        """The sample at hand cannot be a row; the first reason counts, and what it holds is let go."""
        self._bad = self._bad or (reason, detail)
        self._found, self._paths = {}, {}

    def _end(self) -> None:
        number = self._number
        self._number += 1
        self._any = False
        bad = self._bad or self._add(number)
        if bad is not None:
            self._rows.quarantine(number, *bad, excerpt=self._key)

    def _add(self, number: int) -> tuple[str, str] | None:
        """The row of the sample; or why there is none."""
        assert self._options.media is not None
        suffixes = _SUFFIXES[self._options.media]
        endings = [ending for ending in self._found if f".{ending.rpartition('.')[2]}" in suffixes]
        if not endings:
            has = ", ".join(list(self._found)[:8]) or "nothing"
            return MISSING_MEDIA, f"no member {self._options.media}; it has {has}"
        # Of 1.jpg and 1.mask.png the one with the plain ending is the picture, and the other a field.
        chosen = min(endings, key=lambda ending: ending.count("."))
        media, path = self._found.pop(chosen), self._paths[chosen]
        label: str | None = None
        more: dict[str, str | bytes | None] = {}
        for ending, data in self._found.items():
            if ending == "json":
                fields = _fields(data)
                if fields is None:
                    return INVALID_JSON, f"{self._paths[ending]} is no JSON object"
                more |= fields
            elif ending in ("cls", "cls.txt"):
                label = decode_counting(data)[0].strip() or None
            elif ending in ("txt", "text"):
                more["text"] = decode_counting(data)[0]
            else:
                more[ending] = data
        own = more.pop("label", None)
        self._rows.add(number, media, path, label if label is not None else own if isinstance(own, str) else None, more)
        return None


def _parted(name: str) -> tuple[str, str]:
    """("folder/000001", "mask.png") of "folder/000001.mask.png": the key and the ending, lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _fields(data: bytes) -> dict[str, str | None] | None:
    try:
        value: Any = json.loads(data)
        if not isinstance(value, dict):
            return None
        return {
            without_surrogates(name)[0]: None if each is None else without_surrogates(as_text(each))[0]
            for name, each in value.items()
        }
    except (ValueError, RecursionError):
        return None


def _clean(name: str) -> str:
    """Names of members need not be Unicode; values of a column do."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name.removeprefix("./")
