"""Which format a file has, by its name; and the registry of what reads each format.

A new format is one entry in `FORMATS` and one reader: a function of (store, piece, options) that yields batches and
raises `FileFault` where the rest of a file cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from datapipe.corpus.byte_stream import COMPRESSIONS
from datapipe.corpus.columnar import read_arrow, read_parquet
from datapipe.corpus.csv_rows import read_csv
from datapipe.corpus.documents import read_document
from datapipe.corpus.json_document import read_json
from datapipe.corpus.jsonl import read_jsonl
from datapipe.corpus.media_files import read_media_file
from datapipe.corpus.media_rows import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from datapipe.corpus.options import MEDIA
from datapipe.corpus.tar import read_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

    Reader = Callable[[Store, Piece, ReadOptions], Iterator[Batch]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        name: as in `SourceFile.format`.
        suffixes: of file names, lower case, with their dot.
        reader: reads a piece.
        cut: how one file becomes several pieces: "bytes" (lines, uncompressed), "groups" (row groups), or not.
        compressed: whether .gz and .zst may follow the suffix.
        media: what rows of it may hold ("image", "audio"); (): text and tables alone. A file of a format that tables
            have none of is passed over where text or tables are read, and the other way round.
        tables: whether text or tables can be read from it.
        single: whether a file is one row.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Reader
    cut: str = ""
    compressed: bool = True
    media: tuple[str, ...] = ()
    tables: bool = True
    single: bool = False


_TEXT: Final = (
    ".txt", ".text", ".md", ".markdown", ".mdx", ".rst", ".adoc", ".asciidoc", ".org", ".tex", ".textile", ".wiki",
    ".log", ".po", ".pod", ".man", ".srt", ".vtt",
    ".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".cu", ".cuh", ".java", ".js",
    ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".go", ".rs", ".rb", ".php", ".pl", ".pm", ".r", ".jl", ".lua", ".swift",
    ".kt", ".kts", ".scala", ".clj", ".ex", ".exs", ".erl", ".hrl", ".hs", ".ml", ".mli", ".fs", ".cs", ".vb", ".m",
    ".mm", ".d", ".zig", ".nim", ".v", ".sv", ".vhd", ".asm", ".s", ".f", ".f90", ".pas", ".ada", ".lisp", ".el",
    ".scm", ".sql", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmake", ".mk", ".proto", ".thrift", ".graphql",
    ".css", ".scss", ".less", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".xml", ".diff", ".patch",
    ".1", ".3", ".5", ".7", ".8",
)  # fmt: skip

_ALL: Final = (
    Format(name="jsonl", suffixes=(".jsonl", ".ndjson"), reader=read_jsonl, cut="bytes"),
    Format(name="json", suffixes=(".json",), reader=read_json),
    Format(name="csv", suffixes=(".csv",), reader=read_csv),
    Format(name="tsv", suffixes=(".tsv",), reader=read_csv),
    Format(
        name="parquet", suffixes=(".parquet", ".pq"), reader=read_parquet, cut="groups", compressed=False, media=MEDIA
    ),
    Format(
        name="arrow",
        suffixes=(".arrow", ".feather", ".ipc"),
        reader=read_arrow,
        cut="groups",
        compressed=False,
        media=MEDIA,
    ),
    Format(name="html", suffixes=(".html", ".htm", ".xhtml"), reader=read_document, single=True),
    Format(name="text", suffixes=_TEXT, reader=read_document, single=True),
    Format(
        name="image",
        suffixes=IMAGE_SUFFIXES,
        reader=read_media_file,
        compressed=False,
        media=("image",),
        tables=False,
        single=True,
    ),
    Format(
        name="audio",
        suffixes=AUDIO_SUFFIXES,
        reader=read_media_file,
        compressed=False,
        media=("audio",),
        tables=False,
        single=True,
    ),
    Format(name="tar", suffixes=(".tar", ".tgz"), reader=read_tar, media=MEDIA, tables=False),
)

FORMATS: Final[Mapping[str, Format]] = MappingProxyType({entry.name: entry for entry in _ALL})
"""Every format by its name."""

_BY_SUFFIX: Final = {suffix: entry.name for entry in _ALL for suffix in entry.suffixes}

# Texts that by custom have no suffix: README, LICENSE-MIT, COPYING.LESSER, copyright.
_BARE: Final = (
    "README", "LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "AUTHORS", "NOTICE", "CHANGELOG", "CHANGES", "NEWS",
    "METADATA", "TODO", "INSTALL", "CONTRIBUTING", "CONTRIBUTORS", "HISTORY", "THANKS", "CREDITS", "MAINTAINERS",
    "MAKEFILE", "DOCKERFILE", "FAQ", "BUGS", "RELEASE_NOTES",
)  # fmt: skip


def read_for(name: str | None, media: str | None) -> bool:
    """Whether files of a format are read where rows hold this medium; None: text, or tables."""
    if name is None:
        return False
    return media in FORMATS[name].media if media is not None else FORMATS[name].tables


def format_of(path: str) -> str | None:
    """The format's name, by the file's name alone; None if it is not known."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    packed = bool(dot) and f".{suffix.lower()}" in COMPRESSIONS
    if packed:
        name = stem
        stem, dot, suffix = name.rpartition(".")
    found = _BY_SUFFIX.get(f".{suffix.lower()}") if stem else None
    if found is not None:
        return found if FORMATS[found].compressed or not packed else None
    upper = name.upper()
    for bare in _BARE:
        if upper == bare or upper.startswith((f"{bare}-", f"{bare}_")):
            return "text" if "." not in name else None
        # README.Debian, COPYING.LESSER: the suffix is a word, not a type.
        if upper.startswith(f"{bare}.") and suffix[:1].isupper():
            return "text"
    return None
