"""Evaluation: an exact mean over all targets, and training that does not notice it."""

import random

import numpy as np
import pytest
import torch

from datapipe.errors import TrainError
from datapipe.train import Supervised, evaluate, random_state
from datapipe.train.evaluation import Best

CPU = torch.device("cpu")


def drawn():
    """A number of each global generator."""
    return torch.rand(()).item(), np.random.random(), random.random()  # noqa: NPY002


class Noisy(torch.nn.Module):
    """Draws from the generators, and remembers the mode it was called in."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.norm = torch.nn.BatchNorm1d(1)
        self.modes = []

    def loss_sum(self, batch):
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.norm(batch["x"].unsqueeze(1))
        drawn()
        return (batch["x"] * self.weight).sum(), torch.tensor(len(batch["x"]))


def test_the_mean_is_over_all_targets_however_uneven(make_model, make_loader):
    """Batches with uneven padding: as if they were one; and the same from any epoch of a loader that shuffles."""
    model, loader = make_model(), make_loader(batches=5)
    batches = [loader.batch(0, place) for place in range(5)]
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    found = evaluate(model, batches, device=CPU)
    assert found.loss == pytest.approx(model.eval().loss(joined).item(), rel=1e-6)
    assert (found.batches, found.targets) == (5, int(model.loss_sum(joined)[1]))


def test_training_does_not_notice():
    """The mode, all generators, running statistics and gradients are as before, also where the evaluation fails."""
    model = Noisy().train()
    random_state.seed_everything(3)
    expected = drawn()
    random_state.seed_everything(3)
    statistics = model.norm.running_mean.clone()
    evaluate(model, [{"x": torch.arange(4.0)}] * 2, device=CPU)
    with pytest.raises(KeyError):
        evaluate(model, [{"y": torch.arange(4.0)}], device=CPU)
    assert drawn() == expected
    assert model.modes[:2] == [(False, False)] * 2
    assert model.training
    assert model.weight.grad is None
    assert torch.equal(model.norm.running_mean, statistics)


def test_the_loader_begins_at_its_first_epoch_each_time_and_is_closed():
    class Loader:
        def __init__(self):
            self.epochs, self.closed = [], 0

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

        def __iter__(self):
            return self.go()

        def go(self):
            try:
                for _ in range(3):
                    yield {"x": torch.ones(2)}
            finally:
                self.closed += 1

    loader = Loader()
    for _ in range(2):
        assert evaluate(Noisy(), loader, device=CPU).batches == 3
    assert (loader.epochs, loader.closed) == ([0, 0], 2)


def test_an_evaluation_without_a_target_is_refused():
    with pytest.raises(TrainError, match="without a target, of 0 batches"):
        evaluate(Noisy(), [], device=CPU)
    learner = Supervised(torch.nn.Linear(2, 2), inputs="x", targets="y")
    with pytest.raises(TrainError, match="of 1 batches"):
        evaluate(learner, [{"x": torch.ones(3, 2), "y": torch.full((3,), -100)}], device=CPU)


def test_the_sums_go_over_the_ranks():
    """What `reduce` makes of (loss, targets, batches) is what is divided."""
    found = evaluate(Noisy(), [{"x": torch.ones(2)}], device=CPU, reduce=lambda sums: sums * torch.tensor([6, 2, 2]))
    assert (found.loss, found.targets, found.batches) == (3.0, 4, 2)


def test_best_counts_what_came_no_lower():
    """An equal loss is no better; the state goes through JSON's types."""
    best = Best()
    assert [best.seen(step, loss) for step, loss in enumerate([2.0, 1.5, 1.5, 1.7, 1.2], start=1)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert (best.loss, best.step, best.since) == (1.2, 5, 0)
    best.seen(6, 3.0)
    other = Best()
    other.load(best.state())
    assert other.state() == best.state() == {"loss": 1.2, "step": 5, "since": 1}
    other.load(Best().state())
    assert other.seen(1, 9.0)
