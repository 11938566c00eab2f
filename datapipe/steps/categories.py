"""categories: columns of labels as small integers, by a vocabulary of the whole corpus or by hashing.

What enters: columns of texts (or numbers, taken as texts), and their vocabularies (a global pass counts them in one
reading). What leaves: the same columns as int32: 0 for null, 1 for a value that is not in the vocabulary, from 2 on the
values, the most frequent first. Hashed columns need no vocabulary: 0 for null, 1 + XXH3(value) mod buckets.
Without statistics the table passes as it is: that is the half which runs while the pass collects.
Invariant: an id is a function of the value and the vocabulary alone, and of equal counts the lesser text comes first,
so the ids do not depend on the order of the rows.

Hashing: Weinberger et al. 2009, arXiv:0902.2206 (without the sign: an embedding is looked up, not summed).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.columns import column, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.table_statistics import read_statistics

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

NULL_ID: Final = 0
OTHER_ID: Final = 1
FIRST_ID: Final = 2
MOST: Final = 1_000_000
"""Distinct values of a column that are counted; a column with more is to be hashed. 10^6 texts of 20 bytes are some
100 MB while they are counted."""


@dataclass(frozen=True, kw_only=True)
class Categories:
    """How a column is numbered.

    Attributes:
        min_count: values that occur less often are not in the vocabulary.
        max_size: values in the vocabulary at most, the most frequent ones; 0: as many as there are.
        buckets: hash into so many instead; 0: no hashing.
    """

    SHORT: ClassVar[str] = "min_count"

    min_count: int = 1
    max_size: int = 0
    buckets: int = 0

    def __post_init__(self) -> None:
        in_range("categories: min_count", self.min_count, 1)
        in_range("categories: max_size", self.max_size, 0, MOST)
        in_range("categories: buckets", self.buckets, 0, (1 << 31) - FIRST_ID)
        if self.buckets and (self.min_count > 1 or self.max_size):
            raise ConfigError("categories: buckets, and min_count or max_size", expected="hashing, or a vocabulary")


@dataclass(frozen=True, kw_only=True)
class CategoriesOptions:
    """Options of categories.

    Attributes:
        columns: by name, a mapping of how the column is numbered (`{}` for all values), or its min_count.
        suffix: is put behind a column's name, and the column itself stays as it is; "": it is replaced.
        apply: "offline": the columns are stored numbered. "online": they are stored as they are, and what was measured
            is in the manifest, for `datapipe.encode` to apply as they are read.
        measure: of which rows the statistics are, by column the value that they have: {split: train} measures the
            train part alone. Empty: of all.
        statistics: a file with the vocabularies of an earlier run; "": this run counts them.
    """

    columns: ByName[Categories] = ByName()  # noqa: RUF009  (immutable)
    suffix: str = ""
    apply: Literal["offline", "online"] = "offline"
    measure: ByName[str] = ByName()  # noqa: RUF009  (immutable)
    statistics: str = ""

    @property
    def counted(self) -> tuple[str, ...]:
        """The columns that need a vocabulary."""
        return tuple(name for name, each in self.columns.items() if not each.buckets)


def categories(
    table: pa.Table, keys: Keys, *, options: CategoriesOptions, vocabularies: dict[str, pa.Array] | None
) -> pa.Table:
    """Number the columns.

    Args:
        table: columns of texts, or of what casts to text.
        keys: not used.
        options: see CategoriesOptions.
        vocabularies: by column, large_string[size] in the order of their ids; None: the table passes as it is.

    Returns:
        The table with int32 columns that hold no null.
    """
    del keys
    if vocabularies is None or options.apply == "online":
        return table
    for name, each in options.columns.items():
        values = labels(table, name)
        ids = hashed(values, each.buckets) if each.buckets else numbered(values, vocabularies[name])
        table = set_column(table, name + options.suffix, ids)
    return table


def labels(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column as texts: large_string.

    Raises:
        ConfigError: it has a type that does not cast to text.
    """
    import pyarrow as pa

    values = table.column(name) if name in table.column_names else None
    if values is not None and pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
        return column(pa.table({name: values}), name, pa.large_string())
    return column(table, name, pa.large_string())


def numbered(values: pa.ChunkedArray, vocabulary: pa.Array) -> pa.ChunkedArray:
    """Ids by a vocabulary: int32."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.add(pc.index_in(values, value_set=vocabulary, skip_nulls=True), pa.scalar(FIRST_ID, pa.int32()))
    known = pc.fill_null(places, pa.scalar(OTHER_ID, pa.int32()))
    return pc.if_else(values.is_valid(), known, pa.scalar(NULL_ID, pa.int32()))


def hashed(values: pa.ChunkedArray, buckets: int) -> pa.ChunkedArray:
    """Ids by hashing: int32, 0 for null, then 1 + XXH3 (64 bits) of the value's UTF-8 bytes mod `buckets`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from xxhash import xxh3_64_intdigest

    distinct = pc.unique(values).drop_null()
    ids = pa.array([1 + xxh3_64_intdigest(each.encode()) % buckets for each in distinct.to_pylist()], pa.int32())
    found = pa.chunked_array([ids]).take(pc.index_in(values, value_set=distinct, skip_nulls=True))
    return pc.fill_null(found, pa.scalar(NULL_ID, pa.int32()))


def chosen(counts: list[tuple[str, int]], each: Categories) -> tuple[list[tuple[str, int]], int]:
    """The vocabulary of a column from its counts: (value, count), the most frequent first; and the rows outside it."""
    ranked = sorted(counts, key=lambda item: (-item[1], item[0].encode("utf-8", "surrogatepass")))
    kept = [item for item in ranked if item[1] >= each.min_count][: each.max_size or None]
    return kept, sum(count for _, count in ranked) - sum(count for _, count in kept)


def resolve(spec: StepSpec, options: CategoriesOptions) -> StepSpec:
    """The columns named are needed and given; hashed, or with vocabularies at hand, this is a map step."""
    names = tuple(options.columns)
    gives = tuple(name + options.suffix for name in names) if options.apply == "offline" else ()
    return replace(
        spec,
        needs=(*names, *(() if options.statistics or not options.counted else options.measure)),
        gives=gives,
        kind="map" if options.statistics or not options.counted else "global",
    )


def build(options: CategoriesOptions) -> Step:
    """The step with its options bound.

    Raises:
        ConfigError: the statistics cannot be read, or lack a column.
    """
    import pyarrow as pa

    found: dict[str, Any] | None = {} if not options.counted else None
    if options.statistics and options.counted:
        read = read_statistics("categories", options.statistics, options.counted)
        found = {name: pa.array(read[name]["values"], pa.large_string()) for name in options.counted}
    return partial(categories, options=options, vocabularies=found)


SPEC: Final = StepSpec(
    name="categories",
    version=1,
    kind="global",
    options=CategoriesOptions,
    build=build,
    summary="columns of labels as integers, by a counted vocabulary or by hashing",
    resources=("statistics",),
    resolve=resolve,
)
