"""Mixes: exact proportions, each source in epochs of its own, the same batches on any topology, from any batch."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError, LoaderError, SchemaError, StateError
from datapipe.loader import Bucket, DataLoader, Pack, mix, plan_epoch
from tests.loader.mixed_rows import NAMES, loader, mixture, source, told

pytestmark = pytest.mark.filterwarnings("ignore:the dataset has")

SIZES = st.lists(st.one_of(st.integers(0, 7), st.sampled_from([1, 2, 16, 17, 31])), min_size=1, max_size=6)
SOURCES = st.lists(SIZES.filter(any), min_size=1, max_size=4)


def sources_of(rows):
    return np.array(rows, np.int64) // 1000


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=SOURCES,
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    shape=st.sampled_from([{}, {}, {"pack": Pack(8)}, {"bucket": Bucket(max_tokens=20)}]),
    until=st.one_of(st.sampled_from(["first", "all"]), st.integers(1, 90)),
    world=st.integers(1, 8),
    batch=st.integers(1, 5),
    lanes=st.one_of(st.none(), st.integers(1, 4)),
    window=st.one_of(st.none(), st.integers(1, 4)),
    tail=st.sampled_from(["drop", "pad", "partial"]),
    shuffle=st.booleans(),
    epoch=st.integers(0, 2),
    data=st.data(),
)
def test_every_topology_makes_the_same_batches_from_any_batch_on(
    of_tables, sizes, weights, shape, until, world, batch, lanes, window, tail, shuffle, epoch, data
):
    """Ranks' shares, joined, are one process's batches; equal steps, told by len; any resume is exact."""
    assume(any(weights[: len(sizes)]))
    assume(not shape or all(any(i % 5 for i in range(sum(each))) for each in sizes))
    mixed = mixture(of_tables, sizes, weights, until=until)
    by_tokens = "bucket" in shape
    options = {**shape, "lanes": lanes, "window": window, "tail": tail, "shuffle": shuffle, "seed": 3}
    ranks = [loader(mixed, batch, r, world, **options) for r in range(world)]
    assume(len(ranks[0]) <= 200)
    shares = []
    for each in ranks:
        each.set_epoch(epoch)
        shares.append([told(b) for b in each])
        assert len(shares[-1]) == len(each)
    whole = loader(mixed, batch if by_tokens else batch * world, **options)
    whole.load_state_dict({**ranks[0].state_dict(), "epoch": epoch, "position": 0})
    states, batches = [whole.state_dict()], []
    for b in whole:
        batches.append(told(b))
        states.append(json.loads(json.dumps(whole.state_dict())))
    assert [[row for share in step for row in share] for step in zip(*shares, strict=True)] == batches
    at = data.draw(st.integers(0, len(batches)))
    units = whole.settings.global_batch
    others = [n for n in range(1, 9) if units % n == 0 or (by_tokens and n % units == 0)]
    other = data.draw(st.sampled_from(others))
    resumed = []
    for rank in range(other):
        each = loader(mixed, batch if by_tokens else units // other, rank, other, **options)
        each.load_state_dict(states[at])
        resumed.append([told(b) for b in each])
    if at == len(batches) and batches:  # the next epoch
        assert len({len(share) for share in resumed}) == 1
        return
    assert [[row for share in step for row in share] for step in zip(*resumed, strict=True)] == batches[at:]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=SOURCES,
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    until=st.one_of(st.sampled_from(["first", "all"]), st.integers(1, 60)),
    batch=st.integers(1, 7),
    window=st.one_of(st.none(), st.integers(1, 4)),
    tail=st.sampled_from(["drop", "pad", "partial"]),
    shuffle=st.booleans(),
)
def test_proportions_hold_at_every_row_and_sources_go_through_their_own_epochs(
    of_tables, sizes, weights, until, batch, window, tail, shuffle
):
    """Over three epochs as one run: counts within the stated bound of n·w at each row; n rows of a source, n others."""
    weights = weights[: len(sizes)]
    mixed = mixture(of_tables, sizes, weights, until=until)
    one = loader(mixed, batch, window=window, tail=tail, shuffle=shuffle)
    assume(0 < len(one) <= 300)
    epochs = [[row for b in one for row in told(b)] for _ in range(3)]
    assert len({len(rows) for rows in epochs}) == 1
    rows = [row for each in epochs for row in each]
    count = len(sizes)
    given = np.cumsum(sources_of(rows)[:, None] == np.arange(count), axis=0)
    share = np.array(weights) / sum(weights)
    height = (count - 1).bit_length()
    bound = height / 2 + (8 * 2**height * share * (1 - share) if shuffle and count > 1 else 0)
    assert (np.abs(given - np.arange(1, len(rows) + 1)[:, None] * share) <= bound + 1e-9).all()
    for k in range(count):
        own = [row - 1000 * k for row in rows if row // 1000 == k]
        size = sum(sizes[k])
        for start in range(0, len(own), size):
            part = own[start : start + size]
            assert len(set(part)) == len(part)
            assert set(part) <= set(range(size))
    if isinstance(until, int) and tail != "drop":
        assert len(epochs[0]) == until


@pytest.mark.parametrize("until", ["first", "all"])
def test_an_epoch_ends_with_the_first_or_the_last_source(of_tables, until):
    """The row that ends the first epoch of the first (or the last) source is the mix's last."""
    mixed = mixture(of_tables, [[8, 8], [9]], [1, 1], until=until)
    rows = [row for b in loader(mixed, 1) for row in told(b)]
    seen = [len({row for row in rows if row // 1000 == k}) for k in range(2)]
    complete = [found == size for found, size in zip(seen, (16, 9), strict=True)]
    assert complete == ([False, True] if until == "first" else [True, True])
    last = 1 if until == "first" else 0
    assert rows[-1] // 1000 == last


def test_seeds_and_epochs_differ(of_tables):
    """Another seed of the mix, or of the loader: another order. Another epoch: other rows of the longer source."""

    def rows(seed, of_loader):
        one = loader(mixture(of_tables, [[20, 20], [9]], [1, 2], seed=seed), 4, seed=of_loader)
        return [[told(b) for b in one] for _ in range(2)]

    runs = [rows(0, 0), rows(1, 0), rows(0, 1)]
    epochs = [epoch for run in runs for epoch in run]
    assert all(a != b for i, a in enumerate(epochs) for b in epochs[:i])
    assert runs[0] == rows(0, 0)
    turns = [sources_of([row for b in epoch for row in b]).tolist() for epoch in epochs]
    assert all(a != b for i, a in enumerate(turns) for b in turns[:i])


def test_every_rank_gets_its_part_of_every_source(of_tables):
    """A rank's rows are in proportion too: no rank is left with one source alone."""
    mixed = mixture(of_tables, [[64] * 8, [64] * 8], [3, 1])
    for rank in range(8):
        rows = [row for b in loader(mixed, 8, rank, 8) for row in told(b)]
        assert abs((sources_of(rows) == 0).mean() - 0.75) < 0.05


def test_the_order_of_the_names_does_not_matter(of_tables):
    sources = {name: source(of_tables, name, [5, 6]) for name in "ab"}
    one = mix(sources, {"a": 1, "b": 2})
    other = mix(dict(reversed(sources.items())), {"b": 2, "a": 1})
    assert one.fingerprint == other.fingerprint
    assert [told(b) for b in loader(one, 3)] == [told(b) for b in loader(other, 3)]


@pytest.mark.parametrize("shape", [{}, {"pack": Pack(8)}, {"bucket": Bucket(max_tokens=20)}])
@pytest.mark.parametrize("until", ["first", "all", 50])
def test_threads_deliver_what_one_thread_does(of_tables, shape, until):
    """Three epochs, each read ahead while the one before ends; sources begin theirs in between."""
    mixed = mixture(of_tables, [[9] * 6, [4, 5]], [2, 1], until=until)
    options = {"window": 1, "tail": "partial", **shape}
    inline = loader(mixed, 4, **options)
    threads = {"prefetch": 3, "num_threads": 3}
    with DataLoader(mixed, 4, rank=0, world_size=1, collate="numpy", **threads, **options) as threaded:
        for _ in range(3):
            assert [told(b) for b in threaded] == [told(b) for b in inline]


def test_batches_are_skipped_as_in_any_loader(of_tables):
    """The sources move on with them, and the state tells."""
    mixed = mixture(of_tables, [[9] * 6, [4, 5]], [2, 1])
    whole = [told(b) for b in loader(mixed, 4, window=1)]
    one = loader(mixed, 4, window=1)
    found = iter(one)
    first = told(next(found))
    one.skip(7)
    assert [first, *map(told, found)] == [whole[0], *whole[8:]]
    assert one.state_dict()["skipped"] == [[0, 1, 7]]


def test_a_mix_can_be_sent_to_another_process(stored):
    data = stored([5, 6], "parquet")
    mixed = mix({"a": data, "b": data}, lambda step: {"a": 1, "b": step})
    copy = pickle.loads(pickle.dumps(mixed))
    assert copy.fingerprint == mixed.fingerprint
    assert [b["id"].tolist() for b in loader(copy, 2)] == [b["id"].tolist() for b in loader(mixed, 2)]


def test_one_dataset_under_two_names_is_two_sources(of_tables):
    """Each goes through it in an order of its own."""
    data = source(of_tables, "a", [20, 20])
    rows = [
        (row, n)
        for b in loader(mix({"x": data, "y": data}, source="n"), 4)
        for row, n in zip(b["id"].tolist(), b["n"], strict=True)
    ]
    x, y = ([row for row, name in rows if name == each] for each in "xy")
    assert x != y
    assert len(set(x)) == len(x)
    assert len(set(y)) == len(y)


def test_an_epoch_shorter_than_a_batch_is_warned_of(of_tables):
    with pytest.warns(UserWarning, match="an epoch of the mix has fewer than one global batch of 8"):
        loader(mixture(of_tables, [[50], [1]], [1, 1], until="first"), 8)


def test_a_mix_is_planned_source_by_source(of_tables):
    with pytest.raises(ConfigError, match="a plan of a mix"):
        plan_epoch(mixture(of_tables, [[5], [5]], [1, 1]), batch_size=2)


def test_a_small_source_is_read_once_however_often_it_comes_again(of_tables):
    big, small = source(of_tables, "a", [10] * 20), source(of_tables, "b", [2, 1])
    one = loader(mix({"a": big, "b": small}, {"a": 1, "b": 1}), 5)
    assert sum(len(told(b)) for b in one) == 400
    assert sorted(small.reads) == [0, 1]
    assert sorted(big.reads) == list(range(20))


def test_sources_without_weight_are_not_read(of_tables):
    big, none = source(of_tables, "a", [10]), source(of_tables, "b", [0])
    one = loader(mix({"a": big, "b": none}, {"a": 1, "b": 0}), 5)
    assert sorted(row for b in one for row in told(b)) == list(range(10))
    assert not none.reads


def test_the_source_of_each_row_can_be_a_column(of_tables):
    """As strings, as Arrow, and among the places of a list of names."""
    data = {name: source(of_tables, name, [5, 6]) for name in "ab"}
    mixed = mix(data, {"a": 1, "b": 1}, source="from")
    for batch in loader(mixed, 4):
        assert batch["from"] == [NAMES[row // 1000] for row in batch["id"].tolist()]
    tables = list(DataLoader(mixed, 4, rank=0, world_size=1, collate="arrow"))
    assert all(t["from"].to_pylist() == [NAMES[i // 1000] for i in t["id"].to_pylist()] for t in tables)
    numbered = loader(mixed, 4, dtypes={"from": ["b", "a"]})
    assert all((b["from"] == 1 - b["id"] // 1000).all() for b in numbered)
    with pytest.raises(ConfigError, match="source='id'"):
        mix(data, {"a": 1, "b": 1}, source="id")


def test_narrower_numbers_are_widened_and_other_columns_refused(of_tables):
    """A cast loses nothing; what would, and what is missing, is named by source and column."""
    one = of_tables(pa.table({"x": pa.array([1, 2], pa.uint16()), "s": ["a", "b"]}))
    two = of_tables(pa.table({"s": pa.array(["c"], pa.large_string()), "x": pa.array([-3], pa.int8())}))
    mixed = mix({"one": one, "two": two})
    assert mixed.schema == pa.schema([("x", pa.int32()), ("s", pa.large_string())])
    rows = [(b["x"].tolist(), b["s"]) for b in loader(mixed, 3, shuffle=False)]
    assert len(rows) == 1
    assert sorted(zip(*rows[0], strict=True)) == [(-3, "c"), (1, "a"), (2, "b")]
    text = of_tables(pa.table({"x": ["1"], "s": ["a"]}))
    with pytest.raises(SchemaError, match="column 'x' is string in source 'text', and uint16 in 'one'"):
        mix({"one": one, "text": text})
    short = of_tables(pa.table({"x": pa.array([1], pa.uint16())}))
    with pytest.raises(SchemaError, match="source 'short' has no column 's', which 'one' has"):
        mix({"one": one, "short": short})
    with pytest.raises(SchemaError, match="source 'one' has a column 's', which 'short' has not"):
        mix({"short": short, "one": one})


def test_a_curriculum_changes_the_shares_step_by_step(of_tables):
    """A table and a function of the step; a step is a global batch, counted through the epochs."""
    data = {name: source(of_tables, name, [50] * 4) for name in "ab"}
    table = mix(data, [(0, {"a": 1, "b": 0}), (5, {"a": 1, "b": 1}), (8, {"a": 0, "b": 1})], until=96)
    assert table.weights.at(7) == {"a": 0.5, "b": 0.5}
    for world in (1, 2):
        ranks = [loader(table, 16 // world, rank, world) for rank in range(world)]
        steps = [
            [row for share in shares for row in told(share)] for _ in range(2) for shares in zip(*ranks, strict=True)
        ]
        parts = [sources_of(rows).mean() for rows in steps]
        assert parts == [0] * 5 + [0.5] * 3 + [1] * 4
    calls = []

    def ramp(step):
        calls.append(step)
        return {"a": max(0, 1000 - step), "b": step}

    by_function = mix(data, ramp, until=96)
    assert by_function.weights.at(150) == {"a": 0.9, "b": 0.1}
    before = len(calls)
    assert len(loader(by_function, 16)) == 6
    assert len(calls) == before
    state = loader(by_function, 16).state_dict()
    assert len(json.dumps(state)) < 1000
    later = loader(mix(data, lambda step: {"a": max(0, 1000 - step) + (step > 10**6), "b": step}, until=96), 16)
    with pytest.raises(StateError, match="curriculum differs"):
        later.load_state_dict(state)
    with pytest.raises(ConfigError, match="other weights each time"):
        mix(data, lambda step: {"a": 1, "b": len(calls) + (calls.append(step) or 0)})


def test_weights_by_tokens_are_shares_of_tokens(of_tables):
    """Sources of documents of other lengths: fewer rows of the long ones; unknown counts are refused."""
    data = {name: source(of_tables, name, [30] * 4) for name in "ab"}
    with pytest.raises(ConfigError, match="source 'a' does not say how many tokens"):
        loader(mix(data, {"a": 1, "b": 1}, by="tokens"), 4)
    data["a"].index.tokens = np.array([300] * 4)
    data["b"].index.tokens = np.array([100] * 4)
    mixed = mix(data, {"a": 1, "b": 1}, by="tokens", until=80)
    rows = [row for b in loader(mixed, 16) for row in told(b)]
    assert np.bincount(sources_of(rows)).tolist() == [20, 60]
    packed = loader(mixed, 2, pack=Pack(8))
    assert packed.settings.mix["by"] == "tokens"
    assert all(len(told(b)) == 2 for b in packed)


def test_a_mix_of_mixes_has_the_product_of_the_shares(of_tables):
    data = {name: source(of_tables, name, [40] * 2) for name in "abc"}
    inner = mix({"b": data["b"], "c": data["c"]}, {"b": 1, "c": 3})
    outer = mix({"a": data["a"], "in": inner}, {"a": 1, "in": 1}, until=64)
    assert outer.weights.at(0) == {"a": 0.5, "in/b": 0.125, "in/c": 0.375}
    rows = [row for b in loader(outer, 32) for row in told(b)]
    assert np.bincount(sources_of(rows)).tolist() == [32, 8, 24]
    with pytest.raises(ConfigError, match="by='rows'"):
        mix({"a": data["a"], "in": inner}, {"a": 1, "in": 1}, by="tokens")


def test_without_weights_rows_count(of_tables):
    """Then all sources end together: in file order an epoch has each row once."""
    mixed = mix({"a": source(of_tables, "a", [9, 9]), "b": source(of_tables, "b", [3])})
    rows = [row for b in loader(mixed, 7, shuffle=False) for row in told(b)]
    assert sorted(rows) == [*range(18), *range(1000, 1003)]


def test_a_source_of_empty_documents_cannot_be_packed(of_tables):
    """It says which source, and what to do, rather than look for a token for ever."""
    empty = of_tables(pa.table({"id": [1000], "tokens": pa.array([[]], pa.list_(pa.int32()))}))
    mixed = mix({"a": source(of_tables, "a", [9]), "b": empty}, {"a": 1, "b": 1}, until=30)
    with pytest.raises(LoaderError, match="source 'b' gives no unit"):
        list(loader(mixed, 2, pack=Pack(8)))


def test_buckets_by_boundaries_are_refused(of_tables):
    with pytest.raises(ConfigError, match="bucket boundaries for a mix"):
        loader(mixture(of_tables, [[5], [5]], [1, 1]), 2, bucket=Bucket([2]))


def test_stored_datasets_mix_on_disk(stored, check):
    """Real files, every kind of column, the filter of one of them."""
    one, two = stored([40, 30, 20], "parquet"), stored([25, 35], "arrow")
    mixed = mix({"one": one, "two": two}, {"one": 0.7, "two": 0.3}, source="source")
    assert mixed.num_rows == 150
    assert "two: " in mixed.row_groups[-1].path
    with DataLoader(mixed, 10, rank=0, world_size=1, collate="numpy") as batches:
        for batch in batches:
            for at in range(10):
                check(batch, at)
            assert abs(batch["source"].count("one") - 7) <= 5


def test_what_a_transform_is_keyed_by_tells_rows_of_two_sources_apart(of_tables):
    keyed = {}

    def transform(batch, keys):
        for row, key in zip(batch["id"].tolist(), keys.rows.tolist(), strict=True):
            assert keyed.setdefault(key, row) == row
        return batch

    mixed = mixture(of_tables, [[5, 6], [7]], [1, 1])
    list(loader(mixed, 2, transform=transform))
    assert len(set(keyed.values())) == len(keyed) == 18


def test_a_curriculum_shows_that_its_shares_are_those_of_the_beginning(of_tables):
    data = {name: source(of_tables, name, [4]) for name in "ab"}
    assert "(a=1, b=0 at first, " in repr(mix(data, [(0, {"a": 1, "b": 0}), (10, {"a": 0, "b": 1})]))
    assert "(a=0.5, b=0.5, " in repr(mix(data, {"a": 1, "b": 1}))
