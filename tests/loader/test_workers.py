"""Worker processes: the same batches as in threads, whatever dies, and nothing left when it is over."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import worker_transforms as given

import datapipe
from datapipe.errors import ConfigError, LoaderError
from tests.loader.processes import alive, gone

FEW = {"collate": "numpy", "workers": "process", "num_threads": 2, "seed": 4}


@pytest.fixture
def rows(memory):
    return memory([20] * 6)


def plain(batches):
    return [{name: np.asarray(value).tolist() for name, value in batch.items() if name != "pid"} for batch in batches]


@pytest.mark.parametrize(
    ("prefetch", "transform"),
    [
        (0, given.double),
        *((4, each) for each in (given.double, given.keyed, given.of_table, given.of_columns)),
        *(pytest.param(0, each, marks=pytest.mark.slow) for each in (given.keyed, given.of_table, given.of_columns)),
    ],
)
def test_batches_are_those_of_threads(memory, transform, prefetch):
    """Keys, order and values are the same, over epochs and after a resume."""
    options = {**FEW, "transform": transform, "prefetch": prefetch}
    rich = memory([20] * 6, rich=True)
    with datapipe.DataLoader(rich, 8, **{**options, "workers": "thread"}) as loader:
        want = [plain(loader), plain(loader)]
    with datapipe.DataLoader(rich, 8, **options) as loader:
        assert [plain(loader), plain(loader)] == want
        loader.set_epoch(1)
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
    with datapipe.DataLoader(rich, 8, **options) as loader:
        loader.load_state_dict(state)
        assert plain(loader) == want[1][1:]


def test_processes_are_started_once_and_run_side_by_side(rows):
    """The same ones over epochs, no more than asked for, and none of them this one."""
    with datapipe.DataLoader(rows, 4, transform=given.double, **FEW) as loader:
        pids = {batch["pid"] for _ in range(3) for batch in loader}
        assert pids == set(loader._workers.pids())
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids


def test_own_collate_runs_there_too(rows):
    """What it returns need not be arrays."""
    with datapipe.DataLoader(rows, 10, **{**FEW, "collate": given.collate}, shuffle=False) as loader:
        batches = list(loader)
    assert [[row for row, _ in batch] for batch in batches] == np.arange(120).reshape(-1, 10).tolist()
    assert os.getpid() not in {pid for batch in batches for _, pid in batch}


def test_without_any_code_of_the_users_there_are_no_processes(rows):
    """There is nothing to do in them."""
    with datapipe.DataLoader(rows, 10, **FEW) as loader:
        assert len(list(loader)) == 12
        assert loader._workers is None


def test_tensors_come_back_as_tensors(rows):
    """With collate="torch" the transform gets tensors there, and tensors come back."""
    torch = pytest.importorskip("torch")
    with datapipe.DataLoader(rows, 10, transform=given.double, **{**FEW, "collate": "torch"}) as loader:
        batch = next(iter(loader))
    assert torch.equal(batch["twice"], batch["id"] * 2)
    batch["twice"] += 1


@pytest.mark.parametrize("prefetch", [0, 4])
def test_a_killed_process_is_replaced_and_its_batch_made_again(rows, tmp_path, prefetch):
    """SIGKILL in the midst of a batch: no batch is lost, none comes twice."""
    died = given.DieOnce(tmp_path / "flag")
    with datapipe.DataLoader(rows, 10, transform=died, prefetch=prefetch, **FEW) as loader:
        found = np.concatenate([batch["id"] for batch in loader])
    assert sorted(found.tolist()) == list(range(120))
    assert (tmp_path / "flag").exists()


def test_a_batch_that_kills_twice_is_an_error_that_names_it(rows, tmp_path):
    """And the batches before it are delivered."""
    died = given.DieOnce(tmp_path / "flag", always=True)
    with datapipe.DataLoader(rows, 10, transform=died, **{**FEW, "num_threads": 1}, shuffle=False) as loader:
        iterator = iter(loader)
        assert [next(iterator)["id"][0] for _ in range(3)] == [0, 10, 20]
        with pytest.raises(LoaderError, match="ended by SIGKILL") as info:
            next(iterator)
    assert any("batch 3 of this rank's epoch" in note for note in info.value.__notes__)


def test_a_process_killed_while_it_waits_is_replaced(rows):
    """Nothing is lost either."""
    with datapipe.DataLoader(rows, 10, transform=given.double, prefetch=0, **FEW) as loader:
        iterator = iter(loader)
        found = [next(iterator)["id"]]
        for pid in loader._workers.pids():
            os.kill(pid, signal.SIGKILL)
        found += [batch["id"] for batch in iterator]
    assert sorted(np.concatenate(found).tolist()) == list(range(120))


def test_errors_keep_their_type_and_show_that_processes_traceback(rows):
    """An exception that can be pickled comes as it is; its cause shows where it came from."""
    with datapipe.DataLoader(rows, 10, transform=given.refuse_batch, **FEW) as loader:
        with pytest.raises(KeyError, match="row 37") as info:
            list(loader)
        assert "worker_transforms.py" in str(info.value.__cause__)
        assert "refuse_batch" in str(info.value.__cause__)


def test_errors_that_cannot_be_pickled_are_told(rows):
    """By type, message and traceback."""
    with datapipe.DataLoader(rows, 10, transform=given.raise_unpicklable, **FEW) as loader:
        with pytest.raises(LoaderError, match="Unpicklable: this and that") as info:
            list(loader)
        assert "raise_unpicklable" in str(info.value.__cause__)


def test_other_endings_of_a_transform(rows):
    """StopIteration and results that no process can send are errors; SystemExit ends what it would end in a thread."""
    for transform, kind, words in (
        (given.raise_stop, LoaderError, "raised StopIteration"),
        (given.return_function, (AttributeError, TypeError, pickle.PicklingError), None),
        (given.leave, SystemExit, "done"),
    ):
        with (
            datapipe.DataLoader(rows, 10, transform=transform, **FEW) as loader,
            pytest.raises(kind, match=words) as info,
        ):
            list(loader)
        if transform is given.return_function:
            assert any("must be made of arrays" in note for note in info.value.__notes__)


def test_what_no_process_can_import_is_refused_with_the_remedy(rows):
    """At once, before anything is read."""

    def within(batch):
        return batch

    for transform in (lambda batch: batch, within, functools.partial(lambda batch: batch)):
        with pytest.raises(ConfigError, match="cannot be pickled") as info:
            datapipe.DataLoader(rows, 10, transform=transform, **FEW)
        assert "at the top of a module" in str(info.value)
    with pytest.raises(ConfigError, match="workers"):
        datapipe.DataLoader(rows, 10, transform=given.double, workers="processes")
    assert not rows.reads


def test_close_ends_processes_in_the_midst_of_a_batch(rows, tmp_path):
    """Whatever a transform is doing; the consumer, waiting elsewhere, is told."""
    told = tmp_path / "sleeping"
    slow = functools.partial(given.sleep, told=str(told))
    loader = datapipe.DataLoader(rows, 10, transform=slow, **FEW)
    caught = []

    def consume():
        try:
            next(iter(loader))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    while not told.exists():
        time.sleep(0.01)
    pids = loader._workers.pids()
    assert pids
    loader.close()
    thread.join(60)
    assert not thread.is_alive()
    assert gone(pids)
    assert isinstance(caught[0], datapipe.errors.ClosedError)


def test_collection_ends_processes(rows):
    """Neither the loader nor its iterator closed; one of them alone keeps the processes."""
    loader = datapipe.DataLoader(rows, 10, transform=given.double, **FEW)
    iterator = iter(loader)
    next(iterator)
    pids = loader._workers.pids()
    del loader
    gc.collect()
    assert len(list(iterator)) == 11
    assert set(pids) <= alive()
    del iterator
    gc.collect()
    assert gone(pids)


def test_a_forked_child_leaves_the_processes_alone(rows):
    """What a child of this process lets go of at its end is not its own."""
    with datapipe.DataLoader(rows, 10, transform=given.double, prefetch=0, **FEW) as loader:
        iterator = iter(loader)
        next(iterator)
        pids = loader._workers.pids()
        child = os.fork()
        if not child:
            loader._workers.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert set(pids) <= alive()
        assert len(list(iterator)) == 11
