"""A run in float16: its loss scale, the steps it drops, and going on."""

import math

import pytest
import torch

from datapipe.errors import TrainError
from datapipe.train import load_checkpoint, train


class Large(torch.nn.Module):
    """The loss times a power of 2: its gradient overflows float16 at the first scales."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def loss_sum(self, batch):
        total, count = self.inner.loss_sum(batch)
        return total * self.factor, count


@pytest.fixture
def run(tmp_path, make_config, make_loader, make_model):
    def run(name, factor=1.0, until=None, on_step=None, **changes):
        told = {"precision": "fp16", "steps": 6, "clip": None} | changes
        model = Large(make_model(), factor)
        return train(make_config(**told), make_loader(), out=tmp_path / name, model=model, until=until, on_step=on_step)

    return run


def test_it_learns_what_float32_does(run):
    """The curve is float32's to float16's precision, nothing overflows, and the scale does not enter the numbers."""
    half, full = run("half"), run("full", precision="fp32")
    assert half.losses == pytest.approx(full.losses, rel=2e-3)
    assert half.losses != full.losses
    assert (half.overflows, half.precision) == (0, "fp16")


def test_steps_that_overflow_change_nothing_and_are_counted(run):
    """The scale halves until the gradient fits; until then the weights stay, afterwards they move."""
    records = []
    result = run("large", factor=2.0**8, on_step=records.append)
    dropped = [record for record in records if not math.isfinite(record.grad_norm)]
    assert 0 < result.overflows == len(dropped) < 6
    assert records[: len(dropped)] == dropped
    assert all(record.as_dict()["grad_norm"] is None for record in dropped)
    scaler = load_checkpoint(result.checkpoint).state["scaler"]
    assert scaler["skipped"] == result.overflows
    assert scaler["_growth_tracker"] == 6 - len(dropped)


def test_a_run_goes_on_with_its_scale(run):
    """Stopped among the overflows, it ends with the numbers and the count of one never stopped."""
    whole = run("whole", factor=2.0**8)
    first = run("parts", factor=2.0**8, until=1)
    then = run("parts", factor=2.0**8)
    assert first.losses + then.losses == whole.losses
    assert then.overflows == whole.overflows
    mine, theirs = (load_checkpoint(result.checkpoint).state["scaler"] for result in (then, whole))
    assert mine == theirs


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp16", "tf32", "bf16"])
def test_a_gpu_learns_what_a_cpu_does(cuda, run, precision):
    """In each of its fast precisions, with recomputation: float32's curve to that precision."""
    fast = run(precision, precision=precision, device="cuda", recompute=True)
    slow = run("cpu", precision="fp32", device="cpu")
    assert fast.losses == pytest.approx(slow.losses, rel=2e-2)
    assert fast.device.startswith("cuda")


def test_a_loss_that_is_no_number_is_no_matter_of_scale(run):
    """It ends the run at once, as in float32."""
    with pytest.raises(TrainError, match="loss"):
        run("nan", factor=float("nan"))
