"""One rank of several, started by test_strategy.py: trains under each layout, and writes down what came of it.

    python parallel_run.py OUT LAYOUT…     RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment

A layout is JSON. OUT/<rank>.json holds a result a scenario.
"""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import torch

from datapipe.errors import ConfigError, DatapipeError
from datapipe.train import train
from datapipe.train.layout import Layout
from datapipe.train.ranks import ranks_of

_CONFTEST = importlib.util.spec_from_file_location("train_conftest", Path(__file__).with_name("conftest.py"))
conftest = importlib.util.module_from_spec(_CONFTEST)
_CONFTEST.loader.exec_module(conftest)
STEPS, LAYERS = 4, 4


class Share(conftest.FakeLoader):
    """A rank's rows of the batches that one process would get; in each batch ranks have other numbers of targets."""

    def __init__(self, rank=0, world_size=1, **options):
        super().__init__(batches=3, **options)
        self.rank, self.world_size = rank, world_size

    def batch(self, epoch, position):
        full = super().batch(epoch, position)
        full["segment_ids"][1, 5 + 4 * position :] = 0
        # The last of an epoch is all the first rank's, as tail="partial" may leave some rank none.
        n = self.rows // self.world_size if position < 2 else self.rows
        return {name: value[self.rank * n : (self.rank + 1) * n] for name, value in full.items()}


def config(layout=None, **changes):
    """What crosses ranks: accumulation, clipping, weight decay, several layers."""
    shape = conftest.shape(layers=LAYERS)
    told = {"steps": STEPS, "accumulate": 2, "clip": 0.3, "lr": 1e-2, "model": shape, "layout": layout or Layout()}
    return conftest.config(**told | changes)


def numbers(result, records):
    """What is compared: the curve, and the weights as a whole (DTensors are gathered)."""
    weights = {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().flatten().tolist()
        for name, value in result.model.named_parameters()
    }
    return {
        "losses": result.losses, "norms": [record.grad_norm for record in records], "weights": weights,
        "tokens": [record.tokens for record in records], "rows": [record.rows for record in records],
        "best": result.best_loss, "parameters": result.parameters, "stopped": result.stopped, "step": result.step,
    }  # fmt: skip


def run(layout, out, *, until=None, on_step=None, loader=None, **changes):
    """Train in this layout."""
    place = (layout.data_rank(), layout.data_size()) if layout is not None else (0, 1)
    records = []

    def seen(record):
        records.append(record)
        if on_step is not None:
            on_step(record)

    made = Share(*place) if loader is None else loader
    result = train(
        config(layout, **changes), made, out=out, evaluation=Share(*place, seed=7), until=until, on_step=seen
    )
    return numbers(result, records)


def refused(work):
    """The error that came, as text; none: an empty one."""
    try:
        work()
    except DatapipeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def stop_the_second(record):
    """Rank 1 alone is asked to stop."""
    if record.step == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)


class Failing(Share):
    """Its second batch fails on the last rank: an error, or the process is killed."""

    def __init__(self, how, rank, world_size):
        super().__init__(rank, world_size)
        self.how = how

    def batch(self, epoch, position):
        if position == 1 and self.rank == self.world_size - 1:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("row 17 is damaged")
        return super().batch(epoch, position)


def next_port():
    """A group of its own: what failed leaves connections behind."""
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)


def main(out, layouts):
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    found = {}

    def note(name, value):
        found[name] = value
        (out / f"{rank}.json").write_text(json.dumps(found))

    with ranks_of(Layout(data=world), "cpu"):  # one group for all scenarios
        for text in layouts:
            note(text, run(Layout(**json.loads(text)), out / text.strip("{}").replace('"', "").replace(" ", "")))
        if world == 2:
            data, tensor = Layout(data=2), Layout(tensor=2)
            note("recompute", run(Layout(shard=2), out / "recompute", recompute=True))
            note("gpipe", run(Layout(pipeline=2, schedule="gpipe", microbatches=3), out / "gpipe"))
            for step, layout in enumerate((tensor, Layout(pipeline=2), Layout(shard=2)), start=1):
                run(layout, out / "moved", until=step)
            note("moved", run(data, out / "moved"))
            note("asked to stop", run(data, out / "stop", on_step=stop_the_second))
            note("placed otherwise", refused(lambda: run(tensor, out / "x", loader=Share(rank, 2))))
            apart = conftest.FakeLoader(seed=rank)
            note("other batches", refused(lambda: run(tensor, out / "x", loader=apart)))
            note("micro", refused(lambda: run(data, out / "x", micro_batch=1)))
            note("heads", refused(lambda: run(tensor, out / "x", model=conftest.shape(heads=1))))
            note("stages", refused(lambda: run(Layout(pipeline=2), out / "x", model=conftest.shape(layers=1))))
            note("nan", refused(lambda: run(data, out / "nan", lr=1e38, clip=None)))
            note("too many", refused(lambda: run(Layout(data=4), out / "x", loader=Share(rank, 2))))
    if world == 2:
        for how in ("raises", "killed"):
            next_port()
            note(how, refused(lambda how=how: run_failing(how, out, rank)))


def run_failing(how, out, rank):
    try:
        run(Layout(data=2), out / how, loader=Failing(how, rank, 2))
    except ValueError as error:
        raise ConfigError(f"its own: {error}") from error


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
