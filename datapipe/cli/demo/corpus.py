"""The demo's corpus: real text that any machine has, copied so that a second run finds the same bytes.

What enters: the folders where documentation, licences, metadata and sources of installed packages lie. What leaves: a
folder of about 24 MB, a mixture of kinds. Invariant: only regular, readable files of known endings are taken, no
link is followed and nothing outside the named roots is read; the choice depends on file names and sizes alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_BYTES: Final = 24_000_000
_MAX_FILE: Final = 400_000  # so that no single changelog is the corpus
_MIN_FILE: Final = 200
_DOCS: Final = (".md", ".rst", ".txt", ".html", ".htm", ".txt.gz")
_DOC_NAMES: Final = ("copyright", "METADATA", "LICENSE", "LICENCE", "README", "NEWS", "AUTHORS", "COPYING")
# Documentation first: sources fill up what is left, so that the mixture stays readable text.
_SHARES: Final = {"documentation": 0.6, "sources": 1.0}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A demo corpus: where it is, how many files and bytes it has, and from where they came."""

    folder: Path
    files: int
    bytes: int
    roots: tuple[str, ...]


def machine_roots() -> list[Path]:
    """Where a machine keeps text: the packages of this Python, its standard library, and the system's documentation."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "/usr/share/doc", "/usr/local/share/doc"]
    return [Path(path) for path in dict.fromkeys(paths) if path and Path(path).is_dir()]


def gather(folder: Path, *, roots: list[Path] | None = None, target: int = TARGET_BYTES) -> Found:
    """Copy about `target` bytes of text into `folder`; a folder already filled is taken as it is.

    Raises:
        CorpusError: none of the roots holds any text.
    """
    done = folder.parent / (folder.name + ".json")
    if done.is_file() and folder.is_dir():
        kept = json.loads(done.read_text())
        return Found(folder=folder, files=kept["files"], bytes=kept["bytes"], roots=tuple(kept["roots"]))
    roots = machine_roots() if roots is None else roots
    chosen = _choose(roots, target)
    if not chosen:
        raise CorpusError(
            f"no text was found under {', '.join(map(str, roots)) or 'any known folder'}",
            expected="documentation or Python sources",
            fix="give your own: datapipe demo --input FOLDER",
        )
    shutil.rmtree(folder, ignore_errors=True)
    for source, name, _ in chosen:
        target_file = folder / name
        target_file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target_file)
    found = Found(
        folder=folder, files=len(chosen), bytes=sum(size for *_, size in chosen), roots=tuple(map(str, roots))
    )
    record = {"files": found.files, "bytes": found.bytes, "roots": found.roots}
    done.write_text(json.dumps(record))
    return found


def _choose(roots: list[Path], target: int) -> list[tuple[Path, str, int]]:
    kinds: dict[str, list[tuple[Path, str, int]]] = {kind: [] for kind in _SHARES}
    for place, root in enumerate(roots):
        for path, size in _walk(root):
            kind = _kind(path)
            if kind is not None:
                # Two roots may hold the same relative path; the number keeps them apart.
                kinds[kind].append((path, f"{place}-{root.name}/{path.relative_to(root)}", size))
    chosen: list[tuple[Path, str, int]] = []
    total = 0
    for kind, share in _SHARES.items():
        # A stride over the sorted names takes from every package, not from the first few.
        for candidate in _strided(kinds[kind]):
            if total >= target * share:
                break
            chosen.append(candidate)
            total += candidate[2]
    return sorted(chosen, key=lambda item: item[1])


def _strided(items: list[tuple[Path, str, int]]) -> Iterator[tuple[Path, str, int]]:
    ordered = sorted(items, key=lambda item: item[1])
    for start in range(7):
        yield from ordered[start::7]


def _walk(root: Path) -> Iterator[tuple[Path, int]]:
    for folder, subfolders, files in os.walk(root, followlinks=False):
        subfolders[:] = sorted(d for d in subfolders if not d.startswith((".", "__pycache__", "site-packages")))
        for name in files:
            path = Path(folder) / name
            try:
                info = path.lstat()
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
            except OSError:
                continue
            if _MIN_FILE <= info.st_size <= _MAX_FILE:
                yield path, info.st_size


def _kind(path: Path) -> str | None:
    name = path.name
    if name.lower().endswith(_DOCS) or name.startswith(_DOC_NAMES):
        return "documentation"
    return "sources" if name.endswith(".py") else None
