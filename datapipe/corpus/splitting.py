"""Source files enter, splits of about equal size leave: the tasks of a run.

Invariant: the splits are a function of the files and `target_bytes` alone, never of the number of workers, so that a
run that is resumed on another machine has the same tasks. Every file is in them, whole or in pieces that join.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from datapipe.corpus.byte_stream import compression_of
from datapipe.corpus.columnar import row_group_sizes
from datapipe.corpus.formats import FORMATS
from datapipe.corpus.piece import Piece, Split
from datapipe.errors import AccessError, ConfigError, IntegrityError, NotFoundError
from datapipe.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datapipe.corpus.piece import SourceFile

_MOST_PIECES: Final = 2048  # in a split: opening a file costs as much as reading some 16 KiB


def plan_splits(
    files: Sequence[SourceFile], *, target_bytes: int = 32 << 20, storage_options: Mapping[str, Any] | None = None
) -> list[Split]:
    """The tasks for `files`, in their order.

    Files larger than `target_bytes` are cut where their format allows: uncompressed JSON lines by bytes, Parquet and
    local Arrow files by row groups (their footers are read for that). Small files share a split.

    Args:
        files: as discovered.
        target_bytes: stored bytes of a split, about; a row group or a compressed file may exceed it.
        storage_options: to read footers with.

    Raises:
        ConfigError: `target_bytes` is less than 1.
        StorageError: a footer could not be fetched, in passing; a damaged or missing file is left to its reader.
    """
    if target_bytes < 1:
        raise ConfigError(f"target_bytes={target_bytes}", expected="at least 1")
    splits: list[Split] = []
    pieces: list[Piece] = []
    total = 0
    for file in files:
        for piece, size in _cut(file, target_bytes, storage_options):
            if pieces and (total + size > target_bytes or len(pieces) >= _MOST_PIECES):
                splits.append(Split(index=len(splits), pieces=tuple(pieces), bytes=total))
                pieces, total = [], 0
            pieces.append(piece)
            total += size
    if pieces:
        splits.append(Split(index=len(splits), pieces=tuple(pieces), bytes=total))
    return splits


def _cut(file: SourceFile, target: int, storage_options: Mapping[str, Any] | None) -> Iterator[tuple[Piece, int]]:
    cut = FORMATS[file.format].cut if file.format in FORMATS else ""
    if file.size > target and cut == "bytes" and compression_of(file.path) is None:
        n = -(-file.size // target)
        edges = [file.size * i // n for i in range(n + 1)]
        for start, end in itertools.pairwise(edges):
            yield Piece(file=file, start=start, end=end), end - start
        return
    sizes = _groups(file, storage_options) if file.size > target and cut == "groups" else None
    if sizes is None or len(sizes) < 2:
        yield Piece(file=file), file.size
        return
    start = held = 0
    for group, size in enumerate(sizes):
        if held and held + size > target:
            yield Piece(file=file, start=start, end=group), held
            start, held = group, 0
        held += size
    yield Piece(file=file, start=start, end=len(sizes)), held


def _groups(file: SourceFile, storage_options: Mapping[str, Any] | None) -> list[int] | None:
    try:
        return row_group_sizes(open_store(file.root, storage_options=storage_options), file.path, file.format)
    except (NotFoundError, AccessError, IntegrityError):
        return None
