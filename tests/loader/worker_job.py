"""A job for torchrun: each rank has worker processes of its own; run by test_workers.

torchrun --nproc-per-node 2 worker_job.py DATASET FOLDER
"""

import json
import sys
from pathlib import Path

import torch.distributed as dist
import worker_transforms as given

import datapipe


def main():
    dist.init_process_group("gloo")
    data = datapipe.open_dataset(sys.argv[1])
    with datapipe.DataLoader(data, 4, transform=given.keyed, workers="process", num_threads=1) as loader:
        found = [[batch["id"].tolist(), batch["draw"].tolist()] for batch in loader]
        told = {"batches": found, "pids": loader._workers.pids()}
    Path(sys.argv[2], f"rank-{dist.get_rank()}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
