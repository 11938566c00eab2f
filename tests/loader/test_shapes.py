"""Shaped sequences: packed and bucketed epochs are as exact, on any topology and from any batch, as those of rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError, StateError
from datapipe.loader import Bucket, Pack
from tests.loader.documents import dataset, documents, loader, of_rows, told

BIG = 1 << 20
LENGTHS = st.lists(
    st.lists(st.one_of(st.integers(0, 12), st.sampled_from([0, 1, 7, 8, 9, 16, 17, 40])), max_size=17),
    min_size=1,
    max_size=9,
).filter(lambda blocks: sum(map(len, blocks)) > 0)


class TableTransform:
    takes = "table"

    def __call__(self, table):
        return table


shapes = st.one_of(
    st.builds(lambda n, long: {"pack": Pack(n, long=long)}, st.integers(1, 20), st.sampled_from(["split", "truncate"])),
    st.builds(lambda b: {"bucket": Bucket(sorted(b))}, st.sets(st.integers(0, 20), min_size=1, max_size=3)),
    st.builds(lambda n: {"bucket": Bucket(max_tokens=n)}, st.integers(1, 60)),
)


@pytest.mark.filterwarnings("ignore:the dataset has", "ignore:an epoch has")
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
    threads = {"prefetch": data.draw(st.integers(0, 3)), "num_threads": data.draw(st.integers(1, 8))}
    whole = loader(source, batch if by_tokens else batch * world, **options, **threads)
    whole.load_state_dict(state)
    states, batches = [whole.state_dict()], []
    for b in whole:
        batches.append(told(b))
        states.append(json.loads(json.dumps(whole.state_dict())))
    whole.close()
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


def test_a_last_batch_padded_beyond_where_a_state_stands_is_the_same_after_it(of_tables):
    """Padding from the epoch's start reaches past the resumed window: all windows before that are known by then."""
    source = dataset(of_tables, [[4], [4], [4, 4, 4], [4, 4, 4, 4, 4]])
    options = {"pack": Pack(4), "lanes": 1, "window": 1, "tail": "pad", "shuffle": False}
    whole = loader(source, 8, 0, 1, **options)
    batches = iter(whole)
    next(batches)
    state = whole.state_dict()
    resumed = loader(source, 8, 0, 1, **options)
    resumed.load_state_dict(state)
    (last,) = resumed
    assert last["tokens"].tolist() == next(batches)["tokens"].tolist()
    assert last["mask"].tolist() == [True] * 2 + [False] * 6


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        ({"cursor": [[10**6, 0]]}, "the state's cursor is"),
        ({"cursor": [[1, 1 << 40]]}, "the state's cursor is"),
        ({"cursor": [[0, 1 << 70]]}, "the state's cursor is"),
        ({"cursor": [[4, 10]]}, "the state's cursor is"),
        ({"cursor": None, "position": 9}, "stands at batch 9 of epoch 0"),
    ],
)
def test_a_state_that_stands_nowhere_is_refused_as_it_is_loaded(of_tables, altered, message):
    """A cursor past the lane or the position, and more batches than there are, are a StateError; nothing changes."""
    source = dataset(of_tables, [[4], [4], [4, 4, 4], [4, 4, 4, 4, 4]])
    each = loader(source, 2, pack=Pack(4), lanes=1, window=1, shuffle=False)
    next(iter(each))
    state = each.state_dict()
    with pytest.raises(StateError, match=message):
        each.load_state_dict({**state, **altered})
    assert each.state_dict() == state


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


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("narrow", [True, False], ids=["n_tokens", "offsets"])
def test_stored_documents_are_packed_and_bucketed(tmp_path, form, narrow):
    """From files, by a column of lengths or the lists' own: each token once; batches of near lengths; of text too."""
    lengths = np.random.default_rng(5).integers(0, 60, 300).tolist()
    data = documents(tmp_path, form, lengths, narrow)
    found = of_rows([row for b in loader(data, 4, tail="partial", pack=Pack(64), prefetch=2) for row in told(b)])
    assert found == {row: list(range(n)) for row, n in enumerate(lengths) if n}
    for options in ({"column": "tokens"}, {"column": "text"}):
        batches = list(loader(data, 100, tail="partial", bucket=Bucket(max_tokens=400, **options), prefetch=2))
        assert all(b["tokens"].size <= 400 for b in batches)
        assert sorted(row for b in batches for row in b["row"].tolist()) == list(range(300))
    graded, plain = (
        sum(b["tokens"].size for b in loader(data, 5, window=8, **shape))
        for shape in ({"bucket": Bucket([15, 30, 45])}, {})
    )
    assert graded < 0.8 * plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pack": 2048}, "pack=2048"),
        ({"bucket": [1, 2]}, "bucket="),
        ({"pack": Pack(8), "bucket": Bucket([4])}, "pack and bucket together"),
        ({"pack": Pack(8, columns="row")}, "lists of numbers"),
        ({"pack": Pack(8, length="text")}, "length='text'"),
        ({"bucket": Bucket([4], column="row")}, "column='row'"),
        ({"pack": Pack(8), "transform": TableTransform()}, "pack with Arrow tables"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(of_tables, options, message):
    with pytest.raises(ConfigError, match=message):
        loader(dataset(of_tables, [[3]]), 1, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pack(0),
        lambda: Pack(True),
        lambda: Pack(8, long="cut"),
        lambda: Pack(8, columns=[]),
        lambda: Pack(8, columns=["a", "a"]),
        lambda: Bucket(),
        lambda: Bucket([1], 2),
        lambda: Bucket([3, 2]),
        lambda: Bucket([]),
        lambda: Bucket([1.5]),
        lambda: Bucket(max_tokens=0),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_a_state_of_another_shape_says_which(of_tables):
    """Packed by 16, or not at all: the message is what to write."""
    data = dataset(of_tables, [[3, 4, 5]] * 4)
    state = loader(data, 1, pack=Pack(16)).state_dict()
    for options in ({}, {"pack": Pack(8)}, {"bucket": Bucket([4])}):
        with pytest.raises(StateError, match=r"pack=Pack\(seq_len=16, columns=\['tokens'\], length='n_tokens'"):
            loader(data, 1, **options).load_state_dict(state)
    state = loader(data, 4, world=4, bucket=Bucket(max_tokens=16)).state_dict()
    with pytest.raises(StateError, match="which 3 ranks cannot share evenly"):
        loader(data, 4, world=3, bucket=Bucket(max_tokens=16)).load_state_dict(state)
    one = loader(data, 1, pack=Pack(16))
    with pytest.raises(StateError, match="cursor"):
        one.load_state_dict({**one.state_dict(), "cursor": [[0]]})


def test_a_long_document_is_cut_and_a_token_batch_holds_one_too_long_alone(of_tables):
    data = dataset(of_tables, [[20, 2]])
    bins = [row for b in loader(data, 1, pack=Pack(8), tail="partial") for row in told(b)]
    assert sorted(len([s for s in segments if s]) for _, segments in bins) == [6, 8, 8]
    cut = [row for b in loader(data, 1, pack=Pack(8, long="truncate"), tail="partial") for row in told(b)]
    assert of_rows(cut) == {0: list(range(8)), 1: [0, 1]}
    sizes = [b["tokens"].shape for b in loader(data, 4, bucket=Bucket(max_tokens=10))]
    assert sorted(sizes) == [(1, 2), (1, 20)]


@pytest.mark.parametrize(("shape", "world"), [({"pack": Pack(64)}, 1), ({"bucket": Bucket(max_tokens=64)}, 4)])
def test_fewer_units_than_a_step_is_said(of_tables, shape, world):
    """Not an epoch that is empty in silence."""
    with pytest.warns(UserWarning, match="fewer than one step"):
        assert list(loader(dataset(of_tables, [[3, 4, 5]] * 2), 100, 0, world, **shape)) == []
