"""DataLoader end to end: every row once, the same global batches everywhere, exact resume."""

from __future__ import annotations

import json
import pathlib
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.dataset import open_dataset
from datapipe.errors import ConfigError, LoaderError
from datapipe.loader import DataLoader
from tests.loader.batch_rows import real_ids

UNEVEN = [10, 1, 7, 30, 1, 25, 13, 8]


@pytest.mark.parametrize("form", ["arrow", "parquet"])
@pytest.mark.parametrize("collate", ["torch", "numpy", "arrow"])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_every_row_of_a_stored_dataset_comes_once_and_whole(stored, check, form, collate, prefetch):
    """Every kind of column, from real files, in each form a batch can have."""
    if collate == "torch":
        pytest.importorskip("torch")
    dataset = stored(UNEVEN, form)
    loader = DataLoader(dataset, 6, tail="partial", prefetch=prefetch, collate=collate, lanes=2, window=2)
    seen = []
    for batch in loader:
        if collate == "arrow":
            assert batch.schema.names == dataset.schema.names
            seen += batch["id"].to_pylist()
            assert batch["s"].to_pylist() == [f"row {i}" for i in batch["id"].to_pylist()]
            continue
        for at in range(len(batch["s"])):
            check(batch, at)
        seen += real_ids(batch)
    assert sorted(seen) == list(range(sum(UNEVEN)))
    assert len(loader) == 16


def test_dtypes_and_shapes_are_those_promised(stored):
    torch = pytest.importorskip("torch")
    batch = next(iter(DataLoader(stored(UNEVEN, "arrow"), 4, dtypes={"tokens": "int32"})))
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in batch.items() if not isinstance(value, list)}
    longest = int(batch["ragged_lengths"].max())
    assert shapes == {
        "id": (torch.int64, (4,)),
        "small": (torch.int64, (4,)),
        "f": (torch.float32, (4,)),
        "b": (torch.bool, (4,)),
        "tokens": (torch.int32, (4, 6)),
        "segment_ids": (torch.int64, (4, 6)),
        "position_ids": (torch.int64, (4, 6)),
        "ragged": (torch.int64, (4, longest)),
        "ragged_lengths": (torch.int64, (4,)),
        "when": (torch.int64, (4,)),
    }
    assert all(isinstance(batch[name], list) for name in ("s", "raw", "label"))


SIZES = st.one_of(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.sampled_from(
        [[1], [2], [0, 3, 0], [64], [63], [65], [31, 0, 1], [17, 13], [8] * 8, [61], [20, 33, 20, 24], [127]]
    ),
)
"""Among them primes, powers of two and their neighbours, and fewer rows than ranks."""


@settings(max_examples=60, deadline=None)
@given(
    sizes=SIZES.filter(sum),
    world=st.integers(1, 8),
    lanes=st.sampled_from([None, 1, 2, 4, 8]),
    batch=st.integers(1, 4),
    tail=st.sampled_from(["drop", "pad", "partial"]),
    data=st.data(),
)
def test_ranks_threads_and_resuming_change_nothing(memory, sizes, world, lanes, batch, tail, data):
    """Any topology with the same global batch: the same batches; stopped anywhere and resumed on another, the rest."""
    dataset = memory(sizes)
    everybody = world * batch
    options = {"tail": tail, "lanes": lanes, "seed": 3, "collate": "numpy", "shuffle": data.draw(st.booleans())}

    def run(world_size, rank, *, state=None, take=None):
        prefetch = data.draw(st.sampled_from([0, 1, 3]))
        threads = data.draw(st.integers(1, 8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader = DataLoader(
                dataset, everybody // world_size, rank=rank, world_size=world_size, prefetch=prefetch,
                num_threads=threads, **options,
            )  # fmt: skip
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
        got = []
        epochs = 0
        while epochs < 2 and (take is None or len(got) < take):
            for each in loader:
                got.append((real_ids(each), len(each["id"])))
                if take is not None and len(got) == take:
                    break
            epochs += 1
        saved = loader.state_dict()
        loader.close()
        return got, saved, len(loader)

    alone, _, steps = run(1, 0)
    ranks = [run(world, rank) for rank in range(world)]
    assert all(n == steps and len(got) == 2 * steps for got, _, n in ranks)
    for step, (ids, size) in enumerate(alone):
        assert [i for got, _, _ in ranks for i in got[step][0]] == ids
        assert sum(got[step][1] for got, _, _ in ranks) == size
    for epoch in range(2):
        seen = [i for ids, _ in alone[epoch * steps : (epoch + 1) * steps] for i in ids]
        assert len(set(seen)) == len(seen) == (sum(sizes) if tail != "drop" else steps * everybody)
    if steps:
        boundaries = sorted({1, steps - 1, steps, steps + 1, 2 * steps - 1} - {0})
        stop = data.draw(st.one_of(st.sampled_from(boundaries), st.integers(1, 2 * steps)))
        state = run(world, data.draw(st.integers(0, world - 1)), take=stop)[1]
        other = data.draw(st.sampled_from([n for n in range(1, 9) if everybody % n == 0]))
        rests = [run(other, rank, state=state)[0] for rank in range(other)]
        for step, (ids, size) in enumerate(alone[stop:]):
            assert [i for rest in rests for i in rest[step][0]] == ids
            assert sum(rest[step][1] for rest in rests) == size


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_stop_iteration_of_collate_ends_no_epoch(memory, prefetch):
    """The user's bug is an error with the rows in its note, and not a shorter epoch."""
    calls = []

    def collate(batch):
        calls.append(batch)
        return batch if len(calls) < 4 else next(iter([]))

    loader = DataLoader(memory([10] * 10), 10, collate=collate, prefetch=prefetch, num_threads=1)
    with pytest.raises(LoaderError, match="collate raised StopIteration") as caught:
        list(loader)
    assert "given rows" in caught.value.__notes__[0]
    assert loader.state_dict()["position"] == 3


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_stop_iteration_from_anywhere_ends_no_epoch(memory, prefetch):
    dataset = memory([10] * 4)
    dataset.fails[2] = StopIteration()
    loader = DataLoader(dataset, 10, shuffle=False, collate="numpy", prefetch=prefetch)
    with pytest.raises(LoaderError, match="ended after 2 batches, and has more"):
        list(loader)


def test_a_loader_shows_where_it_stands(stored):
    """Its representation reads nothing and names the dataset, the rank and the place."""
    loader = DataLoader(stored(UNEVEN, "parquet"), 5, rank=1, world_size=2, collate="numpy")
    next(iter(loader))
    assert repr(loader).startswith("DataLoader(Dataset(")
    assert repr(loader).endswith(", 5, rank=1, world_size=2, epoch=0, position=1)")


def test_memory_budget_is_written_as_the_caches_size_is(stored):
    dataset = stored(UNEVEN, "parquet")
    assert DataLoader(dataset, 5, memory_budget="64 MiB").memory_budget == 64 << 20
    for bad in ("much", 0, 1.5, True):
        with pytest.raises(ConfigError, match="memory_budget="):
            DataLoader(dataset, 5, memory_budget=bad)


@pytest.mark.parametrize(("method", "said"), [("to_parquet", "data.to_parquet"), (None, "write_table")])
def test_a_table_in_place_of_a_dataset_says_how_to_write_it(method, said):
    data = type("Frame", (), {} if method is None else {method: lambda _: None})()
    with pytest.raises(ConfigError, match=said):
        DataLoader(data, 10)


@pytest.mark.parametrize("path", ["data", pathlib.Path("data")])
def test_a_path_in_place_of_a_dataset_says_open_dataset(path):
    with pytest.raises(ConfigError, match="open_dataset"):
        DataLoader(path, 10)


@pytest.mark.filterwarnings("ignore:the dataset has no rows")
def test_fewer_rows_than_a_batch_is_said_at_once(memory):
    with pytest.warns(UserWarning, match="fewer than one global batch of 8"):
        loader = DataLoader(memory([3]), 4, rank=0, world_size=2, collate="numpy")
    assert len(loader) == 0
    assert list(loader) == []
    assert [len(b["id"]) for b in DataLoader(memory([3]), 8, tail="pad", collate="numpy")] == [8]
    assert list(DataLoader(memory([0, 0]), 8, tail="pad", collate="numpy")) == []


def test_a_rank_without_rows_gets_an_empty_batch_of_the_same_columns(memory):
    """tail="partial" and fewer rows than ranks: every rank has its step."""
    dataset = memory([2], rich=True)
    sizes = []
    for rank in range(5):
        (batch,) = DataLoader(dataset, 1, tail="partial", rank=rank, world_size=5, collate="numpy")
        sizes.append(len(batch["id"]))
        assert batch["tokens"].shape == (len(batch["id"]), 6)
        assert batch["s"] == [f"row {i}" for i in batch["id"].tolist()]
    assert sum(sizes) == 2
    (table,) = DataLoader(dataset, 1, tail="partial", rank=0, world_size=5, collate="arrow")
    assert table.schema.names == dataset.schema.names


def test_a_collate_of_ones_own_gets_arrays_and_lists(memory):
    batches = list(DataLoader(memory([10]), 5, collate=lambda batch: sorted(batch["id"].tolist()), shuffle=False))
    assert batches == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_batches_may_be_kept(memory):
    """No buffer is recycled under a batch, or a view of one, that somebody holds."""
    tables = [
        pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(64 * 2048) + n), 2048)}) for n in (0, 7)
    ]
    dataset = memory([64, 64])
    dataset.tables, dataset.schema = tables, tables[0].schema
    for prefetch in (0, 4):
        loader = DataLoader(dataset, 16, prefetch=prefetch, collate="numpy")
        kept = [batch["x"] for batch in loader]
        views = [x[1:3] for x in kept]
        copies = [x.copy() for x in views]
        del kept
        assert len(list(loader)) == 8  # the same loader and so the same buffers, with other rows
        assert all(np.array_equal(view, copy) for view, copy in zip(views, copies, strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": "8"},
        {"shuffle": 1},
        {"tail": "keep"},
        {"seed": 1.5},
        {"prefetch": -1},
        {"num_threads": 0},
        {"memory_budget": 0},
        {"collate": "jax"},
        {"rank": 1},
        {"lanes": 0},
        {"window": -2},
        {"transform": 5},
        {"dtypes": {"ids": "int32"}},
        {"pin_memory": 1},
        {"device": "no such device"},
        {"device": "cpu", "collate": "numpy"},
        {"collate": "arrow", "dtypes": {"id": "int32"}},
    ],
)
def test_wrong_arguments_are_refused_at_once(memory, wrong):
    if "device" in wrong:
        pytest.importorskip("torch")
    with pytest.raises(ConfigError):
        DataLoader(memory([10]), **{"batch_size": 5, "collate": "numpy" if "device" not in wrong else "torch", **wrong})


def test_the_mask_needs_its_name(of_tables):
    table = pa.table({"mask": [1, 2]})
    with pytest.raises(ConfigError, match="mask"):
        DataLoader(of_tables(table), 1, tail="pad", collate="numpy")
    DataLoader(of_tables(table), 1, tail="drop", collate="numpy")


def test_a_cpu_device_changes_nothing(memory):
    pytest.importorskip("torch")
    plain = [b["id"].tolist() for b in DataLoader(memory([10] * 2), 5)]
    assert [b["id"].tolist() for b in DataLoader(memory([10] * 2), 5, device="cpu")] == plain


def test_stats_count(memory):
    loader = DataLoader(memory([10] * 4), 5, collate="numpy", prefetch=0)
    list(loader)
    stats = loader.stats()
    assert (stats["batches"], stats["blocks"], stats["epoch"], stats["position"]) == (8, 4, 0, 8)
    assert stats["decoded_bytes"] == 320


def test_it_is_a_context_manager(memory):
    with DataLoader(memory([10] * 4), 5, collate="numpy") as loader:
        next(iter(loader))
    assert loader.stats()["threads"] == 0


def test_a_device_gets_narrow_integers_and_gives_wide_ones(stored, check, monkeypatch):
    """On a device (here one on the CPU that copies late): stored dtypes cross the bus, promised dtypes come out."""
    torch = pytest.importorskip("torch")
    from datapipe.device import transfer
    from datapipe.device.engine import CopyEngine
    from datapipe.device.pool import plain_memory

    class Bus(CopyEngine):
        def __init__(self):
            self.crossed = {}
            self.waiting = []

        def allocate(self, nbytes):
            return plain_memory(nbytes)

        def is_ready(self, tensor):
            return True

        def send(self, tensor, dtype):
            sent = torch.empty(tensor.shape, dtype=dtype or tensor.dtype)
            self.crossed.setdefault(tensor.dtype, set()).add(tuple(tensor.shape))
            self.waiting.append((sent, tensor))
            return sent

        def mark(self):
            return len(self.waiting)

        def passed(self, mark):
            return False

        def join(self, mark, tensors):
            self.finish()

        def finish(self):
            for sent, tensor in self.waiting:
                sent.copy_(tensor)
            self.waiting.clear()

    bus = Bus()
    monkeypatch.setattr(transfer, "check_device", lambda device: type("D", (), {"type": "cuda"}))
    monkeypatch.setattr(transfer, "make_engine", lambda target, pin: bus)
    dataset = stored(UNEVEN, "arrow")
    loader = DataLoader(dataset, 5, tail="partial", device="cuda", dtypes={"small": "int16"})
    seen = []
    for count, batch in enumerate(loader, 1):
        assert loader.state_dict()["position"] == count % len(loader)  # delivered, not on its way
        assert batch["tokens"].dtype == batch["position_ids"].dtype == batch["ragged"].dtype == torch.int64
        assert batch["small"].dtype == torch.int16
        assert batch["f"].dtype == torch.float32
        for at in range(len(batch["s"])):
            check(batch, at)
        seen += batch["id"].tolist()
    assert sorted(seen) == list(range(sum(UNEVEN)))
    assert (5, 6) in bus.crossed[torch.uint16]  # tokens and segment_ids
    assert (5, 6) in bus.crossed[torch.int32]  # position_ids
    assert all(len(shape) == 1 for shape in bus.crossed[torch.int64])  # ids, times and lengths alone
    iterator = iter(loader)
    next(iterator)
    loader.close()
    assert loader.stats()["threads"] == 0
    DataLoader(dataset, 5, device="cuda", transform=lambda b: {**b, "wide": b["tokens"].dtype})
    wide = next(iter(DataLoader(dataset, 5, device="cuda", transform=lambda b: {**b, "wide": b["tokens"].dtype})))
    assert wide["wide"] == torch.int64  # a transform sees what it would see without a device


def test_a_dataset_without_rows_says_so(tmp_path):
    """Once, and at the caller's line; a filter that lets nothing pass has its own words."""
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "0.parquet")
    with pytest.warns(UserWarning, match="has no rows") as caught:
        DataLoader(open_dataset(tmp_path), 4)
    assert [warning.filename for warning in caught] == [__file__]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "0.parquet")
    with pytest.warns(UserWarning, match="no row passes") as caught:
        DataLoader(open_dataset(tmp_path, filters=[("a", ">", 1)]), 4)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:the dataset has no rows")
def test_a_dataset_without_row_groups_gives_no_batches(memory):
    for tail in ("drop", "pad", "partial"):
        assert list(DataLoader(memory([]), 4, tail=tail, collate="numpy")) == []
