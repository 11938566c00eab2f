"""`Pack`: documents of any length become rows of one length, planned from their lengths alone.

What enters: how long rows are. What leaves: bins of documents (`PackShape`), and the names that a batch carries.
Invariant: without truncation every token is delivered once; a document that fits is whole; only a longer one is cut.

Best-fit decreasing over a window of the shuffle (Ding et al. 2024, arXiv:2404.10830, section 3): see
`datapipe.best_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Final, Literal, final

import numpy as np

from datapipe.best_fit import best_fit, count_bins, cut_to_fit
from datapipe.errors import ConfigError
from datapipe.loader.shape import Shape, Units

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

LONGEST: Final = 1 << 24
"""Tokens of a row at most: best fit keeps a stack per length."""


@final
@dataclass(frozen=True)
class Pack:
    """Pack documents into rows of `seq_len` tokens; `batch_size` counts those rows.

    A batch carries per column `[B, seq_len]`, and `segment_ids` and `position_ids` `[B, seq_len]` (int64): a row's
    documents are segments 1, 2, 3, …; padding comes last, in segment 0; positions begin at 0 in each segment. Columns
    that are not packed are left out.

    Attributes:
        seq_len: tokens in a row.
        columns: the columns packed, lists of numbers. The first one's lengths are planned with; the others (labels, a
            loss mask) must have as many values in every row. None: `tokens`, else `input_ids`, else the only list.
        length: a column that holds the lengths, or the packed column itself: its own. None: `n_tokens` if there is one,
            see `datapipe.loader.lengths`.
        long: what becomes of a document of more than seq_len tokens: "split" into full rows and a rest, or "truncate".
        pad: what padding holds: a number, or column → number (0 for those not named).
        cu_seqlens: also give `cu_seqlens`, int32[n + 1], where each of the batch's segments begins in the rows laid end
            to end, and their end, and `max_seqlen`, an int, the longest: what variable-length attention takes. Padding
            counts as a segment there.

    Raises:
        ConfigError: a value is out of range.
    """

    seq_len: int
    _: KW_ONLY
    columns: str | Sequence[str] | None = None
    length: str | None = None
    long: Literal["split", "truncate"] = "split"
    pad: float | Mapping[str, float] = 0
    cu_seqlens: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.seq_len, bool) or not isinstance(self.seq_len, int) or not 1 <= self.seq_len <= LONGEST:
            raise ConfigError(f"Pack(seq_len={self.seq_len!r})", expected=f"tokens of a row, 1 to {LONGEST:,}")
        if self.long not in {"split", "truncate"}:
            raise ConfigError(f"Pack(long={self.long!r})", expected='"split" or "truncate"')
        if self.names is not None and (not self.names or len(set(self.names)) != len(self.names)):
            raise ConfigError(f"Pack(columns={self.columns!r})", expected="at least one name, each once")

    @property
    def names(self) -> tuple[str, ...] | None:
        """The columns named."""
        if self.columns is None:
            return None
        return (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)

    def pad_of(self, column: str) -> float:
        """What padding of a column holds."""
        return self.pad.get(column, 0) if isinstance(self.pad, Mapping) else self.pad


@final
class PackShape(Shape):
    """Bins of `seq_len` tokens."""

    packs = True

    def __init__(self, pack: Pack) -> None:
        self._seq_len = pack.seq_len
        self._split = pack.long == "split"

    def units(self, lengths: Ints) -> Units:
        """Bins, in the order of their first document; a bin's documents in theirs."""
        if not self._split:
            lengths = np.minimum(lengths, self._seq_len)
        item, start, length = cut_to_fit(lengths, self._seq_len)
        bins, count = best_fit(length, self._seq_len)
        order = np.argsort(bins, kind="stable")
        cuts = np.searchsorted(bins[order], np.arange(count + 1))
        return Units(cuts=cuts, item=item[order], start=start[order], length=length[order])

    def count(self, lengths: Ints) -> int:
        """Without placing them: full pieces have bins of their own."""
        if not self._split:
            return count_bins(np.minimum(lengths[lengths > 0], self._seq_len), self._seq_len)
        full, rest = np.divmod(lengths, self._seq_len)
        return int(full.sum()) + count_bins(rest[rest > 0], self._seq_len)
