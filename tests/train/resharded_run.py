"""Four ranks that save and load each other's checkpoints; not a test, run by `test_resharding.py`.

OUT      folder for the checkpoints. Prints one JSON object: what each check found, from rank 0.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer step imports it: once here, not in each rank
import torch.distributed as dist
import torch.distributed.checkpoint.state_dict_saver
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from datapipe.errors import DatapipeError, NoSpaceError
from datapipe.train import GPT, GPTConfig, TrainConfig, checkpoint_storage, load_checkpoint, random_state
from datapipe.train.checkpoint_loading import load_model, load_optimizer, on_first
from datapipe.train.checkpoint_saver import Saver
from datapipe.train.digests import batch_digest
from datapipe.train.model_state import model_state, optimizer_state
from datapipe.train.optimizer import make_optimizer
from datapipe.train.run_state import RunState

RANKS = 4
CONFIG = TrainConfig(steps=9, device="cpu", model=GPTConfig(vocab_size=61, seq_len=12, layers=1, heads=2, width=16))
BATCH = {"tokens": torch.arange(36).view(3, 12) % 61}


class Place:
    """A loader's place, and nothing else."""

    def __iter__(self):
        return iter(())

    def state_dict(self):
        return {"position": 7}

    def load_state_dict(self, state):
        self.loaded = dict(state)


def make(mesh=None, seed=0):
    """A GPT of which the ranks of `mesh` hold parts: 61 rows over 4 ranks do not come out even."""
    torch.manual_seed(seed)
    model = GPT(CONFIG.model)
    if mesh is not None:
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, make_optimizer(model, CONFIG)


def step(model, optimizer):
    loss, targets = (
        model.loss_sum(BATCH) if not isinstance(model, DistributedDataParallel) else model.module.loss_sum(BATCH)
    )
    (loss / targets).backward()
    optimizer.step()
    optimizer.zero_grad()


def whole(model, optimizer):
    """All tensors of the state, put together; a collective where they are sharded."""
    state = {**model_state(model), **optimizer_state(model, optimizer)}
    return {name: (v.full_tensor() if isinstance(v, DTensor) else v).detach().clone() for name, v in state.items()}


def saved_in(folder):
    point = load_checkpoint(folder)
    return {
        **{f"model/{name}": value for name, value in point.model_tensors().items()},
        **{f"optimizer/{name}": value for name, value in point.optimizer_tensors().items()},
    }


def loaded(folder, mesh=None):
    model, optimizer = make(mesh, seed=9)
    point = load_checkpoint(folder)
    load_model(point, model)
    load_optimizer(point, model, optimizer)
    return model, optimizer


def apart(one, other):
    """The largest difference of two states, in any number; they have the same names."""
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def checks(rank, out):
    group, alone = dist.new_group(backend="gloo"), dist.new_group([0], backend="gloo")
    four, two = DeviceMesh("cpu", list(range(RANKS))), DeviceMesh("cpu", [0, 1])
    found = {}

    # Sharded over four, saved beside a step that changes everything.
    model, optimizer = make(four)
    step(model, optimizer)
    before = whole(model, optimizer)
    saver = Saver(out / "four", keep=3, lag=2, group=group)
    saver.save(1, {**model_state(model), **optimizer_state(model, optimizer)}, {})
    step(model, optimizer)
    after = whole(model, optimizer)
    saver.wait()
    found["files"] = sorted(path.name for path in (out / "four/step-00000001").iterdir())
    found["saved is as it was"] = batch_digest(saved_in(out / "four")) == batch_digest(before)
    found["it changed meanwhile"] = apart(before, after) > 0

    # The same on one process, as a plain run would have it.
    if rank == 0:
        plain, plain_optimizer = make()
        step(plain, plain_optimizer)
        found["four against one"] = apart(whole(plain, plain_optimizer), before)
        model_1, optimizer_1 = loaded(out / "four")
        found["4 to 1"] = batch_digest(whole(model_1, optimizer_1)) == batch_digest(before)
        step(model_1, optimizer_1)
        found["4 to 1, a step on"] = apart(whole(model_1, optimizer_1), after)
        single = Saver(out / "one", keep=3, group=alone)
        single.save(1, {**model_state(plain), **optimizer_state(plain, plain_optimizer)}, {})
    if rank < 2:
        model_2, optimizer_2 = loaded(out / "four", two)
        found["4 to 2"] = batch_digest(whole(model_2, optimizer_2)) == batch_digest(before)
        step(model_2, optimizer_2)
        found["4 to 2, a step on"] = apart(whole(model_2, optimizer_2), after)
    dist.barrier(group)
    model_4, optimizer_4 = loaded(out / "one", four)
    found["1 to 4"] = batch_digest(whole(model_4, optimizer_4)) == batch_digest(saved_in(out / "one"))

    # Replicated: names without DDP's, each rank writes a share.
    torch.manual_seed(0)
    inner = GPT(CONFIG.model)
    wrapped = DistributedDataParallel(inner, process_group=group)
    replicated = make_optimizer(wrapped, CONFIG)
    step(wrapped, replicated)
    saver = Saver(out / "ddp", keep=3, group=group)
    saver.save(1, {**model_state(wrapped), **optimizer_state(wrapped, replicated)}, {})
    found["ddp files"] = len(list((out / "ddp/step-00000001").iterdir()))
    found["ddp to 1"] = batch_digest(whole(*loaded(out / "ddp"))) == batch_digest(whole(wrapped, replicated))

    # A disk that is full on one rank: all are told, and what was there stays.
    working = checkpoint_storage.sync_file
    if rank == 2:
        checkpoint_storage.sync_file = full
    try:
        saver.save(2, {**model_state(wrapped), **optimizer_state(wrapped, replicated)}, {})
        found["full disk"] = "nothing"
    except NoSpaceError as error:
        found["full disk"] = str(error)
    checkpoint_storage.sync_file = working
    dist.barrier(group)
    found["after the full disk"] = sorted(path.name for path in (out / "ddp").iterdir())

    # A whole run's state: generators of each rank, the first rank's refusals for all.
    run = RunState(CONFIG, out / "run", wrapped, replicated, Place(), torch.device("cpu"))
    random_state.seed_everything(100 + rank)
    run.save(5)
    run.saver.wait()
    drawn = torch.rand(3).tolist()
    place = Place()
    again = RunState(CONFIG, out / "run", wrapped, replicated, place, torch.device("cpu"))
    point = again.resume("must")
    every = [None] * RANKS
    dist.all_gather_object(every, (torch.rand(3).tolist() == drawn, drawn[0], point.step, place.loaded), group=group)
    found["each rank draws on"] = [each[0] for each in every]
    found["their draws differ"] = len({each[1] for each in every}) == RANKS
    found["all stand at"] = [each[2:] for each in every]
    for way in ("must", "fresh"):
        nothing = RunState(CONFIG, out / way, wrapped, replicated, Place(), torch.device("cpu"))
        try:
            found[way] = nothing.resume(way)
        except DatapipeError as error:
            found[way] = error.got
    found["first"] = on_first(group, lambda: rank)
    told = [None] * RANKS
    dist.all_gather_object(told, {name: value for name, value in found.items() if isinstance(value, bool)}, group=group)
    found["everywhere"] = all(value for each in told for value in each.values())
    return found


def full(path):
    raise OSError(28, "No space left on device")


def main(out):
    children = []
    for rank in range(RANKS):
        child = os.fork()
        if not child:
            status = 1
            try:
                torch.set_num_threads(1)
                dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=RANKS)
                found = checks(rank, out)
                if rank == 0:
                    print(json.dumps(found, default=str), flush=True)
                dist.barrier()
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
