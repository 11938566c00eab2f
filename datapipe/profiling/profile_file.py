"""`profile.json`: one plain JSON object, versioned, written whole or not at all, validated when read.

What enters and leaves: a `Summary`. Invariant: `load_profile(save_profile(summary))` equals the summary; anything
else that is read is a `ProfileError` that says what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.errors import NoProfileError, NoSpaceError, ProfileError
from datapipe.profiling.profile_check import wrong
from datapipe.profiling.summary import FORMAT, VERSION, Summary
from datapipe.profiling.unfinished import left

if TYPE_CHECKING:
    import os

    from pydantic import ValidationError

NAME: Final = "profile.json"
_LARGEST: Final = 256 << 20
"""Bytes; a profile of the step cap with fifty parts is 6 MB."""


def save_profile(summary: Summary, folder: str | os.PathLike[str]) -> Path:
    """Write `folder/profile.json`, atomically; the folder is made.

    Raises:
        ProfileError: the folder cannot be made or written.
        NoSpaceError: the disk is full.
    """
    text = json.dumps(summary.as_dict(), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return write_whole(Path(folder) / NAME, text.encode("utf-8", "replace"))


def load_profile(path: str | os.PathLike[str]) -> Summary:
    """Read a profile back.

    Args:
        path: the folder of a run, or its `profile.json`.

    Raises:
        NoProfileError: there is none.
        ProfileError: it is not a profile, is damaged, or was written by another version.
    """
    file = Path(path)
    file = file / NAME if file.is_dir() else file
    try:
        if file.stat().st_size > _LARGEST:
            raise ProfileError(f"{file} has {file.stat().st_size:,} bytes", expected=f"a profile, at most {_LARGEST:,}")
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NoProfileError(
            f"there is no profile at {file}",
            expected=f"a folder with {NAME}, or that file",
            fix=left(file.parent)
            or "record one: with datapipe.profile(FOLDER) as prof, or `datapipe profile script.py`",
        ) from None
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProfileError(
            f"{file} is not JSON: {error}", expected="a whole profile", fix="record the run again; this file is damaged"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ProfileError(f"{file} is not a profile (format {found!r})", expected=f"format {FORMAT!r}")
    if data.get("version") != VERSION:
        raise ProfileError(
            f"{file} has version {data.get('version')!r}",
            expected=f"version {VERSION}",
            fix="read it with the datapipe that wrote it, or record the run again",
        )
    return _validated(raw, file)


def _validated(raw: bytes, file: Path) -> Summary:
    from pydantic import TypeAdapter, ValidationError

    try:
        summary = TypeAdapter(Summary).validate_json(raw)
    except ValidationError as error:
        raise ProfileError(
            f"{file} is damaged: {_first(error)}", expected="every field of a profile", fix="record the run again"
        ) from None
    series = summary.series
    columns = [series.start_ns, series.total_ns, series.kind, *series.parts_ns.values(), *series.waits_ns.values()]
    if any(len(column) != len(series.number) for column in columns):
        raise ProfileError(
            f"{file} is damaged: its step columns differ in length",
            expected=f"{len(series.number)} values in each",
            fix="record the run again",
        )
    if said := wrong(summary):
        raise ProfileError(f"{file} is damaged: {said}", expected="the figures of a run", fix="record the run again")
    return summary


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(place) for place in problem['loc'])}: {problem['msg']}"


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file beside its place and rename it there, so that a reader never sees half of it."""
    import errno

    # A name that nobody can guess, and a file that was not there: in a shared folder a link may lie in wait for it.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            file.write(data)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"no space left to write {path}", fix="free some, or profile into another folder"
            ) from error
        raise ProfileError(
            f"{path} cannot be written: {error.strerror or error}", fix="choose a folder that can be written"
        ) from error
    return path
