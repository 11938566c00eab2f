"""sort: the corpus in the order of some columns. shuffle: in a seeded random order.

The row-by-row half of both does nothing: the rows are moved between splits by a global pass, which asks here for what
it sorts by. What enters: a table. What leaves: it, and from `order_keys` the columns to sort by. Invariant: the order
is a function of the rows and, for a shuffle, of (seed, row id); where keys are equal, rows keep the order of the input.

Numbers come by size, texts by their UTF-8 bytes, dates by time; NaN comes after all numbers and null last, in either
direction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.draws import bits
from datapipe.steps.options import in_range
from datapipe.steps.step import Keys, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Step

_MOST_SHARDS: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """Options of sort.

    Attributes:
        by: columns, the first one counts most.
        descending: those of them that run from the greatest to the least.
        shards: into how many parts of about equal numbers of rows; 0: chosen from the size of the input.
    """

    by: tuple[str, ...] = ()
    descending: tuple[str, ...] = ()
    shards: int = 0

    def __post_init__(self) -> None:
        in_range("sort.shards", self.shards, 0, _MOST_SHARDS)
        if len(set(self.by)) < len(self.by) or not set(self.descending) <= set(self.by):
            raise ConfigError(
                f"sort: by {list(self.by)}, descending {list(self.descending)}",
                expected="each column once, and in `descending` only such as `by` names",
            )


def order_keys(table: pa.Table, step: str, options: SortOptions | ShuffleOptions, seed: int) -> pa.Table:
    """What a row is sorted by: columns `key0`, `key1`, … of the table's rows.

    Raises:
        ConfigError: a column is not there, or has no order.
    """
    import pyarrow as pa

    if isinstance(options, ShuffleOptions):
        draws = bits(table.column("row_id").to_pylist(), Keys(seed=seed), "shuffle")
        return pa.table({"key0": pa.array(draws, pa.uint64())})
    keys = {}
    for place, name in enumerate(options.by):
        if name not in table.column_names:
            raise ConfigError(
                f"{step}: there is no column {name!r}", expected=f"one of {', '.join(table.column_names)}"
            )
        values = table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_nested(values.type):
            raise ConfigError(f"{step}: column {name!r} has type {values.type}", expected="a type that has an order")
        # A column of nulls without a type sorts like any other of nulls.
        keys[f"key{place}"] = values.cast(pa.int8()) if pa.types.is_null(values.type) else values
    return pa.table(keys)


def directions(options: SortOptions | ShuffleOptions) -> list[tuple[str, str]]:
    """Of each key column, (name, "ascending" or "descending")."""
    if isinstance(options, ShuffleOptions):
        return [("key0", "ascending")]
    return [
        (f"key{place}", "descending" if name in options.descending else "ascending")
        for place, name in enumerate(options.by)
    ]


def unmoved(table: pa.Table, keys: Keys) -> pa.Table:
    """The row-by-row half: the table as it is."""
    del keys
    return table


def resolve(spec: StepSpec, options: SortOptions) -> StepSpec:
    """The columns to sort by are needed; without one there is nothing to do."""
    return replace(spec, needs=options.by, kind="global" if options.by else "map")


def build(options: SortOptions) -> Step:
    """The step with its options bound."""
    del options
    return unmoved


SPEC: Final = StepSpec(
    name="sort",
    version=1,
    kind="global",
    options=SortOptions,
    build=build,
    summary="the corpus in the order of some columns, on disk",
    resolve=resolve,
)


@dataclass(frozen=True, kw_only=True)
class ShuffleOptions:
    """Options of shuffle.

    Attributes:
        shards: into how many parts of about equal numbers of rows; 0: chosen from the size of the input.
    """

    shards: int = 0

    def __post_init__(self) -> None:
        in_range("shuffle.shards", self.shards, 0, _MOST_SHARDS)
