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
