"""Searches in processes that are killed; not a test, run by `test_search.py`.

OUT [MOMENT…]      print JSON: the outcome of a search undisturbed, and of the same search killed at each moment
                   and then begun again, with the number of batches that this second start read
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import optuna
import torch
import torch._dynamo  # the first optimizer step imports it: once here, not in each child

from datapipe.train.tuning import Contender, TuneOptions, read_space, tune

SPEC = importlib.util.spec_from_file_location("loaders", Path(__file__).parent.parent / "conftest.py")
LOADERS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(LOADERS)

STEPS, TRIALS = 9, 5
OPTIONS = TuneOptions(
    space=read_space({"lr": {"low": 1e-3, "high": 0.3, "log": True}, "rows": [2, 4]}),
    budget_s=1e6,
    trials=TRIALS,
    resource="steps",
    seed=3,
)


def search(out, at_batch=None):
    """Run it; `at_batch(n)` is called before this process's n-th batch."""
    read = []

    def change(_position, batch):
        read.append(1)
        if at_batch is not None:
            at_batch(len(read))
        return batch

    @contextlib.contextmanager
    def contend(values):
        config = LOADERS.config(steps=STEPS, lr=values["lr"], checkpoint_every=1, model=LOADERS.shape(layers=1))
        yield Contender(config=config, loader=LOADERS.FakeLoader(rows=values["rows"], change=change))

    result = tune(OPTIONS, contend, out=out, steps=STEPS, first={"lr": 0.01, "rows": 4, "other": 1})
    told = [[row.number, row.values, row.end, row.rung, row.curve, row.steps] for row in result.rows]
    return {
        "rows": told,
        "read": len(read),
        "kept": sorted(str(p.parent.name) for p in out.glob("trials/*/checkpoints")),
    }


def fall():
    os.kill(os.getpid(), signal.SIGKILL)


def falling(method, n, *, before):
    """Have a method of Optuna kill the process at its n-th call."""
    owner, name = {"report": (optuna.Trial, "report"), "tell": (optuna.Study, "tell"), "ask": (optuna.Study, "ask"),
                   "begun": (optuna.Trial, "set_user_attr")}[method]  # fmt: skip
    real, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(1)
        if before and len(calls) == n:
            fall()
        value = real(*args, **kwargs)
        if len(calls) == n:
            fall()
        return value

    setattr(owner, name, call)


def in_child(work, file):
    child = os.fork()
    if not child:
        status = 1
        try:
            file.write_text(json.dumps(work()))
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


MOMENTS = {
    "batch 2": 2, "batch 5": 5, "batch 11": 11, "after report 1": ("report", 1, False),
    "before report 4": ("report", 4, True), "before tell 1": ("tell", 1, True), "after tell 3": ("tell", 3, False),
    "after ask 2": ("ask", 2, False), "after begun 1": ("begun", 1, False),
}  # fmt: skip


def killed_search(out, moment):
    """A search that SIGKILL ends at the moment."""
    told = MOMENTS[moment]
    if isinstance(told, int):
        return search(out, at_batch=lambda at: fall() if at == told else None)
    falling(told[0], told[1], before=told[2])
    return search(out)


def main(out, moments):
    file = out / "outcome.json"
    assert in_child(lambda: search(out / "undisturbed"), file) == 0
    outcomes = {"undisturbed": json.loads(file.read_text())}
    for moment in moments or MOMENTS:
        folder = out / moment.replace(" ", "-")
        status = in_child(lambda moment=moment, folder=folder: killed_search(folder, moment), file)
        assert os.WTERMSIG(status) == signal.SIGKILL, moment
        assert in_child(lambda folder=folder: search(folder), file) == 0, moment
        outcomes[moment] = json.loads(file.read_text())
    return outcomes


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
