"""One input enters; the files under it leave, each with its name: local or remote, file, folder or pattern.

Invariant: a file's name is the input's name and its path below the input, '/'-separated, in valid Unicode.
"""

# Paths are text here, as in the stores that they are given to.
# ruff: noqa: PTH112, PTH114, PTH118, PTH208
from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from datapipe.corpus.globbing import fixed_part, is_pattern, matcher, part_matcher
from datapipe.errors import InputError, NotFoundError
from datapipe.storage import local_root, mask, open_store, scheme_of, split_query, split_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.storage import Entry


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file under an input.

    Attributes:
        input: the input as it was given, masked.
        root, path: what opens it.
        below: its path below the input; "" for the input itself.
        name: what it will be called.
        identity: the same for the same file, however it was reached.
        named: whether it was the input itself, not found in a folder or by a pattern.
        skipped: why the listing passed over it, or None.
    """

    input: str
    root: str
    path: str
    below: str
    name: str
    identity: str
    named: bool = False
    size: int = 0
    etag: str = ""
    skipped: str | None = None

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return mask(f"{split_query(self.root)[0].rstrip('/')}/{self.path}")


def find(given: str, name: str | None, text: str, *, storage_options: Mapping[str, Any] | None) -> Iterator[Found]:
    """The files under one input.

    Args:
        given: the input as it was written.
        name: the name that it was given, or None.
        text: the input without its name.
        storage_options: for URLs, and `follow_symlinks` for folders.

    Raises:
        InputError: there is nothing by that name, or nothing matches the pattern.
        StorageError: it could not be listed.
    """
    real_folder.cache_clear()
    local = scheme_of(text) is None
    base, query = split_query(local_root(text) if local else text)
    shown = mask(given)
    if is_pattern(base) and not (local and os.path.lexists(base)):
        top, pattern = fixed_part(base)
        test = matcher(pattern)
        empty = True
        for found in _matching(shown, top + query, pattern, name or _own_name(top), storage_options):
            if test.match(found.below):
                empty = False
                yield found
        if empty:
            raise _unmatched(shown)
        return
    if _may_be_file(base, local=local):
        try:
            entry, root = _single(base + query, storage_options)
        except NotFoundError as error:
            if local:
                raise _absent(shown) from error
        else:
            yield _found(shown, root, entry, name or _own_name(base), named=True)
            return
    empty = True
    for found in _below(shown, base + query, name or _own_name(base), storage_options):
        empty = False
        yield found
    if empty and not local:
        raise _absent(shown)


def _may_be_file(base: str, *, local: bool) -> bool:
    if local:
        return not os.path.isdir(base)
    # s3://bucket alone is a folder, and so is what ends in '/'.
    return not base.endswith("/") and ("/" in base.partition("://")[2] or base.startswith("memory://"))


def _single(url: str, storage_options: Mapping[str, Any] | None) -> tuple[Entry, str]:
    root, path = split_url(url)
    return open_store(root, storage_options=storage_options).info(path), root


def _matching(
    shown: str, top: str, pattern: str, name: str, storage_options: Mapping[str, Any] | None
) -> Iterator[Found]:
    """What may match.

    On this machine only what lies under folders that match the parts before `**`, so that a pattern in a large folder
    does not walk all of it; elsewhere all that is listed below the fixed part.
    """
    if scheme_of(top) is not None:
        yield from _below(shown, top, name, storage_options)
        return
    heads = [""]
    for part in pattern.split("/"):
        if part == "**":
            break
        test = part_matcher(part)
        heads = [os.path.join(head, item) for head in heads for item in _names(top, head) if test.match(item)]
    follow = bool((storage_options or {}).get("follow_symlinks", False))
    real_top = os.path.realpath(top)
    for head in heads:
        where = os.path.join(top, head)
        if os.path.isdir(where):
            yield from _below(shown, top, name, storage_options, prefix=head)
        elif not follow and os.path.commonpath([os.path.realpath(where), real_top]) != real_top:
            yield _passed_over(shown, top, head, name, "link_out_of_folder")
        else:
            try:
                entry = open_store(top).info(head)
            except NotFoundError:
                yield _passed_over(shown, top, head, name, "not_regular_file")
            else:
                yield _found(shown, top, entry, name)


def _names(top: str, head: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(top, head)))
    except OSError:  # a file, or a folder that may not be listed: no pattern matches within
        return []


def _below(
    shown: str, root: str, name: str, storage_options: Mapping[str, Any] | None, prefix: str = ""
) -> Iterator[Found]:
    """Everything in a folder, or below a prefix of it."""
    entries, passed_over = open_store(root, storage_options=storage_options).survey(prefix)
    for path, reason in passed_over:
        yield _passed_over(shown, root, path, name, reason)
    for entry in entries:
        yield _found(shown, root, entry, name)


def _found(shown: str, root: str, entry: Entry, name: str, *, named: bool = False) -> Found:
    return Found(
        input=shown,
        root=root,
        path=entry.path,
        below="" if named else entry.path,
        name=_clean(name if named else f"{name}/{entry.path}"),
        identity=_identity(root, entry.path),
        named=named,
        size=entry.size,
        etag=entry.etag,
    )


def _passed_over(shown: str, root: str, path: str, name: str, reason: str) -> Found:
    return Found(
        input=shown,
        root=root,
        path=path,
        below=path,
        name=_clean(f"{name}/{path}" if path else name),
        identity=f"{split_query(root)[0]}\0{path}",
        skipped=reason,
    )


def _identity(root: str, path: str) -> str:
    if scheme_of(root) is None:
        return real_path(os.path.join(root, path))
    return f"{split_query(root)[0].rstrip('/')}/{path}"


@lru_cache(maxsize=256)
def real_folder(folder: str) -> str:
    """`os.path.realpath`, remembered until `find` is begun anew."""
    return os.path.realpath(folder)


def real_path(path: str) -> str:
    """The same of a file; its folder is resolved once, not for each file in it: a third of the time of finding them."""
    folder, name = os.path.split(path)
    where = os.path.join(real_folder(folder), name)
    return os.path.realpath(where) if name in (".", "..") or os.path.islink(where) else where


def _own_name(url: str) -> str:
    """What an input is called that was given no name: the last part of its path."""
    base = split_query(url)[0]
    if scheme_of(url) is not None:
        base = base.partition("://")[2].rpartition("@")[2]
    return _clean(base.rstrip("/").rpartition("/")[2] or "root")


def _clean(name: str) -> str:
    """File names need not be Unicode; names of files here do, since they stand in tables and JSON."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unmatched(shown: str) -> InputError:
    return InputError(
        f"nothing matches {shown}",
        expected="a pattern that matches at least one file",
        fix="check the pattern, or leave the input out; a relative one starts from the current folder",
    )


def _absent(shown: str) -> InputError:
    return InputError(
        f"there is no {shown}",
        expected="a file, a folder, a pattern in quotes, or a URL of one of these",
        fix="check the path; a relative one starts from the current folder",
    )
