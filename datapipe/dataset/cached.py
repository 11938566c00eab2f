"""Row groups in a cache: decoded ones as uncompressed Arrow, mapped back; raw ones as the bytes that were stored.

What enters: a row group of some columns, and how to read it. What leaves: a `Fetched` whose rows are those of the
dataset, wherever they came from. Invariant: whoever gets a miss brings the entry or gives the right to it back; an
entry holds all rows of its row group, or it is read from the dataset; of encrypted columns only what is stored is kept.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, final

import pyarrow as pa

from datapipe.errors import ConfigError, IntegrityError
from datapipe.events import HIT, MISS
from datapipe.storage.cache import Cache, CachedBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datapipe.dataset.cached_store import CachedStore
    from datapipe.dataset.fetch import Fetched
    from datapipe.dataset.footers import Footers
    from datapipe.storage.cache import Claim

    Read = Callable[[int, int, int], Fetched]


def as_cache(cache: Any) -> Cache | None:
    """What a user gave as `cache`: one, or the path of one.

    Raises:
        ConfigError: neither.
    """
    if cache is None or isinstance(cache, Cache):
        return cache
    if isinstance(cache, str | os.PathLike):
        return Cache(cache)
    raise ConfigError(f"cache={cache!r}", expected="a datapipe.Cache or a path", fix='datapipe.Cache(path, "20 GB")')


def cache_counts(dataset: Any) -> dict[str, dict[str, int]]:
    """`{"cache": counts}` of a dataset that has one, or `{}`; a mixture's are those of all its sources' caches."""
    each = [getattr(source, "cache", None) for source in getattr(dataset, "sources", [dataset])]
    counts = [cache.stats() for cache in dict.fromkeys(each) if cache is not None]
    return {"cache": {name: sum(count[name] for count in counts) for name in counts[0]}} if counts else {}


@final
class CachedRows:
    """A row group that lies decoded in the cache."""

    flag = HIT

    def __init__(self, found: CachedBytes, columns: list[str], rows: int, again: Callable[[], Fetched]) -> None:
        self._found = found
        self._columns = columns
        self._rows = rows
        self._again = again
        self.nbytes = found.size

    def decode(self) -> pa.Table:
        """A table over the mapped bytes."""
        try:
            table = pa.ipc.open_stream(self._found.buffer).read_all()
            if table.num_rows == self._rows:
                return table.select(self._columns)
        except (pa.ArrowException, KeyError):
            pass  # written by an Arrow that this one does not understand
        return self._again().decode()


@final
class RowsToKeep:
    """A row group that was not in the cache: it is when it is decoded."""

    def __init__(self, fetched: Fetched, claim: Claim) -> None:
        self._fetched = fetched
        self._claim = claim
        self.nbytes = fetched.nbytes
        self.flag = MISS | fetched.flag

    def decode(self) -> pa.Table:
        """The rows, which those who wait for them can have from here on."""
        try:
            table = self._fetched.decode()
            # A type that Arrow's stream format has not: the row group stays as it is stored.
            with contextlib.suppress(pa.ArrowException, ValueError, TypeError):
                self._claim.store(_stream_size(table), lambda file: _write_stream(table, file))
        finally:
            self._claim.close()
        return table


def _write_stream(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table)


def _stream_size(table: pa.Table) -> int:
    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return int(sink.size())


@final
class RowGroupEntries:
    """The row groups of a dataset in its cache; safe to share by threads, picklable."""

    def __init__(self, store: CachedStore, footers: Footers) -> None:
        self._store = store
        self._footers = footers

    def fetch(self, read: Read, shard: int, group: int, rows: int, columns: Sequence[str]) -> Fetched:
        """A row group from the cache, or by `read` and then into it."""
        store, path = self._store, self._footers.paths[shard]
        if store.all_ranges:  # as they are stored: what is encrypted there is encrypted here
            store.last_hit  # noqa: B018  (cleared)
            fetched = self._read(read, shard, group, rows)
            hit = store.last_hit
            if hit is not None:
                fetched.flag = HIT if hit else MISS | fetched.flag
            return fetched
        # Entries of all orders of the same columns are one; Arrow's next major version may give a type otherwise.
        name = store.name("rows", path, pa.__version__.partition(".")[0], group, rows, *sorted(columns))
        if name is None:
            return self._read(read, shard, group, rows)
        found = store.cache.lookup(name)
        if isinstance(found, CachedBytes):
            return CachedRows(found, list(columns), rows, lambda: self._anew(name, read, shard, group, rows))
        try:
            fetched = self._read(read, shard, group, rows)
            if not store.agrees(self._entry(shard)):
                found.close()
        except BaseException:
            found.close()
            raise
        return RowsToKeep(fetched, found)

    def _anew(self, name: str, read: Read, shard: int, group: int, rows: int) -> Fetched:
        self._store.cache.discard(name)
        return self._read(read, shard, group, rows)

    def _entry(self, shard: int) -> Any:
        """Which version of a shard is read."""
        footers, path = self._footers, self._footers.paths[shard]
        if footers.formats[shard] == "parquet":
            return footers.parquet(shard).entry
        return footers.arrow(shard).entry if self._store.local_path(path) is None else self._store.info(path)

    def _read(self, read: Read, shard: int, group: int, rows: int) -> Fetched:
        try:
            return read(shard, group, rows)
        except IntegrityError:
            # The same content, put there again since its footer was kept: the footer is read anew, once.
            if not self._store.forget_tail(self._footers.paths[shard]):
                raise
            self._footers.forget(shard)
            return read(shard, group, rows)
