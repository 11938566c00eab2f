"""`datapipe.balance`: one dataset as a mix of its labels.

What enters: a dataset and the name of a column of labels. What leaves: a `Mixture` whose sources are the rows of each
label. Invariant: the plan is a pure function of the label column, the only one that is read for it; every row is in
exactly one source; memory is 4 bytes a row.
"""

from __future__ import annotations

import copy
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal, final

import numpy as np
import pyarrow.compute as pc
import pyarrow.types as pt
import xxhash

from datapipe.dataset.names import no_such_column
from datapipe.dataset.selection import SelectedFetched, Selection, selected_index
from datapipe.errors import ConfigError, LoaderError
from datapipe.loader.arguments import opened
from datapipe.loader.mixture import Mixture, mix
from datapipe.loader.values import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.dataset import Dataset

    Ints = npt.NDArray[np.int64]
    Rows = npt.NDArray[np.uint32]

MOST_LABELS: Final = 4096
"""Each is a source with windows of its own; more are numbers to learn rather than labels."""
_READS: Final = 8
"""Times that a row group is read in an epoch of each row once, above which it is worth a warning."""


@final
class LabelRows:
    """The rows of one label, in the place of a dataset. Immutable.

    Args:
        data: the dataset. selection: which of its rows. name: tells the selection from others.
    """

    def __init__(self, data: Dataset, selection: Selection, name: str) -> None:
        self.url = data.url
        self.store = data.store
        self.cache = getattr(data, "cache", None)
        self.fingerprint = f"dp1-{xxhash.xxh3_128_hexdigest(f'label-1|{data.fingerprint}|{name}'.encode())}"
        self.index = selected_index(data.index, selection)
        self.row_groups = data.row_groups
        self._data = data
        self._selection = selection

    @property
    def schema(self) -> pa.Schema:
        """Of the columns asked for."""
        return self._data.schema

    @property
    def whole_schema(self) -> pa.Schema:
        """Of all columns that are stored."""
        return self._data.whole_schema

    def __len__(self) -> int:
        return int(self.index.first[-1])

    def select(self, columns: Sequence[str]) -> LabelRows:
        """The same rows, of these columns."""
        other = copy.copy(self)
        other._data = self._data.select(columns)  # noqa: SLF001  (its own class)
        return other

    def fetch(self, block: int) -> SelectedFetched:
        """Bring one row group's stored bytes near; of its rows those of the label will be given."""
        return SelectedFetched(self._data.fetch(block), self._selection, block)

    def fetch_anew(self, block: int) -> SelectedFetched:
        """The same, once more from the store itself, where the dataset has one."""
        fetch = getattr(self._data, "fetch_anew", self._data.fetch)
        return SelectedFetched(fetch(block), self._selection, block)

    def row_numbers(self, blocks: Ints, rows: Ints) -> Ints:
        """Their numbers in the dataset."""
        own = rows.copy()
        for block in np.unique(blocks).tolist():
            at = np.flatnonzero(blocks == block)
            own[at] = self._selection.rows(block)[rows[at]]
        return self._data.row_numbers(blocks, own)


def balance(
    dataset: Dataset,
    label: str,
    weights: Mapping[Any, float] | None = None,
    *,
    seed: int = 0,
    until: Literal["first", "all"] | int = "all",
    source: str | None = None,
) -> Mixture:
    """One dataset, its labels in exact proportions: as many rows of each, unless `weights` says otherwise.

    A mix (see `datapipe.mix`) of the rows of each label, each in epochs of its own: with until="all" an epoch has every
    row of the most frequent label once, and those of rare ones over and over; with until="first" as many of each as the
    rarest has. The label column alone is read to plan it, here, once.

    A row group is read once for every label it has rows of: few labels, files sorted by label, or a cache make that
    cheap; a warning tells where none of it does.

    Args:
        dataset: from `datapipe.open_dataset`, filtered or not. label: a column of strings, integers or booleans.
        weights: label → share, one for each. None: equal shares.
        seed, until, source: as for `datapipe.mix`; the name of a source is the label as text.

    Raises:
        SchemaError: there is no such column. ConfigError: it is none of labels, has more than 4096 of them, or the
            weights do not go with it. LoaderError: a row has none.
    """
    opened(dataset)
    if label not in dataset.whole_schema.names:
        raise no_such_column(str(label), dataset.whole_schema.names)
    found = _rows_by_label(dataset.select([label]), label)
    values = sorted(found)
    parts = {_name(value): _part(dataset, label, value, found[value]) for value in values}
    reads = sum(len(rows) for rows in found.values()) / max(1, int(np.count_nonzero(dataset.index.rows)))
    if reads > _READS:
        warnings.warn(
            f"{dataset.url}: rows of {reads:.0f} labels lie in a row group, on average: each is read as often in an"
            " epoch. Sort the rows by label, or give the dataset a cache.",
            stacklevel=2,
        )
    if not values:
        raise ConfigError(f"{dataset.url} has no rows to balance", expected="a row or more")
    given = dict.fromkeys(values, 1) if weights is None else weights
    if not hasattr(given, "items"):
        raise ConfigError(f"weights={weights!r}", expected="a mapping of label to share, or None")
    shares = {_name(value): weight for value, weight in given.items()}
    return mix(parts, shares, seed=seed, until=until, source=source)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.item() if hasattr(value, "item") else value)


def _part(dataset: Dataset, label: str, value: Any, rows: dict[int, Rows]) -> LabelRows:
    counts = np.zeros(len(dataset.index), np.int64)
    kept: list[Rows | None] = [None] * len(dataset.index)
    for block, own in rows.items():
        counts[block], kept[block] = len(own), own
    return LabelRows(dataset, Selection(dataset.index.rows, counts, kept), f"{label}={value!r}")


def _rows_by_label(column: Dataset, label: str) -> dict[Any, dict[int, Rows]]:
    """Label → block → its rows there, ascending."""
    blocks = np.flatnonzero(column.index.rows).tolist()
    threads = 16 if column.store.is_remote else os.cpu_count() or 1
    found: dict[Any, dict[int, Rows]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for block, rows in zip(blocks, pool.map(lambda block: _rows_of(column, label, block), blocks), strict=True):
            for value, own in rows.items():
                found.setdefault(value, {})[block] = own
            if len(found) > MOST_LABELS:
                pool.shutdown(cancel_futures=True)
                raise ConfigError(
                    f"column {label!r} has more than {MOST_LABELS} values", expected="labels, of which there are fewer"
                )
    return found


def _rows_of(column: Dataset, label: str, block: int) -> dict[Any, Rows]:
    array = plain(column.fetch(block).decode().column(label).combine_chunks())
    kind = array.type
    if not (pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        raise ConfigError(f"column {label!r} is {kind}", expected="strings, integers or booleans")
    if array.null_count:
        raise LoaderError(
            f"column {label!r} has {array.null_count} null(s) in row group {block}",
            expected="a label in every row",
            fix="leave those rows out: open_dataset(..., filters=...)",
        )
    coded = pc.dictionary_encode(array)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable").astype(np.uint32)
    edges = np.searchsorted(codes[order], np.arange(len(coded.dictionary) + 1))
    return {value: order[edges[code] : edges[code + 1]] for code, value in enumerate(coded.dictionary.to_pylist())}
