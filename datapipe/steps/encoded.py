"""`datapipe.encode`: a dataset whose columns are scaled and numbered as they are read, by another's statistics.

What enters: a dataset, and one that `preprocess` made (its manifest has the recipe, the statistics and the
vocabularies). What leaves: the same rows in the place of the dataset, in the same order, columns encoded row group by
row group. Invariant: the steps are those that preprocessing runs, bound to the same statistics, so that a value has the
bits that it has offline; the fingerprint names the rows and the statistics.

Row groups are encoded once each, before rows are gathered: whole columns, in Arrow and numpy, which let the
interpreter's lock go. Strings become numbers before they would become Python's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, LoaderError, SchemaError
from datapipe.steps.step import DETAIL, QUARANTINE, Keys
from datapipe.steps.table_statistics import MEASURED, manifest_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.registry import BoundStep

_KEYS: Final = Keys()
_SHARED: Final = ("url", "store", "cache", "filter", "part", "row_groups", "manifest", "follows")
"""What an encoded dataset has as the dataset has it, where that has it."""


def encode(dataset: Any, like: Any = None) -> Encoded:
    """The dataset with its columns encoded as `like` has them: schema, normalise and categories of its recipe.

    Steps concern the columns that the dataset has; columns that no step names stay as they are (with a step schema that
    drops them, they go). Give the result to `DataLoader`, `mix` or `balance` in the dataset's place.

    Args:
        dataset: from `open_dataset`, filtered or not. like: a dataset that `preprocess` made, or its manifest; None:
            the dataset itself, whose recipe has `apply: online`.

    Raises:
        ConfigError: `like` has no recipe, one that encodes nothing, or no statistics; or the columns are encoded
            already.
        SchemaError: the dataset has none of the columns.
    """
    manifest = getattr(like, "manifest", like) if like is not None else getattr(dataset, "manifest", None)
    if manifest is None or not hasattr(manifest, "recipe"):
        raise ConfigError(
            "there is no manifest to encode by",
            expected="a dataset that datapipe preprocess made",
            fix="datapipe.encode(dataset, like=datapipe.open_dataset(made))",
        )
    own = getattr(dataset, "manifest", None)
    steps = manifest_steps(manifest)
    done = _stored_encoded(own)
    if twice := [name for step in steps if step.name in MEASURED for name in step.spec.gives if name in done]:
        raise ConfigError(
            f"column {twice[0]!r} of {getattr(dataset, 'url', 'the dataset')} is encoded already",
            expected="columns as they were before",
            fix="open it as it is; or preprocess it with `apply: online`",
        )
    if own is manifest:  # its rows went through its schema
        steps = tuple(step for step in steps if step.name != "schema")
    named = tuple(dict.fromkeys(name for step in steps for name in step.options.columns))
    if not named:
        place = getattr(dataset if like is None else like, "url", "the dataset")
        raise ConfigError(
            f"the recipe that made {place} encodes no column",
            expected=f"one with the step {' or '.join(MEASURED)}, and columns in it",
            fix="add normalise or categories with `apply: online` to the recipe; or open the dataset as it is",
        )
    if not any(name in dataset.whole_schema.names for name in named):
        raise SchemaError(
            "the dataset has none of the columns that are to be encoded", expected=f"some of {', '.join(named)}"
        )
    return Encoded(dataset, steps)


def _stored_encoded(manifest: Any) -> set[str]:
    """The columns that a dataset's own recipe has left scaled or numbered."""
    recipe = getattr(manifest, "recipe", None) or {}
    return {
        name + entry["options"].get("suffix", "")
        for entry in recipe.get("steps", ())
        if entry.get("step") in MEASURED and entry["options"].get("apply", "offline") == "offline"
        for name, _ in entry["options"]["columns"]
    }


@final
class EncodedFetched:
    """A row group's stored bytes, whose rows will be given encoded."""

    def __init__(self, fetched: Any, data: Encoded) -> None:
        self._fetched = fetched
        self._data = data
        self.nbytes: int = fetched.nbytes
        self.flag: int = getattr(fetched, "flag", 0)

    def decode(self) -> pa.Table:
        """The rows, each column one chunk."""
        return self._data.encoded(self._fetched.decode())


@final
class Encoded:
    """A dataset in which columns are encoded as they are read; made by `encode`. Immutable.

    Attributes:
        steps: that encode. schema: of the columns asked for, encoded. fingerprint: names rows and statistics.
    """

    def __init__(self, data: Any, steps: Sequence[BoundStep], columns: Sequence[str] | None = None) -> None:
        from xxhash import xxh3_128_hexdigest

        from datapipe.steps.options import plain_options

        whole = data.select(data.whole_schema.names)
        self._all = tuple(steps)
        self.whole_schema: pa.Schema = _run(whole.schema.empty_table(), _among(steps, whole.schema.names)).schema
        named = data.schema.names if columns is None else columns
        if columns is None:
            given = [each for step in _among(steps, named) for each in step.spec.gives]
            wanted = [name for name in self.whole_schema.names if name in {*named, *given}]
        else:
            wanted = list(columns)
        if unknown := [name for name in wanted if name not in self.whole_schema.names]:
            raise SchemaError(
                f"there is no column {unknown[0]!r}", expected=f"one of {', '.join(self.whole_schema.names)}"
            )
        needed = {name for name in wanted if name in data.whole_schema.names}
        for step in steps:
            suffix = getattr(step.options, "suffix", "")
            needed |= {name for name in step.options.columns if name + suffix in wanted}
        self._data = data.select([name for name in data.whole_schema.names if name in needed])
        self.steps = _among(steps, self._data.schema.names)
        self.schema: pa.Schema = _run(self._data.schema.empty_table(), self.steps).select(wanted).schema
        told = [[step.name, step.spec.version, plain_options(step.options)] for step in self._all]
        text = f"encode-1|{data.fingerprint}|{json.dumps(told, sort_keys=True)}"
        self.fingerprint = f"dp1-{xxh3_128_hexdigest(text.encode())}"

    @property
    def index(self) -> Any:
        """Arrays over the row groups, those of the dataset."""
        return self._data.index

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self)

    def __len__(self) -> int:
        return int(self.index.first[-1])

    def __getattr__(self, name: str) -> Any:
        if name not in _SHARED:
            raise AttributeError(f"an encoded dataset has no {name!r}")
        return getattr(self._data, name)

    def __repr__(self) -> str:
        return f"Encoded({self._data!r}, {', '.join(step.name for step in self.steps)}, {self.fingerprint})"

    def select(self, columns: Sequence[str]) -> Encoded:
        """The same rows, of these encoded columns."""
        return Encoded(self._data, self._all, tuple(columns))

    def newer(self) -> Encoded | None:
        """The newest snapshot of the dataset, if it is another, encoded by the same statistics."""
        newer = self._data.newer()
        return None if newer is None else Encoded(newer, self._all, self.schema.names)

    def at(self, snapshot: int) -> Encoded:
        """Another snapshot of the dataset, encoded by the same statistics."""
        return Encoded(self._data.at(snapshot), self._all, self.schema.names)

    def since(self, snapshot: int) -> Encoded:
        """The rows that were added after a snapshot, encoded."""
        return Encoded(self._data.since(snapshot), self._all, self.schema.names)

    def until(self, snapshot: int) -> Encoded:
        """The rows that a snapshot had, encoded."""
        return Encoded(self._data.until(snapshot), self._all, self.schema.names)

    def encoded(self, table: pa.Table) -> pa.Table:
        """Rows of the dataset, encoded, of the columns asked for.

        Raises:
            LoaderError: a value does not fit the schema.
        """
        return _run(table, self.steps).select(self.schema.names).combine_chunks()

    def fetch(self, block: int) -> EncodedFetched:
        """Bring one row group's stored bytes near."""
        return EncodedFetched(self._data.fetch(block), self)

    def fetch_anew(self, block: int) -> EncodedFetched:
        """The same, once more from the store itself."""
        return EncodedFetched(self._data.fetch_anew(block), self)

    def row_numbers(self, blocks: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Their numbers in the dataset."""
        found: npt.NDArray[np.int64] = self._data.row_numbers(blocks, rows)
        return found

    def take(self, rows: Iterable[int]) -> pa.Table:
        """Rows in the order asked, encoded."""
        return self.encoded(self._data.take(rows))


def _among(steps: Sequence[BoundStep], names: Sequence[str]) -> tuple[BoundStep, ...]:
    """The steps for a table of these columns: each of those that are there, or made by the steps before."""
    from datapipe.steps.by_name import ByName
    from datapipe.steps.registry import bind

    there = {*names}
    found = []
    for step in steps:
        columns = ByName([(name, each) for name, each in step.options.columns.items() if name in there])
        if columns:
            found.append(bind(step.name, replace(step.options, columns=columns)))
            there |= {*found[-1].spec.gives}
    return tuple(found)


def _run(table: pa.Table, steps: Sequence[BoundStep]) -> pa.Table:
    for step in steps:
        table = step(table, _KEYS)
        if QUARANTINE in table.column_names:
            raise _misfit(table, step)
    return table


def _misfit(table: pa.Table, step: BoundStep) -> LoaderError:
    """A row that preprocessing would have quarantined: here it would be missing from its batch."""
    reasons = table.column(QUARANTINE)
    row = reasons.is_valid().to_pylist().index(True)
    detail = table.column(DETAIL)[row].as_py() if DETAIL in table.column_names else ""
    return LoaderError(
        f"row {row} of a row group does not fit the {step.name} it is encoded by: {reasons[row].as_py()} ({detail})",
        expected="rows that preprocessing would let pass",
        fix="preprocess them, which counts such rows, or leave them out: open_dataset(..., filters=...)",
    )
