"""Shards without some documents: rewritten as the run would have written them, had the documents never been there.

What enters: a manifest, and which documents of which splits are erased. What leaves: the manifest's shards and pieces,
those that held one replaced. Invariant: every other row is as it was, in the same order, and packed documents are
packed anew by the recipe's own options, so that of an erased one no token is left in a row that it shared; of an
erased sound every window goes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.errors import DatasetError, IntegrityError, PreprocessError
from datapipe.preprocess.sound_windows import cuts_windows, sounds_of
from datapipe.preprocess.split_fates import KEPT, Fates, split_fates

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.dataset import PieceEntry, Sealing, ShardEntry
    from datapipe.preprocess.stored_run import StoredRun, StoredStep

    Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """What became of the shards.

    Attributes:
        shards, pieces: as the manifest is to have them. names: by path as the ledger had it, the new one; None: no row
            is left. rows: rows that are gone. documents: by path as the ledger had it, how many documents went.
    """

    shards: tuple[ShardEntry, ...]
    pieces: tuple[PieceEntry, ...]
    names: Mapping[str, str | None]
    rows: int
    documents: Mapping[str, int]


def rewrite(
    run: StoredRun, erased: Mapping[int, Ints], ids: Collection[str], sealing: Sealing | None, scratch: str | None
) -> Rewritten:
    """Write the shards that hold erased documents anew, beside those that are there.

    Args:
        erased: by split, positions of kept documents (as they were read), ascending; of datasets whose rows were not
            moved. ids: row ids, for those that were. scratch: a local folder for a file while it is written.

    Raises:
        PreprocessError: it cannot be shown which rows hold a document. IntegrityError: a shard is damaged. Nothing of
            the dataset is changed.
    """
    from datapipe.dataset.manifest import pieces_by_shard

    manifest = run.manifest
    split_of = {entry.shard: entry.split for entry in manifest.ledger if entry.shard is not None}
    shards: list[ShardEntry] = []
    parts: list[PieceEntry | ShardEntry] = []
    names: dict[str, str | None] = {}
    documents: dict[str, int] = {}
    gone = 0
    for shard, pieces in zip(manifest.shards, pieces_by_shard(manifest) or (), strict=True):
        mine = [erased.get(split_of.get(piece.path, -1)) for piece in pieces]
        if not run.moved and all(each is None for each in mine):
            shards.append(shard)
            parts += pieces
            continue
        table, first = _rows(run, shard), 0
        left: list[tuple[PieceEntry | ShardEntry, pa.Table, pa.Table]] = []
        for piece, positions in zip(pieces, mine, strict=True):
            before = table.slice(first, piece.rows)
            first += piece.rows
            if run.moved:
                after = _without_ids(run, before, ids)
                documents[piece.path] = _documents(run, before) - _documents(run, after)
            else:
                after = before if positions is None else _without(run, split_of[piece.path], before, positions)
                documents[piece.path] = 0 if positions is None else len(positions)
            left.append((piece, before, after))
        if all(after is before for _, before, after in left):
            shards.append(shard)
            parts += pieces
            continue
        for piece, before, after in left:
            gone += before.num_rows - after.num_rows
            entry = _write(run, piece, after, documents[piece.path], sealing, scratch)
            names[piece.path] = None if entry is None else entry.path
            if entry is not None:
                shards.append(entry)
                parts.append(entry)
    merged = [piece for piece in parts if piece.path not in {shard.path for shard in shards}]
    return Rewritten(
        shards=tuple(shards),
        pieces=tuple(_piece(part) for part in parts) if merged else (),
        names=names,
        rows=gone,
        documents={path: n for path, n in documents.items() if n},
    )


def _piece(part: PieceEntry | ShardEntry) -> PieceEntry:
    from datapipe.dataset import PieceEntry

    return PieceEntry(
        path=part.path, rows=part.rows, checksum=part.checksum, documents=part.documents, content=part.content
    )


def _rows(run: StoredRun, shard: ShardEntry) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.dataset.keyring import is_locked, locked
    from datapipe.storage import checksum_bytes

    data = run.store.read(shard.path)
    if (found := checksum_bytes(data)) != shard.checksum.value:
        # Written anew, its other rows would have a checksum that vouches for what is damaged.
        raise IntegrityError(
            f"{run.store.url}/{shard.path}: checksum {found}",
            expected=f"{shard.checksum.value}, as the manifest says",
            fix="restore the file from a copy; nothing was erased",
        )
    if shard.format == "arrow":
        return pa.ipc.open_file(pa.BufferReader(data)).read_all()
    opened = run.keyring.decryption() if run.keyring is not None else None
    try:
        return pq.ParquetFile(io.BytesIO(data), decryption_properties=opened).read()
    except (OSError, pa.ArrowException) as error:
        if is_locked(error):
            raise locked(shard.path, run.keyring) from None
        raise DatasetError(
            f"{shard.path} cannot be read ({error})", expected="a whole shard", fix="run `datapipe verify`"
        ) from error


def _write(
    run: StoredRun,
    piece: PieceEntry | ShardEntry,
    table: pa.Table,
    documents: int,
    sealing: Sealing | None,
    scratch: str | None,
) -> ShardEntry | None:
    from datapipe.dataset import write_shard

    output = (run.manifest.recipe or {})["output"]
    stem = piece.path.rpartition(".")[0].rpartition("-")[0]
    entry = write_shard(
        run.store,
        stem,
        [table],
        schema=run.manifest.schema,
        row_group_rows=int(output["row_group_rows"]),
        format=output["format"],
        compression=output["compression"],
        scratch=scratch,
        sealing=sealing,
    )
    if entry is None or piece.documents is None:
        return entry
    return entry.model_copy(update={"documents": piece.documents - documents})


def _without_ids(run: StoredRun, table: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of other ids: of rows that were moved, the place where they were read says nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "row_id" not in table.column_names or (_reshape(run) is not None and not cuts_windows(run)):
        raise _not_shown("its rows were moved between splits, and the shards do not name each document")
    names = pa.array(sounds_of(table), pa.string()) if cuts_windows(run) else table.column("row_id").cast(pa.string())
    gone = pc.is_in(names, value_set=pa.array(sorted(ids), pa.string()))
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def _documents(run: StoredRun, table: pa.Table) -> int:
    """How many documents rows hold that were moved: each one, or of windows each sound."""
    return len(set(sounds_of(table))) if cuts_windows(run) else table.num_rows


def _without(run: StoredRun, split: int, table: pa.Table, positions: Ints) -> pa.Table:
    """The rows of one split without the documents at these positions."""
    import numpy as np
    import pyarrow as pa

    from datapipe.preprocess.row_in_shards import ids_of

    rows = split_fates(run, split, Fates(), ["row_id"])
    kept = np.flatnonzero(rows.fate == KEPT)
    stays = ~np.isin(kept, positions)
    pack = _reshape(run)
    if pack is None:
        if len(kept) != table.num_rows:
            raise _not_shown("the shard has another number of rows than documents were kept")
        return table.filter(pa.array(stays))
    if cuts_windows(run):
        if "row_id" not in table.column_names:
            raise _not_shown("the rows do not say of which sound they are (output.columns)")
        ids = ids_of(rows, kept)
        sounds = sounds_of(table)
        if not set(sounds) <= set(ids):
            raise _not_shown("the shard has windows of other sounds than were kept")
        gone = {each for each, left in zip(ids, stays.tolist(), strict=True) if not left}
        return table.filter(pa.array([each not in gone for each in sounds], pa.bool_()))
    if pack.name != "pack":
        raise _not_shown(f"{pack.name} made new rows of several documents")
    lengths = rows.tokens[kept]
    if (lengths < 0).any() or any(name not in table.column_names for name in ("row_id", "tokens", "n_documents")):
        raise _not_shown("the rows do not say which documents they hold")
    return _repacked(pack, table, ids_of(rows, kept), lengths, stays)


def _repacked(
    pack: StoredStep, table: pa.Table, ids: list[str], lengths: Ints, stays: npt.NDArray[np.bool_]
) -> pa.Table:
    """The packed rows of the documents that stay, from those of all."""
    import numpy as np
    import pyarrow as pa

    from datapipe.steps import Keys, bind
    from datapipe.steps.pack_plan import plan_best_fit, plan_concat

    seq_len = int(pack.plain["seq_len"])
    if pack.plain["mode"] == "concat":
        layout = plan_concat(lengths, seq_len)
    else:
        layout = plan_best_fit(lengths, seq_len, int(pack.plain["window"]))
    planned = ([ids[i] for i in layout.first_document.tolist()], layout.row_documents.tolist())
    if planned != (table.column("row_id").to_pylist(), table.column("n_documents").to_pylist()):
        raise _not_shown("the split was packed in parts, whose borders are not stored")
    tokens = table.column("tokens").combine_chunks()
    flat = (tokens.chunk(0) if isinstance(tokens, pa.ChunkedArray) else tokens).flatten().to_numpy()
    within = np.arange(layout.length.sum()) - np.repeat(np.cumsum(layout.length) - layout.length, layout.length)
    values = np.zeros(int(lengths.sum()), flat.dtype)
    values[np.repeat(layout.source, layout.length) + within] = flat[np.repeat(layout.target, layout.length) + within]
    values = values[np.repeat(stays, lengths)]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[stays])])
    documents = pa.table(
        {
            "row_id": pa.array(ids, pa.string()).filter(pa.array(stays)),
            "tokens": pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values)),
        }
    )
    step = bind(pack.name, pack.plain)
    return step(documents, Keys(seed=0)).select(table.column_names)


def _reshape(run: StoredRun) -> StoredStep | None:
    return next((step for step in run.steps if step.spec is not None and step.spec.kind == "reshape"), None)


def _not_shown(why: str) -> PreprocessError:
    return PreprocessError(
        f"which rows hold the document cannot be shown: {why}",
        expected="rows that name their documents",
        fix="take it out of the input, and make the dataset anew: datapipe preprocess … --fresh",
    )
