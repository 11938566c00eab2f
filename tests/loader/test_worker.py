"""Worker processes of a script: it needs a guard, and whatever becomes of it, none outlives it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import worker_transforms as given

import datapipe
from tests.loader.processes import children, gone

HERE = str(Path(__file__).parent)


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
