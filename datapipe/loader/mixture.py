"""`datapipe.mix`: several datasets that take the place of one.

What enters: named datasets, weights, a seed. What leaves: a `Mixture`: an index over the blocks of all sources laid
side by side, row groups on demand in one schema, and all that an order of them depends on.
Invariant: it is immutable; its fingerprint names the sources' contents and names, the weights (their whole table), the
seed and the length of an epoch, and does not depend on the order in which the sources were given.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal, final

import numpy as np
import pyarrow as pa
import xxhash

from datapipe.errors import ConfigError
from datapipe.loader.arguments import opened, whole_number
from datapipe.loader.mix_schema import common_schema, shared_columns
from datapipe.loader.mix_weights import Weights, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_SOURCE_ROWS: Final = 1 << 40
"""How far apart the row numbers of two sources are: no dataset has as many."""


@dataclass(frozen=True, kw_only=True)
class MixedGroup:
    """One block: its shard's path, led by the name of its source, its number there, its rows, and its bytes."""

    path: str
    group: int
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedIndex:
    """One element per block, source after source.

    Attributes:
        rows, bytes: int64[n]: rows of each block, and their uncompressed bytes.
        first: int64[n + 1]: rows before each block. cuts: source k has blocks [cuts[k], cuts[k + 1]).
    """

    rows: Ints
    bytes: Ints
    first: Ints
    cuts: Ints

    def __len__(self) -> int:
        return len(self.rows)


@final
class MixedFetched:
    """A row group's stored bytes, whose rows will be given in the schema of the mix."""

    def __init__(self, fetched: Any, schema: pa.Schema, column: str | None, name: str) -> None:
        self._fetched = fetched
        self._schema = schema
        self._column = column
        self._name = name
        self.nbytes: int = fetched.nbytes
        self.flag: int = getattr(fetched, "flag", 0)

    def decode(self) -> pa.Table:
        """The rows, each column one chunk."""
        table = self._fetched.decode()
        arrays = []
        for field in self._schema:
            if field.name == self._column:
                arrays.append(pa.repeat(0, table.num_rows).cast(pa.int32()))
                arrays[-1] = pa.DictionaryArray.from_arrays(arrays[-1], pa.array([self._name]))
                continue
            values = table.column(field.name)
            arrays.append(values if values.type.equals(field.type) else values.cast(field.type))
        return pa.Table.from_arrays(arrays, schema=self._schema)


@final
class Mixture:
    """Several datasets in fixed proportions: made by `mix` or `balance`; give it to a `DataLoader`.

    Attributes:
        names: of the sources, sorted. sources: the datasets, in that order. weights: their shares, step by step.
        by, until, seed: as given to `mix`. column: of the source's name, or None. store: a remote one, if there is one.
        schema: of the columns asked for. fingerprint: names all of it.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Weights,
        *,
        seed: int,
        until: Literal["first", "all"] | int,
        by: Literal["rows", "tokens"],
        column: str | None,
    ) -> None:
        self.names = tuple(sorted(sources))
        self.sources = tuple(sources[name] for name in self.names)
        self.weights = weights
        self.seed = seed
        self.until = until
        self.by = by
        self.column = column
        self.url = "mix of " + ", ".join(f"{name}={getattr(sources[name], 'url', '?')}" for name in self.names)
        stores = [getattr(data, "store", None) for data in self.sources]
        # What it is asked for is whether reads wait for a network.
        self.store = next((store for store in stores if getattr(store, "is_remote", False)), stores[0])
        own = common_schema({name: sources[name].schema for name in sources})
        if column is not None:
            if column in own.names:
                raise ConfigError(f"source={column!r}, a column that the sources have", expected="a name that is free")
            own = own.append(_source_field(column))
        self.schema: pa.Schema = own
        self.fingerprint = self._name()
        self._index: MixedIndex | None = None

    def _name(self) -> str:
        parts = [f"{name!r}={data.fingerprint}" for name, data in zip(self.names, self.sources, strict=True)]
        text = "\x1f".join(["mix-1", *parts, self.weights.digest, self.by, f"{self.until!r}", f"{self.seed}"])
        return f"dp1-{xxhash.xxh3_128_hexdigest(text.encode())}"

    @property
    def whole_schema(self) -> pa.Schema:
        """The columns that all sources have stored, in types that all can be cast to."""
        schemas = {name: data.whole_schema for name, data in zip(self.names, self.sources, strict=True)}
        shared = shared_columns(schemas)
        return shared if self.column is None else shared.append(_source_field(self.column))

    @property
    def index(self) -> MixedIndex:
        """Arrays over the blocks of all sources. The first time filters are evaluated."""
        if self._index is None:
            indexes = [data.index for data in self.sources]
            rows = np.concatenate([np.zeros(0, np.int64), *(index.rows for index in indexes)])
            self._index = MixedIndex(
                rows=rows,
                bytes=np.concatenate([np.zeros(0, np.int64), *(index.bytes for index in indexes)]),
                first=np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)]),
                cuts=np.cumsum([0, *map(len, indexes)]).astype(np.int64),
            )
        return self._index

    @property
    def num_rows(self) -> int:
        """Rows of all sources, each once."""
        return int(self.index.first[-1])

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        shares = ", ".join(f"{name}={share:.4g}" for name, share in list(self.weights.at(0).items())[:8])
        more = ", …" if len(self.names) > 8 else ""
        more += " at first" if len(self.weights.steps) > 1 else ""
        return f"Mixture({shares}{more}, until={self.until!r}, {self.fingerprint})"

    def shares(self, *, of_rows: bool) -> Weights:
        """The sources' shares of what is counted: rows (as `by` says), or units of about as many tokens each."""
        if self.by == "rows" or not of_rows:
            return self.weights
        # A share of tokens, divided by the tokens of a row, is one of rows.
        factors = []
        for name, data in zip(self.names, self.sources, strict=True):
            tokens = getattr(data.index, "tokens", None)
            rows, total = int(data.index.rows.sum()), 0 if tokens is None else int(tokens.sum())
            if rows and not total:
                raise ConfigError(
                    f'by="tokens", and source {name!r} does not say how many tokens it has',
                    expected="token counts in the manifest, of all rows",
                    fix='make it with `datapipe preprocess` and a recipe that tokenizes, without filters, or by="rows"',
                )
            factors.append(Fraction(rows, total) if total else Fraction(1))
        return self.weights.scaled(factors)

    @property
    def row_groups(self) -> SequenceOf[MixedGroup]:
        """The blocks, source after source."""
        return _Groups(self)

    def locate(self, block: int) -> tuple[int, int]:
        """(source, its own block number) of a block."""
        source = int(np.searchsorted(self.index.cuts, block, side="right")) - 1
        return source, int(block - self.index.cuts[source])

    def fetch(self, block: int) -> MixedFetched:
        """Bring one row group's stored bytes near; thread-safe."""
        source, own = self.locate(block)
        return MixedFetched(self.sources[source].fetch(own), self.schema, self.column, self.names[source])

    def fetch_anew(self, block: int) -> MixedFetched:
        """The same, once more from the source's store itself."""
        source, own = self.locate(block)
        return MixedFetched(self.sources[source].fetch_anew(own), self.schema, self.column, self.names[source])

    def row_numbers(self, blocks: Ints, rows: Ints) -> Ints:
        """Numbers that name each row: its number in its source, plus 2^40 for each source before it."""
        source = np.searchsorted(self.index.cuts, blocks, side="right") - 1
        numbers = np.empty(len(blocks), np.int64)
        for each in np.unique(source).tolist():
            at = np.flatnonzero(source == each)
            own = self.sources[each].row_numbers(blocks[at] - self.index.cuts[each], rows[at])
            numbers[at] = own + each * _SOURCE_ROWS
        return numbers

    def select(self, columns: SequenceOf[str]) -> Mixture:
        """The same mix of these of the stored columns.

        Raises:
            SchemaError: a source has no such column, or of a type that does not go with the others'.
        """
        own = [name for name in columns if name != self.column]
        if not own:
            raise ConfigError(f"columns={list(columns)!r}", expected="at least one of the sources' columns")
        chosen = {name: data.select(own) for name, data in zip(self.names, self.sources, strict=True)}
        other = Mixture(
            chosen,
            self.weights,
            seed=self.seed,
            until=self.until,
            by=self.by,
            column=self.column if self.column in columns else None,
        )
        other.schema = pa.schema([other.schema.field(name) for name in columns])
        other.fingerprint = self.fingerprint
        other._index = self._index
        return other


class _Groups(SequenceOf[MixedGroup]):
    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture

    def __len__(self) -> int:
        return len(self._mixture.index)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        index = self._mixture.index
        source, own = self._mixture.locate(range(len(self))[at])
        group = self._mixture.sources[source].row_groups[own]
        return MixedGroup(
            path=f"{self._mixture.names[source]}: {group.path}",
            group=group.group,
            rows=int(index.rows[at]),
            bytes=int(index.bytes[at]),
        )


def _source_field(name: str) -> pa.Field:
    return pa.field(name, pa.dictionary(pa.int32(), pa.string()))


def mix(
    sources: Mapping[str, Any],
    weights: Mapping[str, float]
    | SequenceOf[tuple[int, Mapping[str, float]]]
    | Callable[[int], Mapping[str, float]]
    | None = None,
    *,
    seed: int = 0,
    until: Literal["first", "all"] | int = "all",
    by: Literal["rows", "tokens"] = "rows",
    source: str | None = None,
) -> Mixture:
    """Several datasets in exact proportions, in place of one in a `DataLoader`.

    Of the first n rows of the run a source of share w has given n·w, to within ⌈log2 K⌉ / 2 rows for K sources
    (`shuffle=False`), and to within 8 · 2^⌈log2 K⌉ · w (1 - w) more with shuffling, where sources follow each other in
    a random, keyed order: for two sources ±0.5 and ±4.5 rows. Each rank's part of a batch is in proportion as well.

    A source goes through all of its rows, each once, in an order of its own, and then begins its next epoch, whatever
    the others do and wherever the mix's own epochs end: those cut one endless sequence into parts of equal length, so
    that the next one goes on where this one ended. (tail="drop" cuts at whole batches and leaves nothing out.)

    A rank's part of a source begins and ends between rows, not lanes, so that it reads a few lanes of each source
    beside its own: where ranks share no cache, have several lanes per rank (`DataLoader(lanes=...)`, of each source).

    Args:
        sources: name → dataset, or another mix of the same `by`: its sources come in as "name/its name", with their
            share of this one's, under this one's seed and length.
        weights: name → share, from 0 (never read), in any unit; the same number for equal shares. Or a curriculum:
            [(step, weights), …], ascending from step 0, each to hold until the next; or a pure function step → weights,
            which is asked every 100 steps at first, at distances growing by 1/256 after step 204,800, and holds in
            between. A step is a global batch, counted through the epochs. None: in proportion to the sources' rows.
            Decimals are taken as written (0.7 is 7/10); shares that change are rounded to multiples of 2^-30.
        seed: of the order in which sources follow each other.
        until: the length of an epoch: "all": until every source has been gone through once, counted from the start of
            the run; "first": until the first one has; or a number of rows (bins, batches, where those are counted).
            With `pack` or `bucket` only a number spares the first batch the lengths of all rows.
        by: what the weights are shares of: "rows" (bins when packing), or "tokens", where manifests count them.
        source: the name of a column to add, of the name of each row's source.

    Returns:
        Mixture: an immutable facade with `schema`, `fingerprint`, `num_rows`, `row_groups`, `fetch`. `len()` of it is
        `num_rows`: the rows of all sources, each once, not those of an epoch; `len(DataLoader(…))` tells an epoch's
        batches.

    Raises:
        ConfigError: a weight is negative or no number, all are 0, names do not match, or an option is out of range.
        SchemaError: the sources' columns differ in more than the width of their numbers.
    """
    if not hasattr(sources, "items") or not sources:
        raise ConfigError(f"sources={str(sources)[:80]}", expected="a mapping of name to dataset", fix='{"web": a, …}')
    for name in sources:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a source is named {name!r}", expected="a string")
    for name, data in sources.items():
        if getattr(opened(data), "follows", False):
            raise ConfigError(
                f"source {name!r} follows newer snapshots, which would change the mix as it goes",
                expected="datasets that stay as they are",
                fix="open it without follow=, and mix anew (ds.since(n), ds.until(n)) when there is more",
            )
    if by not in {"rows", "tokens"}:
        raise ConfigError(f"by={by!r}", expected='"rows" or "tokens"')
    if until not in {"first", "all"} or not isinstance(until, str):
        until = whole_number("until", until, 1) if not isinstance(until, str) else _no_such_end(until)
    if source is not None and (not isinstance(source, str) or not source):
        raise ConfigError(f"source={source!r}", expected="the name of a column, or None")
    names = sorted(sources)
    table = read_weights(
        names, {name: int(sources[name].index.rows.sum()) for name in names} if weights is None else weights
    )
    inner = {name: data for name, data in sources.items() if isinstance(data, Mixture)}
    for name, each in inner.items():
        if each.by != by or each.column != source:
            raise ConfigError(
                f"source {name!r} is a mix with by={each.by!r} and source={each.column!r}",
                expected=f"by={by!r} and source={source!r}, as of the mix that it is in",
            )
    flat: dict[str, Any] = {}
    for name, data in sources.items():
        found = (
            {f"{name}/{n}": d for n, d in zip(data.names, data.sources, strict=True)} if name in inner else {name: data}
        )
        twice = sorted(flat.keys() & found.keys())
        if twice:
            raise ConfigError(f"two sources are named {twice[0]!r}", expected="each name once")
        flat.update(found)
    if inner:
        table = table.within({name: each.weights for name, each in inner.items()})
    return Mixture(flat, table, seed=whole_number("seed", seed), until=until, by=by, column=source)


def _no_such_end(until: str) -> int:
    raise ConfigError(f"until={until!r}", expected='"first", "all", or a number of rows')
