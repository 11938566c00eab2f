"""Shaped sequences: packed and bucketed epochs are as exact, on any topology and from any batch, as those of rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.loader import Bucket, DataLoader, Pack

BIG = 1 << 20
LENGTHS = st.lists(
    st.lists(st.one_of(st.integers(0, 12), st.sampled_from([0, 1, 7, 8, 9, 16, 17, 40])), max_size=17),
    min_size=1,
    max_size=9,
).filter(lambda blocks: sum(map(len, blocks)) > 0)


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
    return DataLoader(data, batch_size, rank=rank, world_size=world, collate="numpy", prefetch=0, **options)


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


shapes = st.one_of(
    st.builds(lambda n, long: {"pack": Pack(n, long=long)}, st.integers(1, 20), st.sampled_from(["split", "truncate"])),
    st.builds(lambda b: {"bucket": Bucket(sorted(b))}, st.sets(st.integers(0, 20), min_size=1, max_size=3)),
    st.builds(lambda n: {"bucket": Bucket(max_tokens=n)}, st.integers(1, 60)),
)


@pytest.mark.filterwarnings("ignore:the dataset has")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=LENGTHS,
    shape=shapes,
    world=st.integers(1, 8),
    batch=st.integers(1, 5),
    lanes=st.integers(1, 4),
    window=st.integers(1, 4),
    tail=st.sampled_from(["drop", "pad", "partial"]),
    shuffle=st.booleans(),
    epoch=st.integers(0, 2),
    data=st.data(),
)
def test_every_topology_makes_the_same_batches_from_any_batch_on(
    of_tables, blocks, shape, world, batch, lanes, window, tail, shuffle, epoch, data
):
    """Ranks' shares, joined, are one process's batches; every row once; equal steps, told by len; any resume exact."""
    source = dataset(of_tables, blocks)
    options = {**shape, "lanes": lanes, "window": window, "tail": tail, "shuffle": shuffle, "seed": 3}
    by_tokens = "bucket" in shape and shape["bucket"].max_tokens is not None
    ranks = [loader(source, batch, r, world, **options) for r in range(world)]
    shares = []
    for each in ranks:
        each.set_epoch(epoch)
        shares.append([told(b) for b in each])
        assert len(shares[-1]) == len(each)
    state = {**ranks[0].state_dict(), "epoch": epoch, "position": 0}
    whole = loader(source, batch if by_tokens else batch * world, **options)
    whole.load_state_dict(state)
    states, batches = [whole.state_dict()], []
    for b in whole:
        batches.append(told(b))
        states.append(json.loads(json.dumps(whole.state_dict())))
    assert [[row for share in step for row in share] for step in zip(*shares, strict=True)] == batches
    check_rows(blocks, shape, tail, [row for b in batches for row in b])
    # On another world size, from any batch.
    at = data.draw(st.integers(0, len(batches)))
    units = whole.settings.global_batch
    others = [n for n in range(1, 9) if units % n == 0 or (by_tokens and n % units == 0)]
    other = data.draw(st.sampled_from(others))
    stored = dict(states[at])
    if data.draw(st.booleans()):
        stored.pop("cursor", None)
    resumed = []
    for rank in range(other):
        each = loader(source, batch if by_tokens else units // other, rank, other, **options)
        each.load_state_dict(stored)
        resumed.append([told(b) for b in each])
    if at == len(batches) and batches:  # the next epoch
        assert len({len(share) for share in resumed}) == 1
        return
    assert [[row for share in step for row in share] for step in zip(*resumed, strict=True)] == batches[at:]


def check_rows(blocks, shape, tail, rows):
    lengths = [n for block in blocks for n in block]
    if "pack" in shape:
        found = of_rows(rows)
        assert all(
            sorted(tokens) == list(range(len(tokens))) or shape["pack"].long == "split" for tokens in found.values()
        )
        most = shape["pack"].seq_len if shape["pack"].long == "truncate" else BIG
        wanted = {row: list(range(min(n, most))) for row, n in enumerate(lengths) if n}
        if tail == "drop":
            assert all(
                set(tokens) <= set(wanted[row]) and len(set(tokens)) == len(tokens) for row, tokens in found.items()
            )
        else:
            assert {row: sorted(tokens) for row, tokens in found.items()} == wanted
    else:
        names = [row[-1] for row in rows]
        assert len(set(names)) == len(names)
        assert tail == "drop" or sorted(names) == list(range(len(lengths)))
        for tokens, row in rows:
            assert tokens == [row * 64 + k for k in range(lengths[row])]


@pytest.mark.parametrize("shape", [{"pack": Pack(16)}, {"bucket": Bucket([4, 8])}, {"bucket": Bucket(max_tokens=64)}])
def test_epochs_and_seeds_differ_and_steps_do_not(of_tables, shape):
    """Other batches in each epoch and for each seed; as many of them in each epoch."""
    generator = np.random.default_rng(0)
    source = dataset(of_tables, [generator.integers(1, 20, 40).tolist() for _ in range(16)])
    seen = []
    for seed in (0, 1):
        one = loader(source, 4, seed=seed, lanes=2, window=2, **shape)
        for _ in range(2):
            seen.append([told(b) for b in one])
            assert len(seen[-1]) == len(one)
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
