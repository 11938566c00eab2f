"""One rank of a job that follows a growing dataset: not a test, a program for test_following.py.

    python -m torch.distributed.run --nproc-per-node 2 following_job.py DATASET FOLDER

In the first epoch rank 1 looks for a newer snapshot once rank 0 has looked, and one was published in between: were each
to take what it finds, they would differ.
"""

import sys
import time
from pathlib import Path

import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
import datapipe
from conftest import delivered
from datapipe.dataset import Dataset
from datapipe.storage import open_store

LOOK = Dataset.newer


def look(dataset):
    """`Dataset.newer`, at the moment that the test is about."""
    looked, published = folder / "looked", folder / "published"
    if rank == 0:
        found = LOOK(dataset)
        looked.touch()
        return found
    if not published.exists():
        while not looked.exists():
            time.sleep(0.01)
        delivered(open_store(url), 4)
        published.touch()
    return LOOK(dataset)


if __name__ == "__main__":
    url, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    Dataset.newer = look
    lines = []
    opened = datapipe.open_dataset(url, columns=["row"], follow=True)
    with datapipe.DataLoader(opened, 2, collate="numpy", seed=3, num_threads=1) as loader:
        for _ in range(3):
            lines.append(str([batch["row"].tolist() for batch in loader]))
            dist.barrier()
    (folder / f"rank-{rank}.txt").write_text("\n".join(lines))
    dist.destroy_process_group()
