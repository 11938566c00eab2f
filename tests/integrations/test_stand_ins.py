"""Stand-ins for a script's loaders."""

import collections

import pytest

import datapipe
from datapipe.errors import ConfigError
from datapipe.integrations.loops import StepsDone
from datapipe.integrations.stand_ins import StandIns
from datapipe.integrations.torch_hooks import torch_hooks

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")


class Counted(data.Dataset):
    """Rows 0 to n − 1, and how many were asked for."""

    def __init__(self, n):
        self.n, self.asked = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.asked += 1
        return {"x": torch.full((2,), float(index))}


def train(loader, epochs, seen):
    model = torch.nn.Linear(2, 1)
    for _ in range(epochs):
        for batch in loader:
            x = batch.pop("x")  # a step may take its batch apart
            model(x).sum().backward()
            seen.append(x[:, 0].tolist())


def run(stand_in, steps=None, rows=12, epochs=2):
    """The values each step saw, rows asked for, and the profile."""
    rows = Counted(rows)
    seen = []
    with datapipe.profile() as prof, torch_hooks(prof, stand_in=stand_in, steps=steps):
        try:
            train(data.DataLoader(rows, batch_size=2), epochs, seen)
        except StepsDone:
            seen.append("ended")
    return seen, rows.asked, prof.summary()


def test_one_batch_is_repeated_and_the_loader_not_asked_again():
    """Passes are as long as before, and only the first batch is read."""
    seen, asked, summary = run("synthetic")
    assert seen == [[0.0, 1.0]] * 12
    assert asked == 2
    assert (summary.series.count, summary.epochs) == (12, 2)


def test_batches_in_memory_go_round():
    """A quarter of the steps may fill the memory; after that batches come by turns."""
    seen, asked, _ = run("cached", steps=10)
    assert seen == [*[[0.0, 1.0], [2.0, 3.0]] * 5, "ended"]
    assert asked == 4


def test_a_loader_shorter_than_the_memory_is_held_whole():
    """And its passes stay as long as they are."""
    seen, asked, _ = run("cached", rows=4, epochs=3)
    assert seen == [[0.0, 1.0], [2.0, 3.0]] * 3
    assert asked == 4


def test_the_loader_alone_runs_one_step_of_the_script():
    """After it batches are drawn, epoch after epoch, each as a step that is all wait."""
    seen, asked, summary = run("loader", steps=9, epochs=9)
    assert seen == [[0.0, 1.0], "ended"]
    assert asked >= 18
    assert summary.series.count == 9
    drawn = [
        parts for parts, kind in zip(summary.series.parts_ns["forward"], summary.series.kind, strict=True) if not kind
    ]
    assert not any(drawn)


def test_the_script_ends_after_its_steps_with_its_own_finally():
    """`StepsDone` is raised in the call for a further batch; nothing else is changed."""
    seen, asked, summary = run("as-is", steps=4)
    assert seen == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], "ended"]
    assert (asked, summary.series.count) == (8, 4)


def test_rows_of_a_foreign_loader_are_made_into_steps_as_the_script_makes_them():
    """Where a script puts four rows together into a batch, four draws are a step of the loader alone."""
    prof = datapipe.profile()
    with prof:
        from datapipe.integrations.loops import Loops

        loops = Loops(prof, without_gradients=lambda: False, most=5)
        plan = StandIns("loader", steps=5, loops=loops)
        source = Counted(100)
        iterator = plan.iterate(source, lambda: iter(range(100)), unsure=True)
        drawn = []

        def rows_by_four():
            for row in iterator:
                drawn.append(row)
                if len(drawn) % 4 == 0:
                    loops.forward()

        with pytest.raises(StepsDone):
            rows_by_four()
        loops.close()
    assert drawn == [0, 1, 2, 3]
    assert iterator._at == 20
    assert prof.summary().series.count == 5


def test_containers_are_the_steps_own_and_arrays_are_shared():
    """A namedtuple stays one; what is no container is handed on as it is."""
    pair = collections.namedtuple("pair", "a b")  # noqa: PYI024  (as untyped scripts have them)
    given = {"p": pair([1, 2], [3]), "x": torch.zeros(2)}
    with datapipe.profile() as prof, torch_hooks(prof, stand_in="synthetic", steps=9):
        got = next(iter(data.DataLoader([given], batch_size=None)))
    assert isinstance(got["p"], pair)
    assert got["p"] == given["p"]
    assert got["p"].a is not given["p"].a
    assert got["x"] is given["x"]


def test_a_kind_that_does_not_exist_is_wrong_usage():
    with datapipe.profile() as prof, pytest.raises(ConfigError, match="synthetic"), torch_hooks(prof, stand_in="fake"):
        pass


def test_a_loop_that_records_itself_is_fed_and_ended_too():
    """Where somebody else records the waits, batches come from memory and the end after as many as were asked for."""
    with datapipe.profile() as prof:
        from datapipe.integrations.loops import Loops

        loops = Loops(prof, without_gradients=lambda: False, most=7)
        plan = StandIns("cached", steps=8, loops=loops)
        iterator = plan.iterate(Counted(100), lambda: iter(range(100)), owned=True)
        got = [next(iterator) for _ in range(8)]
        with pytest.raises(StepsDone):
            next(iterator)
    assert got == [0, 1] * 4
    assert prof.summary().series.count == 0
