"""How large a corpus is, before it is read: documents and bytes of text, from a few of its pieces.

What enters: a plan. What leaves: an estimate, and what the costly steps of the plan will need of a machine. Invariant:
a few batches are read, whatever the size of the corpus; nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.corpus import Piece
    from datapipe.preprocess.near.forecast import NearForecast
    from datapipe.preprocess.plan import Plan

PIECES: Final = 3
"""Looked at of each kind of file: the first, one in the middle, the last."""
EXPANSION: Final = 3.5
"""Bytes of text for each stored byte where a file is compressed and was not read to its end: prose by zstd or gzip."""


@final
@dataclass(frozen=True, kw_only=True)
class Size:
    """About so many documents, with so many UTF-8 bytes of text (or markup) in them."""

    documents: int
    text_bytes: int


def estimate_size(plan: Plan, storage_options: Mapping[str, Any] | None = None) -> Size:
    """Look at a few pieces of each kind of file.

    Raises:
        StorageError: one of them cannot be read.
    """
    from datapipe.corpus import FORMATS

    kinds: dict[tuple[str, bool], list[tuple[Piece, float]]] = {}
    for split in plan.splits:
        share = split.bytes / max(1, sum(piece.file.size for piece in split.pieces))
        for piece in split.pieces:
            kinds.setdefault((piece.file.format, _packed(piece)), []).append((piece, piece.file.size * min(share, 1.0)))
    documents = text_bytes = 0.0
    for (_, packed), pieces in kinds.items():
        stored = sum(size for _, size in pieces)
        rows_a_byte, text_a_byte = _density(plan, pieces, storage_options, packed=packed)
        documents += len(pieces) if FORMATS[pieces[0][0].file.format].single else stored * rows_a_byte
        text_bytes += stored * text_a_byte
    return Size(documents=round(documents), text_bytes=round(text_bytes))


def near_forecasts(
    plan: Plan, workers: int, storage_options: Mapping[str, Any] | None = None, *, documents: int | None = None
) -> list[NearForecast]:
    """What each near_duplicates step of the plan will need, if nothing is dropped before it.

    Args:
        plan: of the run. workers: processes of one core.
        storage_options: to look at the input with.
        documents: as if the input had so many, of the same kind; None: as many as it has.
    """
    from datapipe.preprocess.near.forecast import forecast

    steps = [step for step in plan.recipe.steps if step.name == "near_duplicates"]
    if not steps:
        return []
    size = estimate_size(plan, storage_options)
    if documents is not None and size.documents:
        size = Size(documents=documents, text_bytes=round(size.text_bytes * documents / size.documents))
    return [forecast(size.documents, size.text_bytes, step.options, workers=workers) for step in steps]


def _packed(piece: Piece) -> bool:
    return piece.file.format == "parquet" or piece.file.path.endswith((".gz", ".zst", ".bz2", ".xz"))


def _density(
    plan: Plan, pieces: Sequence[tuple[Piece, float]], storage_options: Mapping[str, Any] | None, *, packed: bool
) -> tuple[float, float]:
    """(rows, text bytes) for each stored byte."""
    from datapipe.corpus import read_piece

    rows = text = stored = 0.0
    for place in sorted({len(pieces) * i // PIECES for i in range(PIECES)}):
        piece, size = pieces[place]
        batches = read_piece(piece, options=plan.recipe.input.read_options(), storage_options=storage_options)
        found = next(batches, None)
        if found is None:
            continue
        n, held = found.table.num_rows + len(found.quarantined), _text_bytes(found.table)
        rows += n
        text += held
        # Where one batch is all of the piece its stored size is known; else it follows from the bytes of the text.
        stored += size if next(batches, None) is None else held / (EXPANSION if packed else 1.0)
    return (rows / stored, text / stored) if stored else (0.0, 0.0)


def _text_bytes(table: Any) -> int:
    import pyarrow.compute as pc

    name = next((name for name in ("text", "raw") if name in table.column_names), None)
    return int(pc.sum(pc.binary_length(table.column(name))).as_py() or 0) if name else int(table.nbytes)
