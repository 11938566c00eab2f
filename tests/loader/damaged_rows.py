"""Datasets on disk with row groups that are damaged, and loaders that replace them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datapipe

GROUPS, ROWS = 24, 20


def write(folder, groups=GROUPS, rows=ROWS, *, form="parquet", lengths=False, labels=False):
    """Two shards whose ids count the rows; with `lengths` token lists and their lengths in a column, or labels."""
    for shard, part in enumerate(np.array_split(np.arange(groups), 2)):
        tables = []
        for group in part.tolist():
            ids = np.arange(group * rows, (group + 1) * rows)
            table = {"id": pa.array(ids)}
            if labels:
                table["label"] = pa.array(ids % 2)
            if lengths:
                lists = [[int(i)] * int(1 + i * 7 % 13) for i in ids]
                table["tokens"] = pa.array(lists, pa.list_(pa.int32()))
                table["n_tokens"] = pa.array([len(each) for each in lists], pa.int32())
            tables.append(pa.table(table))
        path = folder / f"part-{shard}.{form}"
        with pq.ParquetWriter(path, tables[0].schema, write_page_checksum=True, compression="NONE") as writer:
            for table in tables:
                writer.write_table(table)
    return folder


def damage(folder, group, column="id", groups=GROUPS):
    """Flip bits in the pages of one column of a row group."""
    shard, own = divmod(group, groups // 2)
    path = folder / f"part-{shard}.parquet"
    meta = pq.ParquetFile(path).metadata
    chunk = meta.row_group(own)
    names = [chunk.column(i).path_in_schema.split(".")[0] for i in range(chunk.num_columns)]
    found = chunk.column(names.index(column))
    start = found.dictionary_page_offset or found.data_page_offset
    with path.open("r+b") as file:
        file.seek(start)
        whole = bytearray(file.read(found.total_compressed_size))
        half = len(whole) // 2
        whole[half:] = bytes(byte ^ 0x5A for byte in whole[half:])
        file.seek(start)
        file.write(whole)


def ids_of(loader):
    return [batch["id"].tolist() for batch in loader]


def make(folder, **options):
    given = {"batch_size": 8, "seed": 3, "lanes": 4, "window": 2, "collate": "numpy", "on_error": "quarantine"}
    return datapipe.DataLoader(datapipe.open_dataset(folder), **{**given, **options})
