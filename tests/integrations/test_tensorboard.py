"""Live scalars, read back from the event files."""

import sys

import pytest

from datapipe.errors import ConfigError
from datapipe.profiling.live import LiveFigures

reading = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
)


def test_scalars_by_step(tmp_path):
    """Each scalar has one point per new step; a look that saw no new one adds nothing."""
    from datapipe.integrations.tensorboard import TensorBoard

    sink = TensorBoard(tmp_path)
    for steps in (10, 20, 20, 30):
        sink(
            LiveFigures(
                seconds=1.0, steps=steps, window=2, step_seconds=steps / 100, stall=0.5, bottleneck="decode",
                resident_bytes=None if steps == 10 else 1 << 20,
            )
        )  # fmt: skip
    sink.close()
    events = reading.EventAccumulator(str(tmp_path)).Reload()
    points = {tag: [(e.step, round(e.value, 6)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert points == {
        "datapipe/step_seconds": [(10, 0.1), (20, 0.2), (30, 0.3)],
        "datapipe/stall_ratio": [(10, 0.5), (20, 0.5), (30, 0.5)],
        "datapipe/resident_memory_bytes": [(20, 1 << 20), (30, 1 << 20)],
    }


def test_a_training_runs_steps_become_scalars(tmp_path):
    """One point a step of all that is known; what is not known has none."""
    from datapipe.integrations.tensorboard import StepScalars
    from datapipe.train import StepRecord

    sink = StepScalars(tmp_path)
    for step in (1, 2):
        told = {"step": step, "loss": 4.0 / step, "lr": 0.5, "grad_norm": 1.0, "tokens": 7, "rows": 2, "epoch": 0}
        told |= {"tokens_per_s": 8.0, "wait_ms": 1.0, "compute_ms": 1.0, "stall": 0.25, "memory": 1 << 20}
        sink(StepRecord(**told, eval_loss=3.0 if step == 2 else None))
    sink.close()
    events = reading.EventAccumulator(str(tmp_path)).Reload()
    points = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert points.pop("train/eval_loss") == [(2, 3.0)]
    assert points.pop("train/loss") == [(1, 4.0), (2, 2.0)]
    names = {"lr", "grad_norm", "tokens_per_s", "stall", "memory"}
    assert points.keys() == {f"train/{name}" for name in names}
    assert all(len(each) == 2 for each in points.values())


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    from datapipe.integrations.tensorboard import TensorBoard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="TensorBoard cannot be written"):
        TensorBoard(tmp_path)
