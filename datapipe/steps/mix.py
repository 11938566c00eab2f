"""mix: a corpus whose labels (sources, languages) have given shares, exactly.

The row-by-row half does nothing: which rows stay is known once all are counted, and a global pass says so. What
enters: the counts of the labels. What leaves: how many rows of each stay. Invariant: of each label the rows with the
least keyed draws stay, so that a mixture of fewer rows is part of one with more; no row is there twice. Epochs of a
source that are to be repeated are the loader's business, which mixes datasets by weight as it reads: on disk a copy
would cost its bytes and its row id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.columns import column
from datapipe.steps.draws import bits
from datapipe.steps.options import in_range
from datapipe.steps.step import Keys, StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Step

MIXED_OUT: Final = "mixed_out"
_MOST_LABELS: Final = 4096


@dataclass(frozen=True, kw_only=True)
class MixOptions:
    """Options of mix.

    Attributes:
        by: the column of the labels, compared as text.
        shares: of each label, in any unit: {en: 3, de: 1} is three quarters and one.
        total: rows at most; 0: as many as the scarcest label allows.
        others: rows of labels that `shares` does not name, null among them: "drop", or "keep" beside the mixture.
    """

    by: str = ""
    shares: ByName[float] = ByName()  # noqa: RUF009  (immutable)
    total: int = 0
    others: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        in_range("mix.total", self.total, 0)
        for label, share in self.shares.items():
            in_range(f"mix.shares.{label}", share, 0)
        if bool(self.by) != bool(self.shares) or (self.shares and not any(self.shares.values())):
            raise ConfigError(
                f"mix.by = {self.by!r}, and shares for {len(self.shares)} labels",
                expected="a column, and a share above 0 for some label",
                fix="name the column in `by` and its labels' shares in `shares`",
            )
        if len(self.shares) > _MOST_LABELS:
            raise ConfigError(f"mix.shares names {len(self.shares)} labels", expected=f"at most {_MOST_LABELS}")


def mixture(available: Sequence[int], shares: Sequence[float], total: int = 0) -> list[int]:
    """How many rows of each label a mixture takes: exact, by largest remainders.

    Args:
        available: rows of each label. shares: in any unit, as decimal numbers. total: at most; 0: as many as there are.

    Returns:
        Counts, none above what is available, each within one row of its share of their sum.
    """
    exact = [Fraction(repr(float(share))) for share in shares]
    whole = sum(exact)
    exact = [share / whole for share in exact]
    most = min(n // share for n, share in zip(available, exact, strict=True) if share)
    size = int(min(most, total) if total else most)
    counts = [int(size * share) for share in exact]
    # The remainders go to the largest fractions; of equal ones to the label named first. None exceeds what there is:
    # size × share ≤ available, and a fraction above 0 leaves room for one more.
    by_fraction = sorted(range(len(exact)), key=lambda i: (counts[i] - size * exact[i], i))
    for i in by_fraction[: size - sum(counts)]:
        counts[i] += 1
    return counts


def label_numbers(table: pa.Table, options: MixOptions) -> npt.NDArray[np.uint32]:
    """Of each row the number of its label in `shares`, their count for every other: uint32[n].

    Raises:
        ConfigError: the column is not there, or does not cast to text.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.column(options.by) if options.by in table.column_names else None
    if values is not None and pa.types.is_dictionary(values.type):
        table = pa.table({options.by: values.cast(values.type.value_type)})
    labels = column(table, options.by, pa.large_string())
    places = pc.index_in(labels, value_set=pa.array(list(options.shares), pa.large_string()), skip_nulls=True)
    return np.asarray(pc.fill_null(places, len(options.shares)).to_numpy()).astype(np.uint32)


def mix_draws(ids: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """What orders the rows of a label: uint64[n]."""
    return bits(ids, Keys(seed=seed), "mix")


def unmixed(table: pa.Table, keys: Keys) -> pa.Table:
    """The row-by-row half: the table as it is."""
    del keys
    return table


def resolve(spec: StepSpec, options: MixOptions) -> StepSpec:
    """The column of the labels is needed; without one there is nothing to do."""
    return replace(spec, needs=("row_id", options.by), kind="global") if options.by else replace(spec, kind="map")


def build(options: MixOptions) -> Step:
    """The step with its options bound."""
    del options
    return unmixed


SPEC: Final = StepSpec(
    name="mix",
    version=1,
    kind="global",
    options=MixOptions,
    build=build,
    summary="labels, sources or languages in given shares, exactly",
    reasons=(MIXED_OUT,),
    needs=("row_id",),
    resolve=resolve,
)
