"""The CUDA engine, where there is a CUDA device."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.device import BufferPool, feed

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]


@pytest.mark.parametrize("pin_memory", [True, False])
def test_batches_arrive_whole_while_buffers_are_recycled(pin_memory):
    """Compute on the current stream sees each batch complete, although its host buffer is filled anew right away."""
    from datapipe.device.streams import StreamEngine

    engine = StreamEngine(torch.device("cuda"), pin=pin_memory)
    pool = BufferPool(engine.allocate, recycle_all=True)

    def batches():
        for n in range(200):
            array = pool.empty((256, 1024), np.int32)
            array[...] = n
            yield {"x": torch.from_numpy(array)}

    sums = [batch["x"].to(torch.float64).mean() for batch in feed(batches(), "cuda", pin_memory=pin_memory)]
    assert [int(s) for s in sums] == list(range(200))
    assert pool.allocated < 200


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_narrow_integers_are_widened_on_the_device(dtype):
    values = np.array([0, 1, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    (batch,) = feed([{"x": torch.from_numpy(values)}], "cuda", widen={"x": torch.int64})
    assert batch["x"].device.type == "cuda"
    assert batch["x"].dtype == torch.int64
    assert batch["x"].tolist() == values.astype(np.int64).tolist()


@pytest.mark.parametrize("wide", [torch.float32, torch.int32])
def test_narrow_numbers_become_floats_too(wide):
    values = torch.arange(200).to(torch.uint16)
    batch = {"a": values, "b": torch.arange(200).to(torch.bfloat16), "c": torch.arange(200).to(torch.uint8)}
    (got,) = feed([batch], "cuda", widen=dict.fromkeys(batch, wide))
    assert all(each.dtype == wide and each.tolist() == list(range(200)) for each in got.values())


def race(pool, feeder_of, *, batches, hold, abandon):
    """Poisoned buffers, a compute stream that lags behind by milliseconds, batches held and dropped, iterators too."""
    import random

    chance, number, given, sums = random.Random(5), [0], [], []

    def source():
        while True:
            array = pool.empty((64, 4096), np.uint8)
            array[...] = 0xEE
            array[...] = number[0] % 200
            number[0] += 1
            yield {"x": torch.from_numpy(array), "deep": [torch.full((3,), number[0] - 1, dtype=torch.int32)]}

    feeder, expected = feeder_of(source()), 0
    for step in range(batches):
        batch = next(feeder)
        torch.cuda._sleep(chance.choice((0, 1_000_000, 5_000_000)))  # cycles: the compute stream is busy till then
        sums.append((expected, batch["x"].double().mean(), batch["deep"][0].sum()))
        if chance.random() < hold:
            given.append((expected, batch))
        if len(given) > 6:
            del given[chance.randrange(6)]
        del batch
        expected += 1
        if chance.random() < abandon:
            feeder, expected = feeder_of(source()), number[0]
        if step % 50 == 49:
            for n, kept in given:
                assert (kept["x"] == n % 200).all()
    for n, mean, deep in sums:
        assert (float(mean), int(deep)) == (n % 200, 3 * n)
    feeder.close()


def test_no_buffer_is_filled_anew_before_its_copy_and_its_holders_are_done():
    """As the machine of test_feeder does on a device of its own, on the real one."""
    from datapipe.device.feeder import Feeder
    from datapipe.device.in_flight import InFlight
    from datapipe.device.streams import StreamEngine
    from datapipe.device.transfer import pinned_pool

    device = torch.device("cuda")
    engine = StreamEngine(device)
    pool, in_flight = pinned_pool(engine, most_bytes=4 << 20), InFlight(engine)

    def feeder_of(source):
        widen = {"x": torch.int64}
        return Feeder(source, engine, widen=widen, pool=pool, in_flight=in_flight, ahead=2)

    race(pool, feeder_of, batches=400, hold=0.3, abandon=0.05)
    torch.cuda.synchronize()
    in_flight.reap()
    assert in_flight.batches == 0
    assert pool.lent <= 3  # batches on their way when the last iterator was closed


def test_on_another_stream_of_the_consumer_a_batch_is_whole():
    """`next` is called under the stream that computes: that one waits, whichever it is."""
    side = torch.cuda.Stream()
    sums = []
    with torch.cuda.stream(side):
        for batch in feed(({"x": torch.full((1 << 20,), n)} for n in range(30)), "cuda"):
            sums.append(batch["x"].double().mean())
    assert [int(each) for each in sums] == list(range(30))


def test_a_loader_feeds_the_device_as_it_feeds_the_host(tmp_path):
    """The same batches, and page-locked memory within the budget."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import datapipe

    table = pa.table({"id": range(4000), "x": pa.array(range(4000), pa.uint16()), "y": [0.5] * 4000})
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=500)
    dataset = datapipe.open_dataset(tmp_path)
    how = {"batch_size": 64, "memory_budget": "32 MiB", "dtypes": {"x": "float32"}}
    with datapipe.DataLoader(dataset, **how) as plain, datapipe.DataLoader(dataset, **how, device="cuda") as loader:
        for one, other in zip(plain, loader, strict=True):
            assert all(value.device.type == "cuda" for value in other.values())
            assert {name: value.dtype for name, value in one.items()} == {n: v.dtype for n, v in other.items()}
            assert all(torch.equal(one[name], other[name].cpu()) for name in one)


def test_page_locked_memory_is_page_locked():
    from datapipe.device.streams import StreamEngine

    engine = StreamEngine(torch.device("cuda"))
    array = BufferPool(engine.allocate, recycle_all=True).empty((1000,), np.int64)
    assert torch.from_numpy(array).is_pinned()
    assert engine.is_ready(torch.from_numpy(array))


def test_staging_into_page_locked_memory_is_a_stage_of_its_own():
    """A pageable batch is copied into page-locked memory first: a "pin" span on its number, inside its "h2d"."""
    from datapipe import events

    recorder = events.Recorder()
    with events.recording(recorder):
        list(feed([{"x": torch.ones(1 << 20)} for _ in range(3)], "cuda", pin_memory=True))
    spans = recorder.spans()
    pin, copy = (spans[spans["stage"] == recorder.stage(name)] for name in ("pin", "h2d"))
    assert pin["item"].tolist() == copy["item"].tolist() == [0, 1, 2]
    assert (pin["start"] >= copy["start"]).all()
    assert (pin["end"] <= copy["end"]).all()
