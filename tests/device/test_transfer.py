"""Which device is meant, and feeding it from any iterator."""

from __future__ import annotations

import sys

import pytest

from datapipe.device import feed, transfer
from datapipe.device.transfer import check_device, make_engine
from datapipe.device.waiting import WaitingEngine
from datapipe.errors import ConfigError

torch = pytest.importorskip("torch")


def test_a_cpu_is_fed_by_passing_through():
    batches = [{"x": torch.tensor([1])}]
    assert next(feed(batches, "cpu")) is batches[0]
    (wide,) = feed([{"x": torch.tensor([1], dtype=torch.uint16), "y": 2}], "cpu", widen={"x": torch.float32})
    assert (wide["x"].dtype, wide["x"].tolist(), wide["y"]) == (torch.float32, [1], 2)


@pytest.mark.parametrize("device", ["no such device", "meta", object()])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ConfigError, match="device="):
        check_device(device)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator here")
@pytest.mark.parametrize("name", ["cuda", "xpu", "mps", "hpu"])
def test_an_accelerator_where_there_is_none_is_refused_with_the_remedy(name):
    with pytest.raises(ConfigError, match=r"sees no \w+ device[^$]*leave it out"):
        feed([], name)


def test_another_accelerator_than_is_here_is_named(monkeypatch):
    """As torch.accelerator tells it: one kind per machine, so many of it."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert check_device("xpu:1") == torch.device("xpu:1")
    with pytest.raises(ConfigError, match='device="xpu", which is here'):
        check_device("cuda")
    with pytest.raises(ConfigError, match=r"one of 2 XPU"):
        check_device("xpu:2")


@pytest.mark.parametrize("ahead", [-1, True, 1.5, "2"])
def test_a_depth_that_is_none_is_refused(ahead):
    with pytest.raises(ConfigError, match="ahead="):
        feed([], "cpu", ahead=ahead)


def test_fed_batches_cross_narrow_through_page_locked_memory_of_a_bound(late_engine, monkeypatch):
    """uint8, uint16, int32 and bfloat16 cross as they are, and come out as asked, from pieces within the bound."""
    engine = late_engine(3, page_locked=True)
    monkeypatch.setattr(transfer, "check_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(transfer, "make_engine", lambda target, pin: engine)
    kinds = [torch.uint8, torch.uint16, torch.int32, torch.bfloat16]
    batch = {str(kind): torch.arange(5).to(kind) for kind in kinds}
    (got,) = feed([batch], "cuda", widen=dict.fromkeys(batch, torch.float32), pinned_bytes=1 << 16)
    engine.compute()
    assert {dtype for dtype, _ in engine.crossed} == set(kinds)
    for value in got.values():
        assert value.dtype == torch.float32
        assert value.tolist() == [0, 1, 2, 3, 4]
    assert sum(map(len, engine.given)) <= 1 << 16


def test_a_device_without_streams_is_given_whole_copies():
    """MPS: each copy is done when it is handed over, so the source may change at once."""
    assert isinstance(make_engine(torch.device("mps")), WaitingEngine)
    engine = WaitingEngine(torch.device("cpu"))
    source = torch.tensor([1, 2], dtype=torch.uint16)
    sent = engine.send(source, torch.int64)
    same = engine.send(source, None)
    source.zero_()
    assert (sent.dtype, sent.tolist(), same.tolist()) == (torch.int64, [1, 2], [1, 2])
    assert engine.allocate(10) is None
    assert engine.is_ready(source)
    assert engine.passed(engine.mark())


def test_without_torch_a_device_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="torch is not installed"):
        check_device("cpu")


def test_a_device_without_a_number_is_the_current_one_for_good(monkeypatch):
    """A process that later chooses another device still gets this loader's batches where they were asked for."""
    made = []
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("M", (), {"current_device": lambda: 2}))
    monkeypatch.setattr("datapipe.device.streams.StreamEngine", lambda device, *, pin: made.append((device, pin)))
    make_engine(torch.device("cuda"))
    make_engine(torch.device("xpu:1"), False)
    assert made == [(torch.device("cuda", 2), True), (torch.device("xpu", 1), False)]
