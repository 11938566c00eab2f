"""Mixtures of rows that say which source they are of, and loaders of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datapipe.loader import DataLoader, mix

NAMES = "abcd"


def source(of_tables, name, sizes):
    """Rows that say which source they are of and which row of it; tokens as many as row number mod 5."""
    base, tables = (ord(name) - ord("a")) * 1000, []
    for size in sizes:
        ids = np.arange(base, base + size)
        tokens = [[int(i)] * (i % 5) for i in ids]
        tables.append(pa.table({"id": pa.array(ids), "tokens": pa.array(tokens, pa.list_(pa.int32()))}))
        base += size
    data = of_tables(*tables)
    data.fingerprint = f"source {name}"
    return data


def mixture(of_tables, sizes, weights, **options):
    data = {name: source(of_tables, name, each) for name, each in zip(NAMES, sizes, strict=False)}
    return mix(data, dict(zip(data, weights, strict=False)), **options)


def loader(data, batch_size, rank=0, world=1, **options):
    return DataLoader(data, batch_size, rank=rank, world_size=world, collate="numpy", prefetch=0, **options)


def told(batch):
    """A batch as plain values, padding rows left out."""
    keep = batch.get("mask", np.ones(len(batch["tokens"]), bool))
    return (batch["id"] if "id" in batch else batch["tokens"])[keep].tolist()
