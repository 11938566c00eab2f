"""Documents whose tokens say which row they are of, loaders of them, and what is found in bins."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset import open_dataset
from datapipe.loader import DataLoader


def dataset(of_tables, blocks, narrow=True):
    """Documents whose tokens say which row they are of, and where they stand in it."""
    tables, row = [], 0
    for lengths in blocks:
        tokens = [[(row + i) * 64 + k for k in range(n)] for i, n in enumerate(lengths)]
        columns = {
            "row": pa.array(range(row, row + len(lengths)), pa.int64()),
            "tokens": pa.array(tokens, pa.list_(pa.int32())),
        }
        if narrow:
            columns["n_tokens"] = pa.array(lengths, pa.int32())
        tables.append(pa.table(columns))
        row += len(lengths)
    return of_tables(*tables)


def loader(data, batch_size, rank=0, world=1, **options):
    options = {"prefetch": 0, **options}
    return DataLoader(data, batch_size, rank=rank, world_size=world, collate="numpy", **options)


def told(batch):
    """A batch as plain values, the real part of it where there is a mask."""
    keep = batch.get("mask", np.ones(len(batch["tokens"]), bool))
    rows = np.flatnonzero(keep).tolist()
    if "row" in batch:
        ends = batch["tokens_lengths"]
        assert not any(batch["tokens"][i, ends[i] :].any() for i in rows)
        return [(batch["tokens"][i, : ends[i]].tolist(), int(batch["row"][i])) for i in rows]
    return [(batch["tokens"][i].tolist(), batch["segment_ids"][i].tolist()) for i in rows]


def of_rows(bins):
    """Row → its tokens, as they are found in bins; checks that a bin's segments are whole runs of one row."""
    found: dict = {}
    for tokens, segments in bins:
        for token, segment in zip(tokens, segments, strict=True):
            if segment:
                found.setdefault(token // 64, []).append(token % 64)
            else:
                assert token == 0
        held = [s for s in segments if s]
        assert held == sorted(held)
        assert set(held) == set(range(1, max(held, default=0) + 1))
        assert segments == held + [0] * (len(segments) - len(held))
    return found


def documents(folder, form, lengths, narrow):
    """A stored dataset of documents, ten to a row group."""
    tokens = pa.array([np.arange(n) + 64 * i for i, n in enumerate(lengths)], pa.list_(pa.uint16()))
    table = pa.table(
        {"row": pa.array(range(len(lengths))), "tokens": tokens, "text": pa.array(["x" * n for n in lengths])}
    )
    if narrow:
        table = table.append_column("n_tokens", pa.array(lengths, pa.int32()))
    if form == "parquet":
        pq.write_table(table, folder / "a.parquet", row_group_size=10)
    else:
        with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=10):
                writer.write_batch(batch)
    return open_dataset(folder)
