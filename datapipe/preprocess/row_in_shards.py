"""Where in the published shards a document of the input is.

What enters: a stored run, a row of the input that was kept. What leaves: the shard and the rows that hold it.
Invariant: rows are given only where it can be shown that they hold the document, from the shard itself: documents that
were not packed are one row each, in order; of packed ones the order of the documents, their lengths and the first
document of each row must agree with the rows.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.split_fates import KEPT, Fates, split_fates

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.dataset import ShardEntry
    from datapipe.preprocess.split_fates import SplitFates
    from datapipe.preprocess.stored_run import StoredRun, StoredStep


@final
@dataclass(frozen=True, kw_only=True)
class RowInShard:
    """A row of a shard: its number there, its row group, and which document of a packed row it is, from 1."""

    row: int
    row_group: int
    segment: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class InShards:
    """Where a document is.

    Attributes:
        shard: path; None where no row was made of it. rows: that hold it, in the order of its tokens; none where it
            cannot be shown. remark: why not.
    """

    shard: str | None
    rows: tuple[RowInShard, ...] = ()
    remark: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Held:
    """What a split wrote: `rows` rows of a shard from `first` on (all of it, unless shards were merged since)."""

    shard: ShardEntry
    first: int
    rows: int

    @property
    def path(self) -> str:
        """Of the shard."""
        return self.shard.path


def held(run: StoredRun, path: str) -> Held | None:
    """Where the rows of the shard that a split wrote are now."""
    from datapipe.dataset.manifest import pieces_by_shard

    for shard, pieces in zip(run.manifest.shards, pieces_by_shard(run.manifest) or (), strict=False):
        first = 0
        for piece in pieces:
            if piece.path == path:
                return Held(shard=shard, first=first, rows=piece.rows)
            first += piece.rows
    return None


def every_shard(run: StoredRun) -> list[Held]:
    """All shards, each whole."""
    return [Held(shard=shard, first=0, rows=shard.rows) for shard in run.manifest.shards]


def in_shards(run: StoredRun, split: int, position: int) -> InShards:
    """The shard and rows of the document at (split, position), which was kept."""
    import numpy as np

    path = next((entry.shard for entry in run.manifest.ledger if entry.split == split), None)
    shard = None if path is None else held(run, path)
    if shard is None:
        return InShards(shard=None, remark="no row was made of it (it has no token)")
    fates = Fates()
    rows = split_fates(run, split, fates, ["row_id"])
    kept = np.flatnonzero(rows.fate == KEPT)
    rank = int(np.searchsorted(kept, position))
    pack = next((step for step in run.steps if step.spec is not None and step.spec.kind == "reshape"), None)
    if pack is None:
        if len(kept) != shard.rows:
            return InShards(shard=shard.path, remark="the shard has another number of rows than documents were kept")
        return InShards(shard=shard.path, rows=(place_of(shard, rank),))
    if pack.name != "pack":
        return InShards(shard=shard.path, remark=f"{pack.name} made other rows of its documents")
    return _packed(run, shard, rows, kept, rank, pack)


def moved_in_shards(run: StoredRun, row_id: str) -> InShards:
    """The same where rows were moved between splits (sort, shuffle): the shards' own ids are searched."""
    pack = any(step.spec is not None and step.spec.kind == "reshape" for step in run.steps)
    if pack or "row_id" not in run.manifest.schema.names:
        return InShards(shard=None, remark="rows were moved between splits, and the shards do not name each document")
    for whole in every_shard(run):
        table = columns_of(run, whole, ("row_id",))
        at = -1 if table is None else _index_of(table, row_id)
        if at >= 0:
            return InShards(shard=whole.path, rows=(place_of(whole, at),))
    return InShards(shard=None, remark="no shard names it")


def _index_of(table: pa.Table, row_id: str) -> int:
    """The first row of a table that has the id; -1 where none has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: int = pc.index(table.column("row_id").cast(pa.string()), pa.scalar(row_id, pa.string())).as_py()
    return found


def _packed(
    run: StoredRun,
    shard: Held,
    rows: SplitFates,
    kept: npt.NDArray[np.int64],
    rank: int,
    pack: StoredStep,
) -> InShards:
    """Of a packed shard."""
    import numpy as np

    from datapipe.steps.pack_plan import plan_best_fit, plan_concat

    lengths = rows.tokens[kept]
    if (lengths < 0).any():
        return InShards(shard=shard.path, remark="how many tokens the documents have was not stored")
    if lengths[rank] == 0:
        return InShards(shard=None, remark="no row was made of it (it has no token)")
    table = columns_of(run, shard, ("row_id", "n_documents", "n_tokens"))
    if table is None:
        return InShards(shard=shard.path, remark="the rows do not say which documents they hold (output.columns)")
    seq_len = int(pack.plain["seq_len"])
    if pack.plain["mode"] == "concat":
        layout = plan_concat(lengths, seq_len)
    else:
        layout = plan_best_fit(lengths, seq_len, int(pack.plain["window"]))
    ids = ids_of(rows, kept)
    stored = (
        table.column("row_id").to_pylist(),
        table.column("n_documents").to_pylist(),
        table.column("n_tokens").to_pylist(),
    )
    planned = (
        [ids[i] for i in layout.first_document.tolist()],
        layout.row_documents.tolist(),
        layout.row_tokens.tolist(),
    )
    if planned == stored:
        row = np.repeat(np.arange(len(layout.row_documents)), layout.row_documents)
        document = np.searchsorted(np.cumsum(lengths), layout.source, side="right")
        mine = np.flatnonzero(document == rank)
        mine = mine[np.argsort(layout.source[mine])]
        found = zip(row[mine].tolist(), layout.segment[mine].tolist(), strict=True)
        return InShards(shard=shard.path, rows=tuple(place_of(shard, r, s) for r, s in found))
    # A split of more than PACK_BYTES of tokens is packed in parts, whose borders are not stored.
    if pack.plain["mode"] == "concat":
        return _in_order(shard, ids, rank, lengths, stored[0], stored[1])
    first = tuple(place_of(shard, r) for r, each in enumerate(stored[0]) if each == ids[rank])
    return InShards(
        shard=shard.path,
        rows=first,
        remark="rows that begin with it; the split was packed in parts, of others it cannot be shown",
    )


def _in_order(
    shard: Held,
    ids: list[str],
    rank: int,
    lengths: npt.NDArray[np.int64],
    firsts: list[str],
    documents: list[int],
) -> InShards:
    """Of documents end to end: a row holds its first document and those after it."""
    import numpy as np

    # Documents without tokens are in no row, and not counted.
    full = np.flatnonzero(lengths > 0)
    order = {ids[i]: number for number, i in enumerate(full.tolist())}
    if len(order) < len(full):
        return InShards(shard=shard.path, remark="ids are not unique, so that its rows cannot be told")
    mine = int(np.searchsorted(full, rank))
    found = []
    for row, (first, count) in enumerate(zip(firsts, documents, strict=True)):
        start = order.get(first)
        if start is not None and start <= mine < start + count:
            found.append(place_of(shard, row, mine - start + 1))
    return InShards(shard=shard.path, rows=tuple(found))


def ids_of(rows: SplitFates, kept: npt.NDArray[np.int64]) -> list[str]:
    """Row ids of the kept rows, in order."""
    import numpy as np
    import pyarrow as pa

    first = rows.stages[0]
    order = np.argsort(first.position, kind="stable")
    at = order[np.searchsorted(first.position[order], kept)]
    ids: list[str] = first.table.column("row_id").take(pa.array(at)).to_pylist()
    return ids


def place_of(part: Held, row: int, segment: int | None = None) -> RowInShard:
    """Row `row` of what a split wrote, by its numbers in the shard."""
    import itertools

    row += part.first
    ends = list(itertools.accumulate(part.shard.row_groups.rows))
    group = next((number for number, end in enumerate(ends) if row < end), len(ends) - 1)
    return RowInShard(row=row, row_group=group, segment=segment)


def columns_of(run: StoredRun, part: Held, names: Sequence[str]) -> pa.Table | None:
    """Columns of what a split wrote; None where the shard lacks one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.dataset.keyring import is_locked, locked

    if any(name not in run.manifest.schema.names for name in names):
        return None
    shard = part.shard
    local = run.store.local_path(shard.path)
    source: Any = local if local is not None else io.BytesIO(run.store.read(shard.path))
    if shard.format == "parquet":
        opened = run.keyring.decryption() if run.keyring is not None else None
        try:
            table = pq.read_table(source, columns=list(names), decryption_properties=opened)
        except OSError as error:
            if is_locked(error):
                raise locked(shard.path, run.keyring) from None
            raise
        return table.slice(part.first, part.rows)
    with pa.memory_map(local) if local is not None else source as opened:
        return pa.ipc.open_file(opened).read_all().select(list(names)).slice(part.first, part.rows)
