"""A whole run's checkpoints: what fails is raised in the run, what is there is whole, what moves goes on."""

import os
import pickle
import signal
import threading

import pytest
import torch
import torch.distributed as dist

from datapipe.errors import CheckpointError, NoSpaceError
from datapipe.train import checkpoint_storage, latest_checkpoint, load_checkpoint, train
from datapipe.train.checkpoint import checkpoints
from datapipe.train.digests import batch_digest


@pytest.fixture
def run(tmp_path, make_config, make_loader):
    def run(name="run", loader=None, **changes):
        told = {"steps": 9, "checkpoint_every": 3} | changes
        return train(make_config(**told), make_loader() if loader is None else loader, out=tmp_path / name)

    return run


def weights(result):
    return batch_digest(dict(result.model.state_dict()))


@pytest.mark.parametrize(("number", "kind"), [(28, NoSpaceError), (30, CheckpointError)])
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_write_that_fails_ends_the_run_at_the_next_step_and_costs_an_interval(
    tmp_path, run, monkeypatch, number, kind, lag
):
    """The checkpoint before is whole, nothing half-written stays, and with room again the run ends as it would have."""
    whole = run("whole")
    real = checkpoint_storage.sync_file

    def full(path):
        if "00000006" in str(path):
            raise OSError(number, "of the disk")
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_storage, "sync_file", full)
        with pytest.raises(kind, match="step-00000006"):
            run(checkpoint_lag=lag)
    logged = (tmp_path / "run" / "metrics.jsonl").read_text().count("\n")
    assert 6 <= logged <= 6 + max(0, lag - 1)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000003"]
    rest = run()
    assert rest.resumed_from == 3
    assert weights(rest) == weights(whole)


def test_a_signal_while_one_is_being_written_ends_with_both(tmp_path, run, make_loader):
    """That of the interval is not torn by that of the end."""

    def strike(position, batch):
        if position == 4:  # the checkpoint of step 3 has just begun
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    stopped = run(loader=make_loader(change=strike))
    assert stopped.stopped == "SIGTERM"
    assert [load_checkpoint(path).step for path in checkpoints(tmp_path / "run")] == [3, 4]
    assert weights(run()) == weights(run("whole"))


def test_the_group_is_the_threads_until_the_one_before_is_written(tmp_path, run, monkeypatch):
    """Ranks that exchange their generators while it still talks would read each other's messages: it is waited for."""
    gate, seen = threading.Event(), []
    real, sync = dist.all_gather_object, checkpoint_storage.sync_file

    def late(path):
        if "00000003" in str(path):
            assert gate.wait(60)
        sync(path)

    def gather(*args, **told):
        seen.append(sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step-*")))
        return real(*args, **told)

    monkeypatch.setattr(checkpoint_storage, "sync_file", late)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        threading.Timer(0.3, gate.set).start()
        run(steps=6, checkpoint_lag=9)
    finally:
        gate.set()
        dist.destroy_process_group()
    assert seen == [[], ["step-00000003"]]


def test_without_an_evaluation_the_best_is_the_lowest_loss_since_the_one_before(tmp_path, run):
    """Kept besides the newest, with its score."""
    result = run(keep=1, keep_best=True, lr=20.0, warmup=6, clip=None)  # it comes out worse than it was
    means = {step: sum(result.losses[step - 3 : step]) / 3 for step in (3, 6, 9)}
    best = min(means, key=lambda step: means[step])
    assert best < 9
    kept = checkpoints(tmp_path / "run")
    assert [path.name for path in kept] == [f"step-{best:08d}", "step-00000009"]
    assert load_checkpoint(kept[0]).state["score"] == pytest.approx(means[best])


def test_nothing_is_unpickled_and_nothing_that_is_written_is_a_pickle(tmp_path, run, monkeypatch):
    """A run saves, stops and goes on where every way to load a pickle raises; its files are safetensors and JSON."""
    run(steps=3)

    def refused(*args, **kwargs):
        raise AssertionError("a pickle was loaded")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refused)
    assert run(steps=6).resumed_from == 3
    for path in (tmp_path / "run/checkpoints").rglob("*"):
        assert path.is_dir() or path.suffix in {".safetensors", ".json"}
        assert path.is_dir() or path.read_bytes()[:1] != b"\x80"


def test_a_parameter_that_is_trained_no_more_is_refused(tmp_path, run, make_config, make_loader, make_model):
    """Its moments would be lost without a word."""
    run(steps=2)
    model = make_model()
    model.embedding.weight.requires_grad_(requires_grad=False)
    with pytest.raises(CheckpointError, match="embedding.weight/exp_avg"):
        train(make_config(steps=4, checkpoint_every=3), make_loader(), out=tmp_path / "run", model=model)


def test_a_parameter_that_no_gradient_reached_goes_on_too(tmp_path, make_config, make_loader, make_shape):
    """The optimizer has no state of it, before and after."""
    from datapipe.train import GPT

    class Spare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.inner = GPT(make_shape())
            self.spare = torch.nn.Parameter(torch.ones(3))

        def loss_sum(self, batch):
            return self.inner.loss_sum(batch)

    def go(name, until=None):
        return train(make_config(), make_loader(), out=tmp_path / name, model=Spare(), until=until)

    whole = go("whole")
    go("run", 5)
    assert weights(go("run")) == weights(whole)
    assert "spare/exp_avg" not in load_checkpoint(latest_checkpoint(tmp_path / "run")).optimizer_tensors()
