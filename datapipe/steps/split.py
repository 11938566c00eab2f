"""split: each row is of one part (train, valid, test), as a pure function of its id.

What enters: `row_id`, or the columns by which rows belong together, and a label where some have rates of their own.
What leaves: the column `split` with the name of the part; or the rows of some parts, the others marked. Invariant: a
row's part depends on the seed, its id (or group) and, where `rates` says so, its label: never on other rows. So it
keeps its part when the corpus grows, is shuffled, or loses other rows, on any number of workers.

That is why labels are cut by chance and not by counting: of n rows of a label, a part of rate p gets n·p give or take
√(n·p·(1-p)) (binomial). A label of which that leaves too few is given rates of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.columns import column, mark, row_ids, set_column
from datapipe.steps.draws import uniform
from datapipe.steps.options import in_range
from datapipe.steps.row_keys import key_texts
from datapipe.steps.step import Keys, StepSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Step

OTHER: Final = "split_other"


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options of split.

    Attributes:
        parts: of each part its share, in any unit: {train: 98, valid: 1, test: 1}. Without parts the rows pass.
        by: columns whose values decide together, in place of the row's id: rows of one user are all in one part. A row
            without such a value goes by its id.
        label: the column of the labels that `rates` names; "".
        rates: the shares of a label's rows, where they are to be others: {fraud: {train: 2, valid: 1, test: 1}}. Rows
            of other labels, and of none, have those of `parts`.
        column: the name of the new column.
        keep: the parts whose rows stay; the others are dropped. None named: all stay.
    """

    parts: ByName[float] = ByName()  # noqa: RUF009  (immutable)
    by: tuple[str, ...] = ()
    label: str = ""
    rates: ByName[ByName[float]] = ByName()  # noqa: RUF009  (immutable)
    column: str = "split"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for where, shares in (("parts", self.parts), *((f"rates.{name}", each) for name, each in self.rates.items())):
            for part, share in shares.items():
                in_range(f"split.{where}.{part}", share, 0)
                if part not in self.parts:
                    raise ConfigError(f"split.{where} names {part!r}", expected=f"parts: {', '.join(self.parts)}")
            if shares and not sum(shares.values()) > 0:
                raise ConfigError(f"split.{where} has no share above 0", expected="a share for some part")
        if bool(self.label) != bool(self.rates):
            raise ConfigError(
                f"split.label = {self.label!r}, and rates for {len(self.rates)} labels", expected="both, or neither"
            )
        if not self.column or self.column == "row_id" or self.column.startswith("__"):
            raise ConfigError(f"split.column = {self.column!r}", expected="the name of a new column")
        if unknown := [part for part in self.keep if part not in self.parts]:
            raise ConfigError(f"split.keep names {unknown[0]!r}", expected=f"parts: {', '.join(self.parts)}")


def split(table: pa.Table, keys: Keys, *, options: SplitOptions) -> pa.Table:
    """Say of each row which part it is of.

    Args:
        table: `row_id: string`, and the columns of `by` and `label`.
        keys: the seed is used; the epoch is not.
        options: see SplitOptions.

    Returns:
        The table with the column (string), a signal 0 or 1 for each part, and rows outside of `keep` marked.

    Raises:
        ConfigError: a column is not there, or there is one of the new name.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not options.parts:
        return table
    if options.column in table.column_names:
        raise ConfigError(
            f"split: the table has a column {options.column!r} already",
            expected="a free name",
            fix="--set split.column=NAME",
        )
    draws = uniform(_decisive(table, options), Keys(seed=keys.seed), "split")
    numbers = np.searchsorted(_edges(options.parts, options), draws, "right")
    for label, rates in options.rates.items():
        here = _has(table, options.label, label)
        numbers[here] = np.searchsorted(_edges(rates, options), draws[here], "right")
    names = pa.array(list(options.parts), pa.string())
    table = set_column(table, options.column, names.take(pa.array(numbers)))
    for number, part in enumerate(options.parts):
        table = set_column(table, f"split.{part}", pa.array((numbers == number).astype(np.int8)))
    if not options.keep:
        return table
    stay = np.array([part in options.keep for part in options.parts])[numbers]
    reasons = pc.if_else(pa.array(stay), pa.scalar(None, pa.string()), pa.scalar(OTHER))
    return mark(table, reasons)


def _decisive(table: pa.Table, options: SplitOptions) -> list[str]:
    """What decides of each row: its group, or its id."""
    ids: list[str] = row_ids(table).to_pylist()
    if not options.by:
        return ids
    groups = key_texts(table, options.by, "split: the table").to_pylist()
    # An id and a group that read the same shall not be the same.
    return [f"\0{row}" if group is None else group for row, group in zip(ids, groups, strict=True)]


def _edges(shares: Mapping[str, float], options: SplitOptions) -> npt.NDArray[np.float64]:
    """Where each part but the last begins to end, of [0, 1): float64[parts - 1]; a part without a share is empty."""
    import numpy as np

    sums = np.cumsum([shares.get(part, 0.0) for part in options.parts])
    edges = sums / sums[-1]
    # Rounding must leave no draw beyond the last part that has a share.
    return np.asarray(np.where(sums == sums[-1], 1.0, edges)[:-1])


def _has(table: pa.Table, name: str, label: str) -> npt.NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values: Any = table.column(name) if name in table.column_names else None
    if values is not None and pa.types.is_dictionary(values.type):
        table = pa.table({name: values.cast(values.type.value_type)})
    same = pc.equal(column(table, name, pa.large_string()), label)
    found: npt.NDArray[np.bool_] = pc.fill_null(same, fill_value=False).to_numpy()
    return found


def resolve(spec: StepSpec, options: SplitOptions) -> StepSpec:
    """The columns that decide are needed; the new one is given, and how many rows each part has is counted."""
    if not options.parts:
        return replace(spec, idle=True)
    counted = tuple(f"split.{part}" for part in options.parts)
    more = (options.label,) if options.label else ()
    return replace(
        spec, needs=("row_id", *options.by, *more), gives=(options.column,), signals=counted, counters=counted
    )


def build(options: SplitOptions) -> Step:
    """The step with its options bound."""
    return partial(split, options=options)


SPEC: Final = StepSpec(
    name="split",
    version=1,
    kind="map",
    options=SplitOptions,
    build=build,
    summary="train, valid and test by row id: a row keeps its part when the corpus grows",
    reasons=(OTHER,),
    needs=("row_id",),
    resolve=resolve,
)
