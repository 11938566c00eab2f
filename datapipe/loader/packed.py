"""Packed sequences: where each token stands within its own document.

What enters: `tokens [B, T]` and `segment_ids [B, T]` of a batch. What leaves: `position_ids [B, T]` int64 beside them.
Invariant: 0 at each row's start and wherever the segment changes, else one more than to the left; padding
(segment 0) counts as a segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.device import BufferPool

TOKENS: Final = "tokens"
SEGMENTS: Final = "segment_ids"
POSITIONS: Final = "position_ids"


def add_positions(batch: dict[str, Any], pool: BufferPool, dtype: npt.DTypeLike = np.int64) -> None:
    """Add `position_ids` to a batch with tokens and segment_ids of the same two dimensions and none of its own."""
    segments, tokens = batch[SEGMENTS], batch.get(TOKENS)
    if POSITIONS in batch or not isinstance(segments, np.ndarray) or segments.ndim != 2:
        return
    if not isinstance(tokens, np.ndarray) or tokens.shape != segments.shape:
        return
    out = pool.empty(segments.shape, dtype)
    if out.size:
        rows, length = segments.shape
        starts = np.empty(segments.shape, np.bool_)
        starts[:, 0] = True
        np.not_equal(segments[:, 1:], segments[:, :-1], out=starts[:, 1:])
        begin = np.flatnonzero(starts)
        # Document d fills flat places [begin[d], begin[d + 1]): its positions are those places less begin[d].
        run = np.diff(begin, append=rows * length)
        np.subtract(np.arange(rows * length), np.repeat(begin, run), out=out.reshape(-1), casting="same_kind")
    batch[POSITIONS] = out
