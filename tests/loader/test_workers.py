"""Worker processes: the same batches as in threads, whatever dies, and nothing left when it is over."""

from __future__ import annotations

import functools
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import worker_transforms as given

import datapipe
from datapipe.errors import ConfigError, LoaderError

HERE = str(Path(__file__).parent)
FEW = {"collate": "numpy", "workers": "process", "num_threads": 2, "seed": 4}


@pytest.fixture
def rows(memory):
    return memory([20] * 6)


def children(pid=None):
    """Processes started by a process, that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == (pid or os.getpid()) and state != "Z":
                found.append(int(entry.name))
    return found


def gone(pids, seconds=20.0):
    """Whether all these processes end; the time is a bound against hanging, not a measurement."""
    until = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() and pid in alive() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def alive():
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def plain(batches):
    return [{name: np.asarray(value).tolist() for name, value in batch.items() if name != "pid"} for batch in batches]


@pytest.mark.parametrize("transform", [given.double, given.keyed, given.of_table, given.of_columns])
@pytest.mark.parametrize("prefetch", [0, 4])
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
    thread.join(20)
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


def run(tmp_path, code, **kwargs):
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {HERE!r})\n" + textwrap.dedent(code))
    return subprocess.Popen([sys.executable, "-W", "error", str(script)], text=True, **kwargs)


SCRIPT = """
    import functools, os, signal, sys, time
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    import datapipe, worker_transforms as given
    from pathlib import Path

    def open_rows(folder):
        pq.write_table(pa.table({"id": np.arange(80)}), f"{folder}/a.parquet", row_group_size=20)
        return datapipe.open_dataset(folder)
"""


def test_the_parents_sigkill_ends_them_and_leaves_no_memory(tmp_path):
    """No handler runs: the processes see the pipe's end, in the midst of a batch, and memory without a name is gone."""
    (tmp_path / "data").mkdir()
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()
    process = run(
        tmp_path,
        SCRIPT
        + f"""
    if __name__ == "__main__":
        data = open_rows({str(tmp_path / "data")!r})
        slow = functools.partial(given.sleep, told={str(tmp_path / "told")!r})
        loader = datapipe.DataLoader(data, 8, transform=slow, collate="numpy", workers="process", num_threads=2)
        next(iter(loader))
    """,
    )
    while not (tmp_path / "told").exists():
        assert process.poll() is None
        time.sleep(0.02)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    assert gone(workers)
    after = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").exists() else set()
    assert not {path for path in after - before if "datapipe" in path.name}


def test_nothing_is_said_at_exit(tmp_path):
    """A script that neither closes nor finishes its iteration ends in silence, with warnings as errors."""
    (tmp_path / "data").mkdir()
    process = run(
        tmp_path,
        SCRIPT
        + f"""
    if __name__ == "__main__":
        loader = datapipe.DataLoader(
            open_rows({str(tmp_path / "data")!r}), 8, transform=given.double, collate="numpy", workers="process"
        )
        iterator = iter(loader)
        print(len(next(iterator)["id"]), *loader._workers.pids())
    """,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=120)
    rows, *pids = map(int, out.split())
    assert (process.returncode, rows, err) == (0, 8, "")
    assert gone(pids)


def test_a_script_holds_its_own_transform(tmp_path):
    """Defined in the script itself, with its own exception; guarded, as for every way of starting processes afresh."""
    (tmp_path / "data").mkdir()
    process = run(
        tmp_path,
        SCRIPT
        + f"""
    class Mine(Exception):
        pass

    def mine(batch):
        if 77 in batch["id"]:
            raise Mine("77")
        return batch

    if __name__ == "__main__":
        data = open_rows({str(tmp_path / "data")!r})
        loader = datapipe.DataLoader(data, 8, transform=mine, collate="numpy", workers="process", shuffle=False)
        try:
            print(sum(len(batch["id"]) for batch in loader))
        except Mine as error:
            print("mine", error)
    """,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=120)
    assert (out, err) == ("mine 77\n", "")


def test_a_script_without_a_guard_is_told(tmp_path):
    """Instead of starting itself without end."""
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"id": np.arange(80)}), tmp_path / "data" / "a.parquet", row_group_size=20)
    process = run(
        tmp_path,
        SCRIPT
        + f"""
    def mine(batch):
        return batch

    data = datapipe.open_dataset({str(tmp_path / "data")!r})
    loader = datapipe.DataLoader(data, 8, transform=mine, collate="numpy", workers="process")
    next(iter(loader))
    """,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'if __name__ == "__main__":' in err


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


@pytest.mark.slow
def test_ranks_of_torchrun_have_processes_of_their_own(tmp_path):
    """Two ranks together give what one process gives in threads, draws and all."""
    pytest.importorskip("torch")
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"id": np.arange(80)}), folder / "a.parquet", row_group_size=20)
    job = Path(HERE, "worker_job.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(job)]
    done = subprocess.run(
        [*command, str(folder), str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert len({pid for each in told for pid in each["pids"]}) == 2
    assert gone([pid for each in told for pid in each["pids"]])
    data = datapipe.open_dataset(folder)
    with datapipe.DataLoader(data, 8, transform=given.keyed, rank=0, world_size=1, collate="numpy") as loader:
        for batch, *parts in zip(loader, *(each["batches"] for each in told), strict=True):
            want = dict(zip(batch["id"].tolist(), batch["draw"].tolist(), strict=True))
            assert {i: d for ids, draws in parts for i, d in zip(ids, draws, strict=True)} == want
