"""A loader's way to a device: page-locked buffers within its budget, copies that outlive a broken-off epoch."""

from __future__ import annotations

import importlib.util
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import DataLoader, open_dataset
from datapipe.errors import ConfigError

torch = pytest.importorskip("torch")
ROWS = 640


@pytest.fixture(scope="module")
def late_engine():
    """The device of tests/device, whose copies finish late and out of order."""
    spec = importlib.util.spec_from_file_location("late", Path(__file__).parent.parent / "device" / "conftest.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LateEngine


@pytest.fixture
def dataset(tmp_path):
    pixels = pa.array([n % 251 for n in range(ROWS) for _ in range(64)], pa.uint8())
    table = pa.table({"id": pa.array(range(ROWS), pa.int32()), "image": pa.FixedSizeListArray.from_arrays(pixels, 64)})
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=80)
    return open_dataset(tmp_path)


@pytest.fixture
def on(monkeypatch):
    def device(engine):
        from datapipe.device import transfer

        monkeypatch.setattr(transfer, "check_device", lambda device: torch.device("cuda"))
        monkeypatch.setattr(transfer, "make_engine", lambda target, pin: engine)
        return engine

    return device


@pytest.mark.parametrize("prefetch", [0, 3])
def test_epochs_broken_off_and_batches_held_are_whole_on_the_device(dataset, late_engine, on, prefetch):
    """Gathered into page-locked memory, sent narrow, cast there; breaking off frees no buffer under a copy."""
    engine = on(late_engine(5, page_locked=True, lazy=True))
    how = {"prefetch": prefetch, "dtypes": {"image": "float32"}, "memory_budget": "1 MiB"}
    held = []
    with DataLoader(dataset, 16, device="cuda", device_prefetch=2, **how) as loader:
        for stop in (3, 1, 40, 2):
            for count, batch in enumerate(loader, 1):
                held.append(batch)
                if count == stop:
                    break
        pool = loader._transport.pool
        assert pool.overflows == 0
        engine.compute()
        for batch in held:
            assert (batch["id"].dtype, batch["image"].dtype) == (torch.int64, torch.float32)
            assert torch.equal(batch["image"], (batch["id"] % 251).float()[:, None].expand(16, 64))
        assert {dtype for dtype, shape in engine.crossed if len(shape) == 2} == {torch.uint8}
        assert sum(map(len, engine.given)) <= 1 << 20
        assert engine.asked == len(engine.given) == 1  # once, for all epochs


def test_a_batch_that_is_not_made_is_not_waited_for(dataset, late_engine, on):
    """The batch on the device is given while a thread still makes the next one."""
    on(late_engine())
    gate, began = threading.Event(), []

    def transform(batch):
        began.append(1)
        time.sleep(0.005)  # a batch that takes no time is made by the consumer, and counts as ready
        if len(began) > 2:
            assert gate.wait(60)
        return batch

    with DataLoader(
        dataset, 16, device="cuda", transform=transform, num_threads=1, prefetch=2, autotune=False
    ) as loader:
        iterator = iter(loader)
        next(iterator)
        # Its second batch may be made or not; a third one is not waited for while one is there to be given.
        next(iterator)
        gate.set()
        assert len(list(iterator)) == ROWS // 16 - 2


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("how", ["transform", "collate", "both"])
def test_what_a_users_code_makes_is_copied_to_page_locked_memory_where_it_is_made(
    dataset, late_engine, on, prefetch, how
):
    """By the thread that ran it, so inside its span; what crosses to the device lies in page-locked memory."""
    from datapipe import events

    engine = on(late_engine(2, page_locked=True))
    addresses = []
    send = engine.send
    engine.send = lambda tensor, dtype: addresses.append(engine.is_ready(tensor)) or send(tensor, dtype)
    made = {
        "transform": {"transform": lambda batch: (batch["id"] + 1, [batch["image"] * 2])},
        "collate": {"collate": lambda batch: (torch.tensor(batch["id"]) + 1, [torch.tensor(batch["image"]) * 2])},
    }
    options = made["transform"] if how == "transform" else made["collate"]
    if how == "both":
        options = {**options, "transform": lambda batch: (batch[0] + 0, batch[1])}
    recorder = events.Recorder()
    with (
        events.recording(recorder),
        DataLoader(dataset, 64, device="cuda", shuffle=False, prefetch=prefetch, **options) as loader,
    ):
        got = list(loader)
    engine.compute()
    assert [int(ids[0]) for ids, _ in got] == list(range(1, ROWS, 64))
    assert all(torch.equal(deep[0][:, 0], ((ids - 1) % 251 * 2).to(deep[0].dtype)) for ids, deep in got)
    assert all(addresses)
    spans = recorder.spans()
    pins = spans[spans["stage"] == recorder.stage("pin")]
    pins = pins[pins["item"] < len(got)]  # the next epoch's first batches may be made already
    of = spans[spans["stage"] == recorder.stage("collate" if how == "collate" else "transform")]
    assert len(pins) == 2 * len(got)
    for pin in pins:
        (around,) = of[of["item"] == pin["item"]]
        assert around["start"] <= pin["start"] <= pin["end"] <= around["end"]


@pytest.mark.parametrize(
    "wrong", [{"device_prefetch": -1}, {"device_prefetch": 1.5}, {"device_budget": 0}, {"device_budget": "much"}]
)
def test_a_depth_that_is_none_is_refused(dataset, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DataLoader(dataset, 16, **wrong)


def test_without_page_locking_the_loader_goes_on_with_one_warning(dataset, monkeypatch):
    """A locked-memory limit, or no driver: plain memory, the same batches."""
    if torch.accelerator.is_available():
        pytest.skip("page-locking works here")
    from datapipe.device import transfer
    from datapipe.device.streams import StreamEngine

    class Streams:
        Event = torch.cpu.Event

        def Stream(self, device):
            stream = torch.cpu.Stream()
            stream.synchronize = lambda: None
            return stream

        def stream(self, stream):
            return torch.cpu.stream(stream)

        def current_stream(self, device):
            return torch.cpu.current_stream()

    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(transfer, "check_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(
        transfer, "make_engine", lambda target, pin: StreamEngine(torch.device("cpu"), streams=Streams())
    )
    with (
        DataLoader(dataset, 64) as plain,
        DataLoader(dataset, 64, device="cuda") as loader,
        pytest.warns(UserWarning, match="cannot be page-locked") as caught,
    ):
        pairs = list(zip(plain, loader, strict=True))
    assert len([each for each in caught if "page-locked" in str(each.message)]) == 1
    assert all(torch.equal(one[name], other[name]) for one, other in pairs for name in one)
    assert len(pairs) == ROWS // 64
