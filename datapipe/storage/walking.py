"""A local folder's files in the order of their paths, and what was passed over, each with its reason.

Invariant: every name is yielded at most once and the walk ends, whatever the links; temporary files are not seen.

A listing holds what lies in the folder. Links to files below the root are listed; links that lead out of it and links
to folders are passed over unless `follow` is set, and then only a link back to a folder above itself is.
"""

# Paths are text here: Path would normalise the names it is given, and half of these calls go with descriptors.
# ruff: noqa: PTH116, PTH118
from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datapipe.storage.os_faults import NOT_FOUND, os_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.errors import StorageError

TEMPORARY: Final = ".datapipe-tmp-"
"""How the names of files begin that a put has not finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One regular file: its path below the root, and its status (links followed)."""

    path: str
    status: os.stat_result


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """Something that is not listed, and why; `fault` where the operating system refused."""

    path: str
    reason: str
    fault: StorageError | None = None


def walk(root: str, prefix: str = "", *, follow: bool = False) -> Iterator[Found | PassedOver]:
    """Every file below `root`/`prefix`, sorted by path. A folder that is not there holds none."""
    real_root = os.path.realpath(root)
    # A stack of open folders, not recursion: folders may lie deeper than Python calls go.
    opened = [_folder(root, prefix, real_root, frozenset(), follow=follow)]
    while opened:
        item = next(opened[-1], None)
        if item is None:
            opened.pop()
        elif isinstance(item, _Within):
            opened.append(_folder(root, item.path, real_root, item.above, follow=follow))
        else:
            yield item


@dataclass(frozen=True, slots=True)
class _Within:
    """A folder to go into next; `above`: device and inode of each folder that it lies in."""

    path: str
    above: frozenset[tuple[int, int]]


def _folder(
    root: str, folder: str, real_root: str, above: frozenset[tuple[int, int]], *, follow: bool
) -> Iterator[Found | PassedOver | _Within]:
    where = os.path.join(root, folder) if folder else root
    try:
        here = os.stat(where)
        with os.scandir(where) as found:
            items = [(item, _is_folder(item)) for item in found if not item.name.startswith(TEMPORARY)]
    except OSError as error:
        if error.errno not in NOT_FOUND:  # not there, gone since, or a file: it holds nothing
            yield PassedOver(path=folder, reason="unreadable_folder", fault=os_fault(error, f"listing {where}"))
        return
    if follow:  # only then can a folder lie in itself
        above |= {(here.st_dev, here.st_ino)}
    # With '/' after a folder's name, the order within each folder is the order of whole paths.
    for item, is_folder in sorted(items, key=lambda pair: pair[0].name + "/" * pair[1]):
        path = f"{folder}/{item.name}" if folder else item.name
        try:
            reason = _reason(item, real_root, above, is_folder=is_folder, follow=follow)
            if reason is not None:
                yield PassedOver(path=path, reason=reason)
            elif is_folder:
                yield _Within(path, above)
            else:
                yield Found(path=path, status=item.stat())
        except FileNotFoundError:
            continue  # deleted between the listing and the look
        except OSError as error:
            yield PassedOver(path=path, reason="unreadable", fault=os_fault(error, f"looking at {item.path}"))


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself: it must not hide its neighbours
        return False


def _reason(
    item: os.DirEntry[str], real_root: str, above: frozenset[tuple[int, int]], *, is_folder: bool, follow: bool
) -> str | None:
    if not item.is_symlink():
        return None if is_folder or item.is_file() else "not_regular_file"
    try:
        status = item.stat()
    except OSError:
        return "broken_link"
    if not (is_folder or stat.S_ISREG(status.st_mode)):
        return "not_regular_file"
    if follow:
        return "link_to_folder_above" if is_folder and (status.st_dev, status.st_ino) in above else None
    if is_folder:
        return "link_to_folder"
    real = os.path.realpath(item.path)
    return None if os.path.commonpath([real, real_root]) == real_root else "link_out_of_folder"
