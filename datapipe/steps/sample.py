"""sample: a share of the rows, drawn by row id; by default the same for all, or another for each label.

What enters: `row_id`, and the columns that the options name. What leaves: the same rows, those outside the sample
marked. Invariant: whether a row stays depends on (seed, row id) and its own values alone, and a sample at one rate
holds every sample at a lower one: the rows that a higher rate brings in are added to those that were there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.columns import column, mark, row_ids
from datapipe.steps.draws import uniform
from datapipe.steps.options import in_range
from datapipe.steps.step import Keys, StepSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Step

SAMPLED_OUT: Final = "sampled_out"


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of sample.

    Attributes:
        rate: share of the rows that stay, from 0 to 1; of rows whose value `rates` does not name.
        by: a column (a label, a language) whose value, as text, chooses the rate; "" for one rate. A null has `rate`.
        rates: the rate of each value.
        weights: a column of numbers that the rate is multiplied by; null, NaN and less than 0 count as 0, and what
            comes to more than 1 as 1. "" for none.
    """

    rate: float = 1.0
    by: str = ""
    rates: ByName[float] = ByName()  # noqa: RUF009  (immutable)
    weights: str = ""

    def __post_init__(self) -> None:
        in_range("sample.rate", self.rate, 0, 1)
        for value, rate in self.rates.items():
            in_range(f"sample.rates.{value}", rate, 0, 1)
        if bool(self.by) != bool(self.rates):
            raise ConfigError(
                f"sample.by = {self.by!r}, and rates for {len(self.rates)} values",
                expected="both, or neither",
                fix="name the column in `by` and its values' rates in `rates`",
            )


def sample(table: pa.Table, keys: Keys, *, options: SampleOptions) -> pa.Table:
    """Mark the rows outside the sample.

    Args:
        table: `row_id: string`, and the columns of `by` and `weights`.
        keys: the seed is used; the epoch is not, so that a corpus has one sample.
        options: see SampleOptions.

    Returns:
        The table, rows outside marked drop "sampled_out".
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    draws = uniform(row_ids(table).to_pylist(), Keys(seed=keys.seed), "sample.keep")
    out = draws >= _rates(table, options)
    if not out.any():
        return table
    reasons = pa.repeat(pa.scalar(SAMPLED_OUT, pa.string()), table.num_rows)
    return mark(table, pc.if_else(pa.array(out), reasons, pa.scalar(None, pa.string())))


def _rates(table: pa.Table, options: SampleOptions) -> npt.NDArray[np.float64]:
    """The rate of each row: float64[n]."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rates = np.full(table.num_rows, options.rate)
    if options.by:
        values = column(table, options.by, pa.large_string())
        places = pc.index_in(values, value_set=pa.array(list(options.rates), pa.large_string()))
        found = pc.fill_null(places, -1).to_numpy()
        rates = np.append(np.array(list(options.rates.values())), options.rate)[found]
    if options.weights:
        weights = pc.fill_null(column(table, options.weights, pa.float64()), 0.0).to_numpy()
        rates = rates * np.maximum(np.nan_to_num(weights, nan=0.0), 0.0)
    return rates


def resolve(spec: StepSpec, options: SampleOptions) -> StepSpec:
    """The columns that the options name are needed."""
    return replace(spec, needs=("row_id", *(name for name in (options.by, options.weights) if name)))


def build(options: SampleOptions) -> Step:
    """The step with its options bound."""
    return partial(sample, options=options)


SPEC: Final = StepSpec(
    name="sample",
    version=1,
    kind="map",
    options=SampleOptions,
    build=build,
    summary="a seeded share of the rows, for each label another if so wished",
    reasons=(SAMPLED_OUT,),
    needs=("row_id",),
    resolve=resolve,
)
