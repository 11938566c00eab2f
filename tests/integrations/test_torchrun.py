"""A script under torchrun: each rank writes its own profile, rank 0 shows them merged, a late rank is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.profiling import load_profile, load_run

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

TRAIN = """
    import sys, time
    from pathlib import Path
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, Dataset, DistributedSampler

    class Rows(Dataset):
        def __init__(self, slow):
            self.slow = slow
            self.read = 0

        def __len__(self):
            return 160

        def __getitem__(self, index):
            if self.slow:
                while not Path(f"arrived-{self.read // 4}").exists():
                    time.sleep(0.001)
                self.read += 1
                time.sleep(0.005)
            return torch.randn(8), torch.ones(1)

    if __name__ == "__main__":
        dist.init_process_group("gloo")
        data = Rows(dist.get_rank() == int(sys.argv[1]))
        model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step, (x, y) in enumerate(DataLoader(data, batch_size=4, sampler=DistributedSampler(data))):
            # The slow rank reads on once the other is here: else, on a busy machine, either may be the later one.
            Path(f"arrived-{step}").touch()
            loss = ((model(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            dist.all_reduce(loss.detach())
        print(f"rank {dist.get_rank()} trained", flush=True)  # in one piece: the ranks share a pipe
        dist.destroy_process_group()
"""


def torchrun(*argv, cwd):
    command = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node", "2", *argv]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize("slow", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_slow_rank_of_a_job_is_named(scripts, tmp_path, slow):
    """Whichever rank reads slowly: the merged verdict names it and its dataset, and the other waits for it."""
    (tmp_path / "out" / f"rank-{1 - slow}").mkdir(parents=True)
    (tmp_path / "out" / f"rank-{1 - slow}" / "profile.json").write_text("left by an earlier job")
    ran = torchrun("-m", "datapipe", "profile", "-o", "out", scripts("train", TRAIN), str(slow), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert all(f"rank {rank} trained" in ran.stdout for rank in (0, 1))  # their line ends may come together
    assert ran.stdout.count(f"Rank {slow} is late") == 1
    for rank in (0, 1):
        own = load_profile(tmp_path / "out" / f"rank-{rank}")
        assert (own.rank.rank, own.rank.world_size, own.series.count) == (rank, 2, 20)
        assert own.part("communication").mean > 0
    merged = load_profile(tmp_path / "out")
    assert merged == load_run(tmp_path / "out")
    assert merged.rank.rank == slow
    assert merged.ranks.stragglers == (slow,)
    assert "dataset" in merged.ranks.rows[slow].slow_part
    assert merged.ranks.waits[0].rank == 1 - slow
    assert merged.ranks.waits[0].mean >= 0.5 * 4 * 5e6


@pytest.mark.slow
def test_a_job_is_shown_again(scripts, tmp_path):
    """`datapipe report` on the job's folder merges what is there; a rank without a profile is said to be missing."""
    ran = torchrun("-m", "datapipe", "profile", "--json", "-o", "out", scripts("train", TRAIN), "-1", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (line,) = ran.stdout.splitlines()
    assert json.loads(line)["ranks"]["missing"] == []
    (tmp_path / "out" / "rank-1" / "profile.json").unlink()
    command = [Path(sys.executable).with_name("datapipe"), "report", "out", "--json"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["ranks"]["missing"] == [1]
