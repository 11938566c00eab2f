"""What was named as a dataset and is none: the error that says what to name instead.

What enters: what the user wrote, and the store that it led to. What leaves: a path, or an error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from datapipe.dataset.index import SUFFIXES
from datapipe.errors import ConfigError, DatasetError, NotFoundError
from datapipe.storage import local_root, mask, scheme_of

if TYPE_CHECKING:
    from datapipe.storage import Store

_PATTERN: Final = frozenset("*?[")


def one_place(url: Any) -> str:
    """`url` as text.

    Raises:
        ConfigError: it is a list of places, or nothing that names one.
    """
    if isinstance(url, (str, os.PathLike)):
        return os.fspath(url)
    raise ConfigError(
        f"open_dataset({mask(str(url)[:80])})",
        expected="one path or URL: of a folder, or of a file",
        fix="name the folder that the files are in, or open each and datapipe.mix them",
    )


def nothing_to_open(url: str, store: Store) -> DatasetError | NotFoundError:
    """The error for a place with no data file and no manifest."""
    expected = "files ending in " + ", ".join(SUFFIXES)
    remote = scheme_of(url) is not None
    there = not remote and os.path.lexists(local_root(url))
    if not there and _PATTERN & set(url.split("?", 1)[0] if remote else url):
        return DatasetError(
            f"{store.url} is a pattern",
            expected="the name of a folder, or of one file",
            fix="name the folder: all Parquet or Arrow files in it are one dataset",
        )
    if not there and (not remote or url.split("?", 1)[0].lower().endswith(tuple(SUFFIXES))):
        return NotFoundError(
            f"{store.url}: there is nothing by that name",
            expected="a folder with " + expected,
            fix="check the path, or make a dataset with `datapipe preprocess INPUT OUTPUT`",
        )
    return DatasetError(
        f"{store.url} holds no Parquet or Arrow file and no manifest.json",
        expected=expected,
        fix="check the path, or make a dataset with `datapipe preprocess INPUT OUTPUT`",
    )
