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
from datapipe.loader.arguments import one_of, opened, whole_number
from datapipe.loader.mix_weights import exact_weight
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
_NULL: Final = "null"
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
    weights: Mapping[Any, float] | float | None = None,
    *,
    seed: int = 0,
    until: Literal["first", "all"] | int = "all",
    source: str | None = None,
    nulls: Literal["refuse", "drop", "label"] = "refuse",
    most_repeats: int | None = None,
) -> Mixture:
    """One dataset, its labels in exact proportions: as many rows of each, unless `weights` says otherwise.

    A mix (see `datapipe.mix`) of the rows of each label, each in epochs of its own: with until="all" an epoch has every
    row of the most frequent label once, and those of rare ones over and over; with until="first" as many of each as the
    rarest has. The label column alone is read to plan it, here, once.

    `len()` of it is the rows that it draws from, each once, whatever the shares; how many an epoch delivers is up to
    `until` and the weights, and the loader tells it: `len(DataLoader(b, n))` batches of n rows.

    A row group is read once for every label it has rows of: few labels, files sorted by label, or a cache make that
    cheap; a warning tells where none of it does.

    Args:
        dataset: from `datapipe.open_dataset`, filtered or not. label: a column of strings, integers or booleans.
        weights: label → share, one for each. None: equal shares. A number from 0 to 1: shares as the rows of the labels
            to this power: 0 equal, 0.5 their square roots (Mahajan et al. 2018, arXiv:1805.00932, §2.2), 1 as they are.
        seed, until, source: as for `datapipe.mix`; the name of a source is the label as text.
        nulls: rows without a label: "refuse" them, "drop" them (they are in no batch), or take them for a "label" of
            their own, named "null".
        most_repeats: how often a row of a rare label comes at most for one of the label that is drawn on the least;
            labels too rare for their share get less. None: as often as the share asks.

    Raises:
        SchemaError: there is no such column. ConfigError: it is none of labels, has more than 4096 of them, or the
            weights do not go with it. LoaderError: a row has none, and `nulls` refuses it.
    """
    opened(dataset)
    if label not in dataset.whole_schema.names:
        raise no_such_column(str(label), dataset.whole_schema.names)
    one_of("nulls", nulls, ("refuse", "drop", "label"))
    found = _rows_by_label(dataset.select([label]), label, nulls)
    unlabelled = found.pop(None, None)
    values: list[Any] = sorted(found)
    if unlabelled is not None and nulls == "label":
        if _NULL in map(_name, values):
            raise ConfigError(f"column {label!r} has a label {_NULL!r} beside nulls", expected="names that differ")
        found[_NULL] = unlabelled
        values.append(_NULL)
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
    counts = {value: sum(map(len, found[value].values())) for value in values}
    shares = {_name(value): weight for value, weight in _weights(counts, weights).items()}
    if most_repeats is not None:
        rows = {_name(value): count for value, count in counts.items()}
        shares = _capped(shares, rows, whole_number("most_repeats", most_repeats, 1))
    return mix(parts, shares, seed=seed, until=until, source=source)


def _weights(counts: Mapping[Any, int], weights: Any) -> Mapping[Any, Any]:
    if weights is None:
        return dict.fromkeys(counts, 1)
    if hasattr(weights, "items"):
        return weights  # type: ignore[no-any-return]  # just checked
    if isinstance(weights, int | float) and not isinstance(weights, bool) and 0 <= weights <= 1:
        # Whole numbers: the last bit of a power may differ from one machine to the next.
        return {value: max(1, round(1000 * count**weights)) for value, count in counts.items()}
    raise ConfigError(f"weights={weights!r}", expected="a mapping of label to share, a number from 0 to 1, or None")


def _capped(shares: dict[str, Any], counts: Mapping[str, int], most: int) -> dict[str, Any]:
    """Shares of which none asks for more than `most` times the rows of its label, in an epoch of until="all"."""
    if shares.keys() != counts.keys():
        return shares  # `mix` says what is wrong with them
    exact = {name: weight for name, share in shares.items() if (weight := exact_weight(share, f"weights: {name!r}"))}
    if not exact:
        return shares
    # The label that is drawn on the least has each row once; of the others, so many times more.
    once = max(counts[name] / share for name, share in exact.items())
    return shares | {name: min(share, most * counts[name] / once) for name, share in exact.items()}


def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.item() if hasattr(value, "item") else value)


def _part(dataset: Dataset, label: str, value: Any, rows: dict[int, Rows]) -> LabelRows:
    counts = np.zeros(len(dataset.index), np.int64)
    kept: list[Rows | None] = [None] * len(dataset.index)
    for block, own in rows.items():
        counts[block], kept[block] = len(own), own
    return LabelRows(dataset, Selection(dataset.index.rows, counts, kept), f"{label}={value!r}")


def _rows_by_label(column: Dataset, label: str, nulls: str) -> dict[Any, dict[int, Rows]]:
    """Label → block → its rows there, ascending; None: those without one."""
    blocks = np.flatnonzero(column.index.rows).tolist()
    threads = 16 if column.store.is_remote else os.cpu_count() or 1
    found: dict[Any, dict[int, Rows]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for block, rows in zip(
            blocks, pool.map(lambda block: _rows_of(column, label, block, nulls), blocks), strict=True
        ):
            for value, own in rows.items():
                found.setdefault(value, {})[block] = own
            if len(found) > MOST_LABELS:
                pool.shutdown(cancel_futures=True)
                raise ConfigError(
                    f"column {label!r} has more than {MOST_LABELS} values", expected="labels, of which there are fewer"
                )
    return found


def _rows_of(column: Dataset, label: str, block: int, nulls: str) -> dict[Any, Rows]:
    array = plain(column.fetch(block).decode().column(label).combine_chunks())
    kind = array.type
    if not (pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        raise ConfigError(f"column {label!r} is {kind}", expected="strings, integers or booleans")
    if array.null_count and nulls == "refuse":
        raise LoaderError(
            f"column {label!r} has {array.null_count} null(s) in row group {block}",
            expected="a label in every row",
            fix='leave those rows out: nulls="drop"; or nulls="label"',
        )
    coded = pc.dictionary_encode(array)
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable").astype(np.uint32)
    edges = np.searchsorted(codes[order], np.arange(-1, len(coded.dictionary) + 1))
    values = [None, *coded.dictionary.to_pylist()]
    return {value: order[edges[i] : edges[i + 1]] for i, value in enumerate(values) if edges[i] < edges[i + 1]}
