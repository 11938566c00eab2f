"""One run that moves from layout to layout, on real processes over gloo; not a test, run by `test_moving.py`.

OUT DATA      prints one JSON object: the losses of a run on one process, and of the run that moved.
"""

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer step imports it: once here, not in each rank
import torch.distributed.checkpoint.state_dict_saver
from torch.distributed.fsdp import fully_shard  # noqa: F401  (likewise)

import datapipe
import datapipe.loader.dataloader
from datapipe.train import GPTConfig, TrainConfig, load_checkpoint, train
from datapipe.train.layout import Layout
from datapipe.train.loop import METRICS

ROWS, STEPS = 8, 10


def go(out, data, layout, until, dies_at):
    place = Layout(**layout)
    config = TrainConfig(
        steps=STEPS, model=GPTConfig(vocab_size=97, seq_len=32, layers=2, heads=2, width=16), device="cpu",
        precision="fp32", warmup=2, lr=1e-2, seed=5, layout=place, checkpoint_every=2, micro_batch=3,
    )  # fmt: skip
    ranks = place.data_size()

    def on_step(record):
        if record.step == dies_at and place.data_rank() == ranks - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with datapipe.DataLoader(
        datapipe.open_dataset(data), ROWS // ranks, seed=3, num_threads=1, rank=place.data_rank(), world_size=ranks
    ) as loader:
        train(config, loader, out=out, until=until, on_step=on_step)


def processes(world, out, data, layout, until=None, dies_at=None):
    """The exit status of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if not child:
            status = 1
            try:
                torch.set_num_threads(1)
                if world > 1:
                    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
                    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
                go(out, data, layout, until, dies_at)
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def losses(out):
    return [json.loads(line)["loss"] for line in Path(out, METRICS).read_text().splitlines()]


def main(out, data):
    assert processes(1, out / "still", data, {"data": 1}) == [0]
    moved, found = out / "moved", {"at": []}
    ways = [
        (4, {"data": 2, "shard": 2}, 2, None), (2, {"data": 1, "tensor": 2}, 4, None), (1, {"data": 1}, 6, None),
        (2, {"data": 2}, None, 8), (2, {"shard": 2}, None, None),
    ]  # fmt: skip
    for world, layout, until, dies_at in ways:
        status = processes(world, moved, data, layout, until, dies_at)
        if dies_at is None:
            assert set(status) == {0}, (layout, status)
        else:
            found["died"] = status
        found["at"].append(load_checkpoint(moved).step)
    print(json.dumps({**found, "still": losses(out / "still"), "moved": losses(moved)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
