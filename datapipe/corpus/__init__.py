"""Raw inputs → Arrow batches: discover the files, plan splits that any number of workers share, read a piece.

    discover(inputs) → files  ──►  plan_splits(files) → splits  ──►  read_piece(piece) → batches

Importing this imports no Arrow.
"""

from __future__ import annotations

from datapipe.corpus.discovery import Discovery, discover
from datapipe.corpus.formats import FORMATS, Format, format_of
from datapipe.corpus.joining import joined
from datapipe.corpus.label_coverage import uncovered_labels
from datapipe.corpus.options import ReadOptions
from datapipe.corpus.piece import Batch, Piece, Quarantined, SourceFile, Split
from datapipe.corpus.reading import read_piece
from datapipe.corpus.reasons import FILE_REASONS, ROW_REASONS
from datapipe.corpus.splitting import plan_splits

__all__ = [
    "FILE_REASONS",
    "FORMATS",
    "ROW_REASONS",
    "Batch",
    "Discovery",
    "Format",
    "Piece",
    "Quarantined",
    "ReadOptions",
    "SourceFile",
    "Split",
    "discover",
    "format_of",
    "joined",
    "plan_splits",
    "read_piece",
    "uncovered_labels",
]
