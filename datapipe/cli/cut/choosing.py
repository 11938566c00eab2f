"""What each cut between preprocessing and loader costs on the whole corpus, and which is best under a budget.

What enters: what was measured of each cut on a sample. What leaves: a table of prices, and the best.
Invariant: time is a pass of preprocessing plus the epochs; a cut is the best only if it keeps within the storage that
is allowed; of two that take the same time the one that stores less is.

The question, and that neither "all offline" nor "all online" is right in general, are Isenko et al., "Where Is My
Training Bottleneck? Hidden Trade-Offs in Deep Learning Preprocessing Pipelines", SIGMOD 2022 (Presto).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

SAME: Final = 0.02
"""Share of the time below which two cuts take the same: less than a sample can tell apart."""


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cut, as the sample had it.

    Attributes:
        after: the last step that runs ahead; "" where none of the movable ones does.
        offline, online: names of the movable steps, ahead and in the loader.
        prepare: CPU seconds a row of preprocessing, everything before the cut and writing included.
        stored: bytes a row as written.
        rate: rows a second that the loader delivers on its threads, the steps after the cut included.
        loading: CPU seconds a row of the same.
    """

    after: str
    offline: tuple[str, ...]
    online: tuple[str, ...]
    prepare: float
    stored: float
    rate: float
    loading: float


@final
@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is asked.

    Attributes:
        rows: of the corpus, at the cuts.
        workers: that preprocess.
        epochs: over the dataset.
        batch_size: rows a step.
        step: seconds of compute a step; 0: as fast as the loader goes.
        most_bytes: that may be stored; None: any.
    """

    rows: int
    workers: int
    epochs: float
    batch_size: int
    step: float = 0.0
    most_bytes: float | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Priced:
    """One cut, for the whole corpus.

    Attributes:
        cut: what was measured.
        prepare: seconds of preprocessing on all workers.
        stored: bytes.
        stall: seconds a step that compute waits for the loader.
        epoch: seconds.
        total: preprocessing and all epochs, seconds.
        fits: whether it keeps within the storage allowed.
    """

    cut: Measured
    prepare: float
    stored: float
    stall: float
    epoch: float
    total: float
    fits: bool


def price(cut: Measured, terms: Terms) -> Priced:
    """A cut for the whole corpus. The loader and compute overlap: a step takes as long as the slower of the two."""
    delivered = terms.batch_size / cut.rate
    step = max(terms.step, delivered)
    prepare, stored = cut.prepare * terms.rows / terms.workers, cut.stored * terms.rows
    epoch = step * terms.rows / terms.batch_size
    return Priced(
        cut=cut, prepare=prepare, stored=stored, stall=step - terms.step if terms.step else 0.0, epoch=epoch,
        total=prepare + terms.epochs * epoch, fits=terms.most_bytes is None or stored <= terms.most_bytes,
    )  # fmt: skip


def best(priced: Sequence[Priced]) -> Priced | None:
    """The cut that takes the least time of those that fit; None where none does."""
    fitting = [one for one in priced if one.fits]
    if not fitting:
        return None
    least = min(one.total for one in fitting)
    return min((one for one in fitting if one.total <= least * (1 + SAME)), key=lambda one: one.stored)


def crossing(first: Priced, second: Priced) -> float | None:
    """Epochs from which the second cut, that prepares longer, takes less time in all; None: it never does."""
    saved = first.epoch - second.epoch
    return None if saved <= 0 else max(0.0, (second.prepare - first.prepare) / saved)
