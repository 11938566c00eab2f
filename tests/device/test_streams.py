"""The stream engine's own calls, on streams that write down what happens: the order is what makes it safe."""

from __future__ import annotations

import contextlib
import warnings

import pytest

torch = pytest.importorskip("torch")
from datapipe.device.streams import StreamEngine  # noqa: E402  (it imports torch)
from datapipe.device.transfer import pinned_pool  # noqa: E402


class Recorded(torch.Tensor):
    """A tensor that tells which stream it was handed to."""

    def record_stream(self, stream):
        stream.log.append(("record_stream", stream.name, int(self.sum())))


class Streams:
    """Stands for torch.cuda or torch.xpu: the calls, in order."""

    def __init__(self):
        self.log = log = []
        self.now = "compute"
        outer = self

        class Stream:
            def __init__(self, device, name="copy"):
                self.name, self.log = name, log

            def wait_event(self, event):
                log.append(("wait", self.name, event.at))

            def synchronize(self):
                log.append(("synchronize", self.name))

        class Event:
            def record(self, stream):
                self.at = (stream.name, len(log))
                log.append(("event", stream.name))

            def query(self):
                log.append(("query", self.at))
                return False

        self.Stream, self.Event = Stream, Event
        self.compute = Stream(None, "compute")

        @contextlib.contextmanager
        def stream(of):
            before, outer.now = outer.now, of.name
            yield
            outer.now = before

        self.stream = stream

    def current_stream(self, device):
        return self.compute


@pytest.fixture
def streams():
    return Streams()


def test_copies_run_on_the_copy_stream_and_the_compute_stream_waits_on_the_device(streams, monkeypatch):
    """Copy, event after it, wait of the current stream, memory handed over; the host synchronises with nothing."""
    engine = StreamEngine(torch.device("cpu"), streams=streams)
    plain = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        streams.log.append(("to", streams.now, tensor.dtype, args[0], kwargs.get("non_blocking", False)))
        return plain(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    sent = engine.send(torch.tensor([1, 2], dtype=torch.uint8), torch.int64)
    mark = engine.mark()
    assert not engine.passed(mark)
    engine.join(mark, [sent.as_subclass(Recorded)])
    assert streams.log == [
        ("to", "copy", torch.uint8, torch.device("cpu"), True),  # narrow over the bus
        ("to", "copy", torch.uint8, torch.int64, False),  # and cast behind it, on the same stream
        ("event", "copy"),
        ("query", ("copy", 2)),
        ("wait", "compute", ("copy", 2)),
        ("record_stream", "compute", 3),
    ]
    engine.finish()
    assert streams.log[-1] == ("synchronize", "copy")


@pytest.mark.parametrize("wide", [torch.int32, torch.int64, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("narrow", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.bfloat16])
def test_every_cast_gives_what_the_host_would(streams, narrow, wide):
    """Unsigned numbers too, which cross as signed: to whole numbers and to floats."""
    engine = StreamEngine(torch.device("cpu"), streams=streams)
    values = [0, 1, 255] if narrow in {torch.uint8, torch.bfloat16} else [0, 1, 32767]
    values += {torch.uint16: [65535], torch.uint32: [65535, 2**31 - 1], torch.int16: [-1], torch.int32: [-5]}.get(
        narrow, []
    )
    if narrow is torch.uint32 and wide is not torch.int32:
        values.append(2**32 - 1)
    tensor = torch.tensor(values, dtype=torch.int64).to(narrow)
    sent = engine.send(tensor, wide)
    assert sent.dtype == wide
    assert sent.tolist() == torch.tensor(values, dtype=torch.int64).to(wide).tolist()
    assert engine.send(tensor, None).dtype == narrow


def test_where_memory_cannot_be_page_locked_it_says_so_once_and_goes_on(streams):
    """This torch has no accelerator, so every attempt fails as under a locked-memory limit."""
    if torch.accelerator.is_available():
        pytest.skip("page-locking works here")
    engine = StreamEngine(torch.device("cpu"), streams=streams)
    assert not engine.is_ready(torch.ones(3))
    pool = pinned_pool(engine, most_bytes=1 << 20)
    with pytest.warns(UserWarning, match="cannot be page-locked") as caught:
        first = pool.empty((1000,), "int64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = pool.empty((1000,), "int64")
    assert len(caught) == 1
    assert first.shape == second.shape == (1000,)
    assert engine.is_ready(torch.ones(3))  # staging would gain nothing now
    assert StreamEngine(torch.device("cpu"), pin=False, streams=streams).allocate(10) is None


def test_what_cannot_be_copied_by_its_bytes_is_left_to_torch(streams):
    """A sparse tensor and a subclass go as they are, and come out as what they were."""
    engine = StreamEngine(torch.device("cpu"), streams=streams)
    sparse = torch.eye(3).to_sparse()
    image = torch.ones(2).as_subclass(Recorded)
    assert engine.is_ready(sparse)
    assert engine.is_ready(image)
    assert engine.send(sparse, None).is_sparse
    assert type(engine.send(image, None)) is Recorded
