"""A training job for torchrun: gloo, gradients summed by hand, a checkpoint every few steps; run by test_torchrun.

    torchrun --nproc-per-node N torchrun_job.py DATASET FOLDER GLOBAL_BATCH STOP_AT

Every rank appends what it was given to FOLDER/rank-*.jsonl before it goes on; at step STOP_AT (if not 0) rank 1 kills
itself with SIGKILL, which is what torchrun ends the others for.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import datapipe

EVERY = 4


def main():
    dataset, folder, global_batch, stop_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    loader = datapipe.DataLoader(datapipe.open_dataset(dataset), batch_size=global_batch // world, seed=7)
    weights = torch.zeros(4, dtype=torch.float64)
    saved = folder / "checkpoint.json"
    if saved.exists():
        state = json.loads(saved.read_text())
        loader.load_state_dict(state["loader"])
        weights = torch.tensor(state["weights"], dtype=torch.float64)
    told = (folder / f"rank-{rank}-of-{world}.jsonl").open("a")
    for epoch in range(loader.epoch, 2):
        loader.set_epoch(epoch)
        for batch in loader:
            x = batch["x"].double()
            error = x @ weights - batch["row"].double() / 100
            gradient = x.T @ error
            dist.all_reduce(gradient)
            weights -= 0.01 * gradient / global_batch
            state = loader.state_dict()
            told.write(json.dumps([epoch, state["epoch"], state["position"], batch["row"].tolist()]) + "\n")
            told.flush()
            steps = state["epoch"] * len(loader) + state["position"]
            if rank == 0 and steps % EVERY == 0:
                beside = saved.with_suffix(".new")
                beside.write_text(json.dumps({"loader": state, "weights": weights.tolist(), "steps": steps}))
                beside.replace(saved)
            if rank == 1 and steps == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
    if rank == 0:
        (folder / f"weights-{world}.json").write_text(json.dumps(weights.tolist()))
    loader.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
