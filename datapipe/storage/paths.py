"""Paths inside a store: plain, relative, '/'-separated; and URLs cut into a root and a path."""

from __future__ import annotations

from datapipe.errors import ConfigError


def check_path(path: str) -> str:
    """The path itself if it stays below the root it is relative to.

    Raises:
        ConfigError: it is absolute or empty, or holds '..', '.', a backslash, a NUL or a drive.
    """
    parts = path.split("/")
    bad = not path or ".." in parts or "." in parts or "" in parts or "\\" in path or "\0" in path
    if bad or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise ConfigError(f"path {path!r} leaves its folder or is not plain", expected="a relative path such as data/a.parquet")
    return path


def split_url(url: str) -> tuple[str, str]:
    """A file's URL or path → (its folder, its name)."""
    head, slash, tail = url.replace("\\", "/").rpartition("/") if "://" in url else url.rpartition("/")
    return (head or slash or ".", tail)
