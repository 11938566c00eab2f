"""What may name an object, and how a URL is cut into a store's root and a path in it.

What enters: names written by people, manifests and listings. What leaves: the same names, or a refusal.
Invariant: a path that `checked_path` lets through stays below any root that it is joined to.
"""

# Paths are text here: Path would normalise the names it is given, and half of these calls go with descriptors.
# ruff: noqa: PTH100, PTH111
from __future__ import annotations

import os
import re
from typing import Final

from datapipe.errors import ConfigError

_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*(?:::[A-Za-z][A-Za-z0-9+.\-]*)*://")
_DRIVE: Final = re.compile(r"^[A-Za-z]:($|[\\/])")
_LOCAL: Final = ("file", "local")


def checked_path(path: str) -> str:
    """`path` itself, if it names something below a root.

    Raises:
        ConfigError: it is empty, absolute, ends in '/', or has a '..' or '.' part, a drive or a NUL.
    """
    fault = _fault(path)
    if fault is not None:
        raise ConfigError(
            f"path {path!r} {fault}",
            expected="a path relative to its folder, with '/' between its parts and none of them '..'",
            fix="name the object relative to the folder or bucket that was opened",
        )
    return path


def checked_prefix(prefix: str) -> str:
    """The same for a folder: "" means all, and one '/' at the end is allowed and removed."""
    prefix = prefix.removesuffix("/")
    return checked_path(prefix) if prefix else ""


def _fault(path: str) -> str | None:
    if not path:
        return "is empty"
    if "\0" in path:
        return "holds a NUL byte"
    if path[0] in "/\\":
        return "is absolute"
    if _DRIVE.match(path):
        return "begins with a drive"
    if path[-1] == "/":
        return "names a folder, not an object"
    # A backslash separates parts on Windows only, but no name with '..' between backslashes means well anywhere.
    parts = path.replace("\\", "/").split("/")
    if ".." in parts:
        return "leaves its folder ('..')"
    return "has a part '.'" if "." in parts else None


def scheme_of(url: str) -> str | None:
    """The scheme in lower case ("s3"); None for a path of this machine, "file://…" included."""
    found = _SCHEME.match(url)
    if found is None:
        return None
    scheme = found.group(0)[: -len("://")].lower()
    return None if scheme in _LOCAL else scheme


def local_root(url: str) -> str:
    """The absolute local path that a URL without scheme, or with file://, names; '~' is expanded.

    Raises:
        ConfigError: it is empty, holds a NUL, or names another host (file://host/…).
    """
    if "\0" in url or not url:
        raise ConfigError(f"path {url!r} {'holds a NUL byte' if url else 'is empty'}", expected="a path or a URL")
    found = _SCHEME.match(url)
    if found is None:
        return os.path.abspath(os.path.expanduser(url))
    from urllib.parse import unquote

    host, slash, rest = url[found.end() :].partition("/")
    if host not in ("", "localhost") or not slash:
        from datapipe.storage.masking import mask

        raise ConfigError(f"{mask(url)!r} names a host or a relative path", expected="file:///absolute/path")
    return os.path.abspath("/" + unquote(rest))


def split_query(url: str) -> tuple[str, str]:
    """(URL, "?query" or ""): only http(s) has queries; elsewhere a '?' is part of a name or of a pattern."""
    if scheme_of(url) in ("http", "https"):
        base, mark, query = url.partition("?")
        return base, mark + query
    return url, ""


def split_url(url: str) -> tuple[str, str]:
    """(root, path) of the object that a URL or local path names, for `open_store(root)` and then `path`.

    A query (a signature, say) stays with the root, so that the path is safe to print:
    "https://h/a/b.txt?sig=x" → ("https://h/a?sig=x", "b.txt"). "b.txt" → (".", "b.txt").

    Raises:
        ConfigError: the URL names no object, only a root.
    """
    base, query = split_query(url)
    if scheme_of(url) is None:
        base = local_root(url)
        root, name = os.path.split(base)
    else:
        start = _SCHEME.match(base).end()  # type: ignore[union-attr]  # (scheme_of matched the same pattern)
        rest = base[start:].rstrip("/")
        folder, slash, name = rest.rpartition("/")
        root = base[:start] + folder
        if not slash:
            # memory://x has no bucket: its root is the whole file system.
            root, name = (base[:start] + "/", rest) if base.startswith("memory://") else (base, "")
    if not name:
        from datapipe.storage.masking import mask

        raise ConfigError(f"{mask(url)!r} names no object", expected="the URL of a file, such as s3://bucket/file")
    return root + query, name
