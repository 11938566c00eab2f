"""Inputs as people write them enter; the files to read, and all that was passed over, leave.

An input is a file, a folder, a pattern or a URL of one of these; `NAME=INPUT` gives it a name. Files are called after
the input they were found under and their path below it, so their names, and with them all row ids, do not change when
the corpus moves to another folder or machine.
Invariant: every file that an input holds is either in `files`, once, or in `skipped` with its reason; no two files have
the same name; both are sorted, whatever order the file system has.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.corpus.finding import Found, find
from datapipe.corpus.formats import FORMATS, format_of, read_for
from datapipe.corpus.globbing import is_pattern
from datapipe.corpus.labels import add_label_file, is_label_file, with_labels
from datapipe.corpus.piece import SourceFile
from datapipe.corpus.reasons import HIDDEN, OTHER_MEDIUM, UNKNOWN_FORMAT
from datapipe.errors import ConfigError, CorpusError
from datapipe.storage import mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.corpus.piece import LabelFile

_NAMED: Final = re.compile(r"([A-Za-z0-9][\w.\-]*)=(?!=)(.+)", re.DOTALL)
_RECIPES: Final = (("image", "images", "pictures"), ("audio", "audio", "sounds"))
"""Of formats that hold no text: the recipe that reads them."""


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What was found: `files` to read, sorted by name, and `skipped`, (name, reason) of each that was not taken."""

    files: tuple[SourceFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Stored bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def skipped_counts(self) -> dict[str, int]:
        """How many files were skipped for each reason."""
        return dict(sorted(Counter(reason for _, reason in self.skipped).items()))

    @property
    def skipped_examples(self) -> dict[str, str]:
        """The first file, by name, that was skipped for each reason."""
        return {reason: name for name, reason in sorted(self.skipped, reverse=True)}


def discover(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    storage_options: Mapping[str, Any] | None = None,
    format: str | None = None,  # noqa: A002  (it is called so everywhere)
    media: str | None = None,
) -> Discovery:
    """The files that `inputs` hold.

    Hidden files (a part below the input begins with a dot) and those of no known format are skipped and counted; so is
    what a folder's listing passes over: links that lead out of it, unless storage_options={"follow_symlinks": True}.

    Args:
        inputs: one input or several: paths, folders, patterns ("data/**/*.jsonl.gz"), URLs ("s3://bucket/folder"),
            each perhaps as NAME=INPUT.
        storage_options: for the URLs among them.
        format: read every file as this, whatever its name: one of `FORMATS`.
        media: rows are to hold this medium ("image", "audio"): files of it, tar files and tables are taken, files of
            labels (`labels`) stand beside those they are about, and all others are skipped; None: text and tables.

    Raises:
        ConfigError: the format is unknown, or two files would have the same name.
        InputError: an input is not there. CorpusError: none of them holds a file that can be read.
        StorageError: a URL could not be listed.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f"format {format!r}", expected=f"one of {', '.join(FORMATS)}")
    texts = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    given = [os.fspath(text) for text in texts]
    if not given:
        raise ConfigError("no input was given", expected="a file, a folder, a pattern or a URL")
    files: dict[str, SourceFile] = {}
    origin: dict[str, Found] = {}
    seen: set[str] = set()
    skipped: set[tuple[str, str]] = set()
    labels: dict[tuple[str, str], LabelFile] = {}
    for text in given:
        for found in find(text, *_named(text), storage_options=storage_options):
            if found.identity in seen:
                continue
            seen.add(found.identity)
            reason = found.skipped or _reason(found, format, media)
            if reason is not None:
                skipped.add((found.name, reason))
            elif media is not None and is_label_file(found.path):
                add_label_file(labels, found.root, found.path, found.etag)
            else:
                _take(found, format, files, origin)
    if not files:
        raise _nothing(given, skipped)
    taken = (with_labels(files[name], labels) if labels else files[name] for name in sorted(files))
    return Discovery(files=tuple(taken), skipped=tuple(sorted(skipped)))


def _named(text: str) -> tuple[str | None, str]:
    """(name or None, input). A path that has a '=' and is there, as in date=2024/, is a path."""
    found = _NAMED.fullmatch(text)
    first = text.split("/", maxsplit=1)[0]
    if found is None or os.path.lexists(first) or (is_pattern(first) and any(Path().glob(first))):
        return None, text
    return found[1], found[2]


def _reason(found: Found, format: str | None, media: str | None) -> str | None:  # noqa: A002  (as above)
    if not found.named and any(part.startswith(".") for part in found.below.split("/")):
        return HIDDEN
    if format is not None or (media is not None and is_label_file(found.path)):
        return None
    known = format_of(found.path)
    if media is not None and known is not None and not read_for(known, media):
        return OTHER_MEDIUM
    return None if read_for(known, media) else UNKNOWN_FORMAT


def _take(
    found: Found,
    format: str | None,  # noqa: A002  (as above)
    files: dict[str, SourceFile],
    origin: dict[str, Found],
) -> None:
    if found.name in files:
        raise ConfigError(
            f"two files would be called {found.name!r}: {origin[found.name].shown} and {found.shown}",
            expected="a name of its own for each file, since row ids are made of it",
            fix=f"name one of the inputs: NAME={found.input}",
        )
    origin[found.name] = found
    files[found.name] = SourceFile(
        root=found.root,
        path=found.path,
        name=found.name,
        format=format or format_of(found.path) or "",
        size=found.size,
        etag=found.etag,
    )


def _nothing(given: Sequence[str], skipped: set[tuple[str, str]]) -> CorpusError:
    where = ", ".join(mask(text) for text in given[:4]) + (f" and {len(given) - 4} more" if len(given) > 4 else "")
    counts = Counter(reason for _, reason in skipped)
    why = "; ".join(f"{n} skipped: {reason}" for reason, n in sorted(counts.items()))
    example = f" (such as {min(skipped)[0]})" if skipped else ""
    fix = "check the path"
    if OTHER_MEDIUM in counts:
        fix = "choose the recipe for what they are (images, audio, text, table), or name the folder of the medium"
    elif UNKNOWN_FORMAT in counts:
        kinds = {format_of(name) for name, reason in skipped if reason == UNKNOWN_FORMAT}
        named = [f"{recipe} for {what}" for kind, recipe, what in _RECIPES if kind in kinds]
        fix = "say what they are: --set input.format=text, or format= in Python"
        if named:
            fix = f"choose the recipe for what they are: --recipe {', '.join(named)}"
    if any(reason.startswith("link") for reason in counts):
        fix = 'to read what links lead to, pass storage_options={"follow_symlinks": True}'
    return CorpusError(
        f"nothing to read in {where}" + (f": {why}{example}" if why else ": it is empty"),
        expected=f"files of a known format: {', '.join(FORMATS)}",
        fix=fix,
    )
