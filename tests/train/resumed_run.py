"""A run in a process of its own, over a real dataset; not a test, run by `test_resume.py`.

run OUT DATA UNTIL       train to a step; print losses, weights and the digests of the next batches as JSON
killed OUT DATA MOMENTS  train once undisturbed, then again and again, killed at one operation on the run's folder
                         after another, and resumed; print every outcome as JSON
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer step imports it: once here, not in each child

import datapipe
import datapipe.loader.dataloader
from datapipe.train import GPTConfig, TrainConfig, load_checkpoint, next_batch_digests, train
from datapipe.train.digests import batch_digest
from datapipe.train.loop import METRICS

EVERY, STEPS = 3, 12
LAZY = ("datapipe.dataset.reader", "datapipe.dataset.fetch", "pyarrow.parquet", "safetensors.torch", "xxhash")
WATCHED = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate", "os.scandir")


def go(out, data, until=None, **told):
    dataset = datapipe.open_dataset(data)
    model = GPTConfig(vocab_size=97, seq_len=32, layers=2, heads=2, width=16)
    config = TrainConfig(steps=STEPS, model=model, device="cpu", warmup=2, accumulate=2, checkpoint_every=EVERY, seed=5)
    with datapipe.DataLoader(dataset, 4, seed=3, num_threads=1) as loader:
        result = train(config, loader, out=out, until=until, **told)
        return result, next_batch_digests(loader, 5)


def facts(out, data, until=None):
    result, following = go(out, data, until)
    lines = [json.loads(line) for line in result.metrics.read_text().splitlines()]
    return {
        "resumed_from": result.resumed_from,
        "step": result.step,
        "losses": [line["loss"] for line in lines],
        "steps": [line["step"] for line in lines],
        "weights": batch_digest(dict(result.model.state_dict())),
        "optimizer": batch_digest(load_checkpoint(out).optimizer_tensors()),
        "next": following,
        "files": sorted(path.name for path in Path(out, "checkpoints").iterdir()),
    }


def watch(out, act):
    """Call `act(n)` before the n-th operation on the run's folder, counted from 1."""
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        if event in WATCHED and arguments and str(arguments[0]).startswith(out):
            seen += 1
            act(seen)

    sys.addaudithook(hook)


def in_child(work):
    """Do it in a fork and give the wait status; no thread has been started before the fork."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def killed(out, data, moments):
    def count():
        total = 0

        def act(n):
            nonlocal total
            total = n

        watch(out + "/count", act)
        go(out + "/count", data)
        Path(out, "operations").write_text(str(total))

    Path(out).mkdir()
    for name in LAZY:
        importlib.import_module(name)
    assert in_child(count) == 0
    operations = int(Path(out, "operations").read_text())
    outcomes = []
    for n in sorted({1 + k * (operations - 1) // (moments - 1) for k in range(moments)}):
        folder = f"{out}/at-{n}"

        def fall(n=n, folder=folder):
            watch(folder, lambda seen: os.kill(os.getpid(), signal.SIGKILL) if seen == n else None)
            go(folder, data)

        def report(folder=folder):
            Path(folder + ".json").write_text(json.dumps(facts(folder, data)))

        status = in_child(fall)
        log = Path(folder, METRICS)
        logged = log.read_text().count("\n") if log.exists() else 0
        assert in_child(report) == 0, f"no resume after operation {n}"
        found = json.loads(Path(folder + ".json").read_text())
        outcomes.append({"operation": n, "signal": os.WTERMSIG(status), "logged": logged, **found})
    return {"operations": operations, "outcomes": outcomes}


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, out, data, *rest = sys.argv[1:]
    print(json.dumps((killed if mode == "killed" else facts)(out, data, *map(int, rest))))
