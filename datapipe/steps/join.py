"""join: columns of another file or dataset, by key.

What enters: rows with key columns, and the files that hold what is known of each key. What leaves: the same rows with
the columns asked for; null, or marked, where no record has the row's key. Invariant: no row is added or lost: a key has
one record (of several, that which the options say; else it is an error), so what a row gets depends on its key and on
the files alone, however the join is done.

Small files are held whole by each worker (a broadcast join). Beyond `broadcast_bytes` a global pass cuts both sides
into ranges of hashed keys on disk and joins range by range; the step then finds the columns there, and marks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName  # noqa: TC001  (options are checked by their hints)
from datapipe.steps.columns import mark, set_column
from datapipe.steps.join_known import Known, known_of
from datapipe.steps.join_right import Wanted, expanded, right_batches
from datapipe.steps.options import in_range
from datapipe.steps.row_keys import key_texts
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

UNMATCHED: Final = "join_unmatched"
JOINED: Final = "__joined"
"""Of rows that a pass has joined: whether a record was found."""
MISSES: Final = "join.unmatched"
NULL_KEYS: Final = "join.null_key"


@dataclass(frozen=True, kw_only=True)
class JoinOptions:
    """Options of join.

    Attributes:
        files: what is joined: files of Parquet, Arrow, CSV, TSV or JSON lines, or folders of them (of a dataset, its
            shards). Their content is part of every task's key. From CSV and JSON columns come as text.
        key: the name of a column on both sides, or a mapping of the rows' column to the files'. Compared as
            text; null and the empty text are no key.
        columns: what the rows get: a list of columns of the files, or a mapping of the new name to the files' name.
        unmatched: a row without a record: "keep" it with nulls, "drop" or "quarantine" it; counted by all.
        duplicates: a key with several records is an "error"; or the "first" counts, the "last", in the order of the
            files, or the "newest".
        newest_by: the column of the files that tells the newest by the greatest value (of CSV, as text).
        broadcast_bytes: files up to so many bytes are held in memory by each worker; larger ones are cut on disk.
    """

    files: tuple[str, ...] = ()
    key: str | ByName[str] = ""
    columns: tuple[str, ...] | ByName[str] = ()
    unmatched: Literal["keep", "drop", "quarantine"] = "keep"
    duplicates: Literal["error", "first", "last", "newest"] = "error"
    newest_by: str = ""
    broadcast_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        in_range("join.broadcast_bytes", self.broadcast_bytes, 0)
        object.__setattr__(self, "files", expanded(self.files))
        if self.files and not (self.keys and self.given):
            raise ConfigError(
                f"join: key = {self.key!r}, columns = {self.columns!r}",
                expected="a key, and the columns that are joined",
                fix="key: user, columns: [country]",
            )
        names = [new for new, _ in self.given]
        if len(set(names)) < len(names) or any(name.startswith("__") or name == "row_id" for name in names):
            raise ConfigError(f"join.columns gives {', '.join(names)}", expected="names of new columns, each once")
        if (self.duplicates == "newest") != bool(self.newest_by):
            raise ConfigError(
                f"join.duplicates = {self.duplicates!r}, newest_by = {self.newest_by!r}",
                expected="duplicates: newest and the column newest_by, or neither",
            )

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(column of the rows, column of the files)."""
        if isinstance(self.key, str):
            return ((self.key, self.key),) if self.key else ()
        return tuple(self.key.items())

    @property
    def given(self) -> tuple[tuple[str, str], ...]:
        """(new column, column of the files)."""
        if isinstance(self.columns, tuple):
            return tuple((name, name) for name in self.columns)
        return tuple(self.columns.items())

    @property
    def wanted(self) -> Wanted:
        """What is read of the files."""
        return Wanted(on=tuple(there for _, there in self.keys), columns=self.given, newest=self.newest_by)

    @property
    def bytes(self) -> int:
        """Of the files, as far as they are there."""
        return sum(os.path.getsize(path) for path in self.files if os.path.isfile(path))  # noqa: PTH113, PTH202


@lru_cache(maxsize=2)
def _known(files: tuple[tuple[str, int, int], ...], wanted: Wanted, duplicates: str) -> Known:
    """Read once a process, however many tasks it runs; a file that changed is read anew."""
    return known_of([batch for path, _, _ in files for batch in right_batches(path, wanted)], duplicates)


@final
class Join:
    """The step with its options bound; the files are read when the first row comes."""

    def __init__(self, options: JoinOptions) -> None:
        self.options = options

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Join a table.

        Args:
            table: the key columns; of rows that a pass has joined, the new columns and `JOINED`.
            keys: not used.

        Returns:
            The table with the new columns, and the signals `MISSES` and `NULL_KEYS`.

        Raises:
            ConfigError: the files cannot be read, or the table has a column that is to be new.
        """
        del keys
        import pyarrow as pa
        import pyarrow.compute as pc

        options = self.options
        if not options.files:
            return table
        texts = key_texts(table, [name for name, _ in options.keys], "join: the table")
        names = [new for new, _ in options.given]
        taken = [name for name in names if name in table.column_names]
        if JOINED in table.column_names and len(taken) == len(names):
            missed = pc.invert(table.column(JOINED))
        elif taken:
            raise ConfigError(
                f"join: the table has a column {taken[0]!r} already",
                expected="new columns",
                fix=f"give it another name: join.columns = {{joined_{taken[0]}: {dict(options.given)[taken[0]]}}}",
            )
        else:
            rows = self._known().rows_of(texts)
            for name in names:
                table = table.append_column(name, self._known().columns.column(name).take(rows))
            missed = rows.is_null()
        table = set_column(table, MISSES, missed.cast(pa.int8()))
        table = set_column(table, NULL_KEYS, texts.is_null().cast(pa.int8()))
        if options.unmatched == "keep":
            return table
        reasons = pc.if_else(missed, pa.scalar(UNMATCHED, pa.string()), pa.scalar(None, pa.string()))
        return mark(table, reasons, quarantine=options.unmatched == "quarantine")

    def _known(self) -> Known:
        stats = [(path, os.stat(path)) for path in self._there()]  # noqa: PTH116
        files = tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
        return _known(files, self.options.wanted, self.options.duplicates)

    def _there(self) -> tuple[str, ...]:
        for path in self.options.files:
            if not os.path.isfile(path):  # noqa: PTH113
                raise ConfigError(f"join.files: there is no file {path}", expected="files to join")
        return self.options.files


def resolve(spec: StepSpec, options: JoinOptions) -> StepSpec:
    """The keys are needed, the new columns given; large files need a pass over both sides."""
    if not options.files:
        return replace(spec, signals=(), counters=(), idle=True)
    return replace(
        spec,
        needs=tuple(name for name, _ in options.keys),
        gives=tuple(name for name, _ in options.given),
        kind="global" if options.bytes > options.broadcast_bytes else "map",
    )


def build(options: JoinOptions) -> Step:
    """The step with its options bound."""
    return Join(options)


SPEC: Final = StepSpec(
    name="join",
    version=1,
    kind="map",
    options=JoinOptions,
    build=build,
    summary="columns of another file or dataset, by key; rows without a record counted",
    reasons=(UNMATCHED,),
    signals=(MISSES, NULL_KEYS),
    counters=(MISSES, NULL_KEYS),
    resources=("files",),
    resolve=resolve,
)
