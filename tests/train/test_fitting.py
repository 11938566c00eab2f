"""Memory that runs out: what fits is found, and a step that did not fit leaves no trace."""

import logging

import pytest
import torch

from datapipe.errors import ConfigError, TrainError
from datapipe.train import GPT, evaluate, load_checkpoint, train
from datapipe.train.digests import batch_digest
from datapipe.train.fitting import Fitting
from datapipe.train.out_of_memory import is_out_of_memory

CPU = torch.device("cpu")


class Full(torch.nn.Module):
    """A GPT on a device of `most` rows; full `after` calls, in the midst of the backward pass if asked.

    With dropout and running statistics, so that an attempt that leaves a trace shows.
    """

    def __init__(self, model, most, *, after=0, backward=False):
        super().__init__()
        self.inner = model
        self.most, self.after, self.backward_too = most, after, backward
        self.calls = 0
        self.seen = []
        self.register_buffer("mean_loss", torch.zeros(()))

    def loss_sum(self, batch):
        rows = len(batch["tokens"])
        self.calls += 1
        self.seen.append(rows)
        full = self.calls > self.after and rows > self.most
        with torch.no_grad():
            self.mean_loss += 1 + torch.rand(())
        if full and not self.backward_too:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 2.00 GiB")
        loss, targets = self.inner.loss_sum(batch)
        loss = torch.nn.functional.dropout(loss.expand(64), 0.5).mean()
        return (_FullBackward.apply(loss) if full else loss), targets


class _FullBackward(torch.autograd.Function):
    """Raises when the gradients of some weights are there already."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise torch.OutOfMemoryError("out of memory in backward")


@pytest.fixture
def run(tmp_path, make_config, make_loader, make_shape):
    def run(name, micro_batch, *, most=99, after=0, backward=False, until=None, **changes):
        torch.manual_seed(3)
        model = Full(GPT(make_shape()), most, after=after, backward=backward)
        told = make_config(**{"steps": 5, "accumulate": 2, "micro_batch": micro_batch} | changes)
        result = train(told, make_loader(rows=7), out=tmp_path / name, model=model, until=until)
        return model, result

    return run


def weights(result):
    return batch_digest(dict(result.model.state_dict()))


def test_the_gradient_is_that_of_whole_batches(tmp_path, make_config, make_loader):
    """Without dropout, the losses and weights agree to rounding."""
    results = [
        train(make_config(accumulate=2, micro_batch=rows), make_loader(rows=7), out=tmp_path / str(rows))
        for rows in (None, 7, 3)
    ]
    whole, same, *cut = results
    assert whole.losses == same.losses
    for result in cut:
        assert result.losses == pytest.approx(whole.losses, rel=1e-5)
        for a, b in zip(result.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-4)


@pytest.mark.parametrize(("most", "found", "backward"), [(7, 7, False), (6, 4, True), (3, 3, False), (1, 1, True)])
def test_what_fits_is_found_and_the_numbers_are_those_of_being_told_it(run, most, found, backward, caplog):
    """To the bit, random parts and running statistics included; one warning says how many pieces."""
    with caplog.at_level(logging.WARNING, "datapipe.train.memory"):
        _, auto = run("auto", "auto", most=most, backward=backward)
    _, told = run("told", found)
    assert auto.micro_batch == found
    assert auto.losses == told.losses
    assert weights(auto) == weights(told)
    assert len([each for each in caplog.records if each.name == "datapipe.train.memory"]) == (found < 7)


@pytest.mark.parametrize("backward", [False, True])
def test_memory_that_runs_out_later_halves_and_goes_on_from_the_steps_beginning(run, backward):
    """After 2 steps of whole batches no more than 2 rows fit: from step 3 on, it is the run told 2 rows from there."""
    # Two calls to find out, two a step; then the second batch of step 3 does not fit.
    _, auto = run("auto", "auto", most=2, after=2 + 4 + 1, backward=backward)
    run("told", None, until=2, checkpoint_every=0)
    assert auto.micro_batch == 2
    assert auto.step == 5
    state = load_checkpoint(auto.checkpoint).state["micro_batch"]
    assert state == {"rows": 2, "shrunk": 2}  # 7, 4, 2

    _, whole = run("whole", None)
    assert auto.losses[:2] == whole.losses[:2]
    assert auto.losses[2:] != whole.losses[2:]
    # Told 2 rows from a checkpoint of step 2 on, it is the same run.
    _, first = run("resumed", "auto", until=2)
    path = first.checkpoint
    _, rest = run("resumed", "auto", most=2)
    assert path.name == "step-00000002"
    assert rest.losses == auto.losses[2:]
    assert weights(rest) == weights(auto)


def test_a_resumed_run_does_not_search_again(run):
    """It goes on with what was found; the numbers are those of a run never stopped."""
    _, whole = run("whole", "auto", most=3)
    run("parts", "auto", most=3, until=3)
    model, rest = run("parts", "auto", most=3)
    assert rest.losses == whole.losses[3:]
    assert set(model.seen) == {2, 3}
    assert weights(rest) == weights(whole)


@pytest.mark.parametrize(("told", "match"), [(None, "with whole batches"), (5, "with micro_batch=5")])
def test_without_leave_to_shrink_it_says_what_would_help(run, told, match):
    with pytest.raises(TrainError, match=match) as fault:
        run("x", told, most=3)
    assert "step 1: out of memory" in str(fault.value)
    assert 'micro_batch="auto"' in fault.value.fix


def test_one_row_that_does_not_fit_ends_the_run(run):
    """At the first step, or in the midst: never an endless loop."""
    with pytest.raises(TrainError, match="a row does not fit cpu"):
        run("x", "auto", most=0)
    with pytest.raises(TrainError, match="step 2: one row does not fit"):
        run("y", "auto", most=0, after=2 + 2)


def test_an_evaluation_takes_no_more_rows_at_once_than_a_step(tmp_path, make_config, make_loader, make_model):
    """In a run, and the mean is that of whole batches."""
    model = Full(make_model(), 2)
    told = make_config(steps=1, micro_batch="auto")
    train(told, make_loader(rows=7), out=tmp_path / "run", model=model, evaluation=make_loader(batches=2, rows=7))
    assert model.seen[-8:] == [1, 2, 2, 2, 1, 2, 2, 2]
    whole, cut = (evaluate(model.inner, make_loader(batches=2, rows=7), device=CPU, rows=rows) for rows in (None, 2))
    assert cut.loss == pytest.approx(whole.loss)
    assert (cut.targets, cut.batches) == (whole.targets, whole.batches)


def test_memory_that_runs_out_in_the_update_ends_the_run(run, monkeypatch):
    """Some weights have changed by then: nothing is tried again, and the message says what to do."""

    def full(self, closure=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(TrainError, match="out of memory in the optimizer's update") as fault:
        run("x", 3)
    assert "newest checkpoint" in fault.value.fix


def test_other_errors_pass_through(make_model):
    """Once: nothing is tried again."""
    fitting = Fitting("auto", make_model(), CPU)
    calls = []

    def wrong():
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fitting.run(wrong, 1)
    with pytest.raises(RuntimeError, match="mat1"):
        fitting.find({"x": torch.zeros(3)}, lambda rows: wrong())
    assert len(calls) == 2


def test_what_counts_as_out_of_memory():
    """Torch's own, the CPU's words, the libraries'; nothing else."""
    said = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    cublas = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    for error in (torch.OutOfMemoryError("x"), RuntimeError(said), MemoryError(), cublas):
        assert is_out_of_memory(error)
    for error in (RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory"), KeyError()):
        assert not is_out_of_memory(error)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "max", [4]])
def test_a_wrong_value_is_refused(make_config, wrong):
    with pytest.raises(ConfigError, match="micro_batch"):
        make_config(micro_batch=wrong)


@pytest.mark.cuda
def test_on_cuda_real_memory_runs_out_and_the_run_goes_on(tmp_path, cuda, make_config, make_loader, make_shape):
    """A cap on the device's memory under which whole batches do not fit; afterwards the cap is lifted."""
    told = make_config(steps=3, device="cuda", model=make_shape(width=256, layers=4), micro_batch="auto")
    loader = make_loader(rows=512)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(cuda).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(cuda) + (400 << 20)) / total, cuda)
        small = train(told, loader, out=tmp_path / "small")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, cuda)
    assert small.micro_batch is not None
    assert small.micro_batch < 512
    whole = train(told, make_loader(rows=512), out=tmp_path / "whole")
    assert whole.micro_batch == 512
    assert small.losses == pytest.approx(whole.losses, rel=1e-2)
