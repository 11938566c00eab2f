"""What a GPU is fed, measured: every part on a device of the tests' own, since there may be no GPU."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu():
    """The benchmark's files: they import each other by name."""
    sys.path.insert(0, str(FOLDER))
    names = ("run", "bus", "steps", "workloads", "clock")
    before = list(sys.path)
    modules = {name: importlib.import_module(name) for name in names}
    yield type("GPU", (), modules)
    sys.path[:] = [path for path in before if path != str(FOLDER)]
    for name in names:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fake(late_engine, monkeypatch):
    """The CPU, taken for a device whose copies are done late, but before compute that was told to wait for them."""
    from datapipe.device import transfer

    class Device(late_engine):
        def join(self, mark, tensors):
            super().join(mark, tensors)
            self.compute()

    monkeypatch.setattr(transfer, "check_device", lambda device: type("D", (), {"type": "cuda"}))
    monkeypatch.setattr(transfer, "make_engine", lambda target, pin: Device(1, page_locked=True))


def test_every_part_but_the_pictures_runs_on_a_device_that_copies_late(gpu, fake, tmp_path):
    """Each contender delivers every sample once; bytes are those that cross: 8 rows of 32 uint16 and an int64."""
    result = gpu.run.measure(CPU, ("bus", "batches", "tokens"), tmp_path, quick=True)
    assert json.loads(json.dumps(result)) == result
    assert [row["bytes"] for row in result["bus"]["sizes"]] == [1 << 12, 1 << 16]
    assert all(row["pinned"] > 0 and row["pageable"] > 0 for row in result["bus"]["sizes"])
    assert result["batches"]["tokens"]["mb_a_batch"] == pytest.approx(8 * (32 * 2 + 8) / 1e6)
    assert result["batches"]["tokens"]["of_ceiling"] > 0
    assert set(result["tokens"]) == {"data there already", "datapipe", "torch DataLoader"}
    assert all(row["step_ms"] > 0 for row in result["tokens"].values())
    gpu.run.show(result)


@pytest.mark.slow
def test_the_pictures_run_too(gpu, fake, tmp_path):
    pytest.importorskip("PIL")
    result = gpu.run.measure(CPU, ("images", "batches"), tmp_path, quick=True)
    assert result["batches"]["images"]["mb_a_batch"] == pytest.approx(8 * (3 * 224 * 224 + 8) / 1e6)
    assert set(result["images"]) == {"data there already", "datapipe", "torch DataLoader"}


class Simulated:
    """A clock that is told how late it is."""

    now = 0.0

    def mark(self, stream=None):
        return self.now

    def reach(self, mark):
        pass

    def finish(self):
        pass

    def seconds(self, begin, end):
        return end - begin


def test_the_exposed_wait_is_what_the_data_adds_to_a_step(gpu):
    """Compute of 10 ms; data that costs 5 ms more of the device's time each step, and data that hides."""
    clock = Simulated()

    def late():
        for n in range(7):
            clock.now += 0.005
            yield n

    def step(batch):
        clock.now += 0.010

    found = gpu.steps.compare(clock, {"hidden": lambda: range(7), "late": late}, step, count=12, rounds=3)
    assert found["data there already"]["step_ms"] == pytest.approx(10)
    assert (found["hidden"]["exposed"], found["hidden"]["idle"]) == (pytest.approx(0), pytest.approx(0))
    assert found["late"]["step_ms"] == pytest.approx(15)
    assert (found["late"]["exposed"], found["late"]["idle"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    with pytest.raises(ValueError, match="without a batch"):
        next(gpu.steps.endless(list))


def test_copies_are_clocked_by_batch_on_their_own_stream(gpu, late_engine):
    """From a batch's first copy to its mark; what crosses is counted, not what it becomes."""
    clock = Simulated()
    engine = late_engine(page_locked=True)
    engine.stream = "copy"
    streams = []
    clock.mark = lambda stream=None: streams.append(stream) or clock.now
    clocked = gpu.bus.Clocked(engine, clock)
    send = engine.send

    def timed(tensor, dtype):
        clock.now += 2.0
        return send(tensor, dtype)

    engine.send = timed
    for _ in range(2):
        clocked.send(torch.zeros(10, dtype=torch.uint8), torch.int64)
        clocked.send(torch.zeros(5, dtype=torch.int16), None)
        clocked.mark()
        clock.now += 100
    clocked.mark()  # nothing was sent: no batch
    assert [(nbytes, end - begin) for nbytes, begin, end in clocked.spans] == [(20, 4.0), (20, 4.0)]
    assert set(streams) == {"copy"}


@pytest.mark.parametrize("wrong", ["twice", "changed", "none"])
def test_a_contender_that_cheats_is_thrown_out(gpu, tmp_path, wrong):
    workload = gpu.workloads.tokens(tmp_path, CPU, quick=True)
    with workload.loader() as loader:
        batches = list(loader)
    gpu.workloads.check(workload, batches)
    if wrong == "twice":
        batches[3] = batches[2]
    elif wrong == "changed":
        batches[3]["tokens"][0, 0] += 1
    else:
        batches = []
    with pytest.raises(ValueError, match="checksum"):
        gpu.workloads.check(workload, batches)


def test_without_a_gpu_it_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    gpu.run.main()
    assert capsys.readouterr().out.startswith("skipped: torch")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert gpu.run.chosen_device(None) == (None, "MPS has one stream: copies run before the compute, not beside it")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert gpu.run.chosen_device(None) == (torch.device("cuda"), "")
    assert np.isfinite(gpu.bus.gigabytes(gpu.clock.Clock(CPU), CPU, 1 << 10, pinned=True, repeats=2))
