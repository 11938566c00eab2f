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


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    from datapipe.integrations.tensorboard import TensorBoard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="TensorBoard cannot be written"):
        TensorBoard(tmp_path)
