"""What looks at a run: spikes recorded, skipped or raised; evaluations, the best checkpoint and patience."""

import json
import math

import pytest
import torch

import datapipe
from datapipe.errors import CheckpointError, TrainError
from datapipe.train import load_checkpoint, train
from datapipe.train.digests import batch_digest
from datapipe.train.spikes import MOST_SKIPPED

STEPS, AT = 34, 30
QUIET = {"steps": STEPS, "spike_window": 40, "spike_sigma": 6.0, "lr": 1e-3, "checkpoint_every": 5, "keep": 9}


class Spiking(torch.nn.Module):
    """A GPT whose loss is multiplied at some batches, known by how their rows begin."""

    def __init__(self, inner, factor, tokens):
        super().__init__()
        self.inner, self.factor, self.tokens = inner, factor, tokens

    def loss_sum(self, batch):
        total, count = self.inner.loss_sum(batch)
        bad = self.training and batch["tokens"][:, :3].tolist() in self.tokens
        return total * (self.factor if bad else 1.0), count


@pytest.fixture
def run(tmp_path, make_config, make_loader, make_model, make_shape):
    """A run of 34 quiet steps, one batch of which is made to spike: that of step 30, or all from there on."""
    small = {"layers": 1, "width": 8, "heads": 1}

    def run(out="run", factor=50.0, bad=(AT,), until=None, evaluation=None, **told):
        loader = make_loader(batches=60)
        first = [loader.batch(0, step - 1)["tokens"][:, :3].tolist() for step in bad]
        model = Spiking(make_model(**small), factor, first)
        config = make_config(**QUIET | {"model": None} | told)
        return train(config, loader, out=tmp_path / out, model=model, until=until, evaluation=evaluation)

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(result):
    return batch_digest(dict(result.model.state_dict()))


def test_a_spike_is_written_down_and_changes_nothing(tmp_path, run):
    """With "record": one line with loss, limit and where the loader stood; the numbers are those of a run unwatched."""
    result = run()
    assert result.spikes == 1
    (told,) = lines(tmp_path / "run" / "spikes.jsonl")
    assert (told["step"], told["what"], told["action"], told["batches"]) == (AT, "loss", "record", None)
    assert told["limit"] < told["value"] == told["loss"] == result.losses[AT - 1]
    assert told["loader"]["position"] == AT
    record = lines(result.metrics)[AT - 1]
    assert record["spike"].endswith("recorded")
    unwatched = run("unwatched", spike_sigma=1e9)
    assert unwatched.losses == result.losses
    assert weights(unwatched) == weights(result)
    assert not (tmp_path / "unwatched" / "spikes.jsonl").exists()


@pytest.mark.parametrize("factor", [50.0, float("nan")])
def test_a_skipped_update_is_as_if_the_rate_had_been_nothing(run, factor):
    """Weights and moments stay; the step counts; stopped before or behind it, the run is the same to the bit."""
    whole = run("whole", factor=factor, on_spike="skip")
    assert (whole.step, whole.spikes) == (STEPS, 1)
    told = lines(whole.metrics)
    assert "update left out" in told[AT - 1]["spike"]
    assert math.isnan(factor) == (told[AT - 1]["loss"] is None)
    before, after = (load_checkpoint(run(f"{at}", factor=factor, on_spike="skip", until=at).checkpoint)
                     for at in (AT - 1, AT))  # fmt: skip
    for part in ("model_tensors", "optimizer_tensors"):
        assert batch_digest(getattr(before, part)()) == batch_digest(getattr(after, part)())
    for at in (f"{AT - 1}", f"{AT}"):
        assert weights(run(at, factor=factor, on_spike="skip")) == weights(whole)


def test_a_spike_that_raises_says_how_to_pass_it_and_then_it_is_passed(tmp_path, run, make_config):
    """With `skip` as the message says, the batch of that step is left out and the next one takes its place."""
    with pytest.raises(TrainError, match=f"step {AT}: the loss is .* above") as fault:
        run(on_spike="raise")
    assert f'skip={{"{AT - 1}": 1}}' in fault.value.fix
    assert "spikes.jsonl" in "".join(fault.value.__notes__)
    assert load_checkpoint(tmp_path / "run").step == 25
    passed = run(on_spike="raise", skip={AT - 1: 1})
    assert (passed.step, passed.resumed_from, passed.spikes) == (STEPS, 25, 0)
    assert lines(tmp_path / "run" / "spikes.jsonl") == []
    told = load_checkpoint(passed.checkpoint)
    assert told.state["loader"]["position"] == STEPS + 1
    for out, until in (("before", AT - 1), ("behind", AT)):
        run(out, on_spike="raise", skip={AT - 1: 1}, until=until)
        assert weights(run(out, on_spike="raise", skip={AT - 1: 1})) == weights(passed), out


def test_a_skip_that_a_checkpoint_is_past_is_refused(run):
    """It would be told and never done; so would one that was done and is no longer told."""
    run(until=12, skip={3: 2})
    with pytest.raises(CheckpointError, match=r"skip=\{3: 2, 7: 1\}.*step 12"):
        run(skip={3: 2, 7: 1})
    with pytest.raises(CheckpointError, match="skip"):
        run()
    assert run(until=13, skip={3: 2, 12: 1}).step == 13


def test_a_run_that_would_skip_for_ever_ends(run):
    """Ten updates in a row, not one more."""
    with pytest.raises(TrainError, match=f"step {20 + MOST_SKIPPED}: .* after {MOST_SKIPPED} updates in a row"):
        run(bad=range(20, 60), factor=float("nan"), on_spike="skip")


def test_the_rows_of_the_batches_are_written_down(tmp_path, make_config, make_model):
    """By a loader that can tell: `take` gives the very rows, of every batch of the step, over an epoch's end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = torch.randint(0, 61, (18, 24), generator=torch.Generator().manual_seed(0)).numpy()
    (tmp_path / "data").mkdir()
    table = pa.table({"tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), 24)})
    pq.write_table(table, tmp_path / "data" / "a.parquet", row_group_size=5)
    data = datapipe.open_dataset(tmp_path / "data")
    seen = []

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model()

        def loss_sum(self, batch):
            seen.append(batch["tokens"].clone())
            total, count = self.inner.loss_sum(batch)
            return total * (float("inf") if len(seen) == 4 else 1.0), count

    config = make_config(steps=3, accumulate=2)
    with datapipe.DataLoader(data, 6, seed=1, num_threads=1) as loader, pytest.raises(TrainError, match="step 2"):
        train(config, loader, out=tmp_path / "run", model=Broken())
    (told,) = lines(tmp_path / "run" / "spikes.jsonl")
    assert [(each["epoch"], each["batch"]) for each in told["batches"]] == [(0, 2), (1, 0)]
    for each, batch in zip(told["batches"], seen[2:], strict=True):
        assert tokens[each["rows"]].tolist() == batch.tolist()
        assert data.take(each["rows"])["tokens"].to_pylist() == batch.tolist()


def held_out(make_loader):
    loader = make_loader(batches=3, seed=9)
    return [loader.batch(0, place) for place in range(3)]


def test_evaluations_change_nothing_and_the_best_is_kept(tmp_path, run, make_loader):
    """Each fourth step; of all checkpoints the best and the newest are left."""
    told = {"bad": (), "keep": 1, "steps": 8, "checkpoint_every": 0, "lr": 3.0, "warmup": 9, "lr_floor": 1.0}
    plain = run("plain", **told)
    result = run("watched", evaluation=held_out(make_loader), eval_every=4, **told)
    assert weights(result) == weights(plain)
    found = {line["step"]: line["eval_loss"] for line in lines(result.metrics) if "eval_loss" in line}
    assert list(found) == [4, 8]
    best = min(found, key=found.get)
    assert best == 4, "the rate rises until it is too high: it gets worse"
    assert (result.best_loss, result.best.name) == (found[best], f"step-{best:08d}")
    left = sorted(path.name for path in (tmp_path / "watched" / "checkpoints").iterdir())
    assert left == [f"step-{best:08d}", "step-00000008"]
    # Stopped between two evaluations, it knows of the best before.
    run("parts", evaluation=held_out(make_loader), eval_every=4, until=6, **told)
    parts = run("parts", evaluation=held_out(make_loader), eval_every=4, **told)
    assert (parts.best_loss, parts.best.name) == (result.best_loss, result.best.name)
    assert parts.best.is_dir()


@pytest.mark.parametrize("until", [None, 5, 6, 7])
def test_patience_ends_a_run_wherever_it_was_stopped(run, make_loader, until):
    """After two evaluations that came no lower; run again it stays where it is; more patience goes on."""
    told = {"bad": (), "steps": 20, "lr": 1.0, "clip": None, "warmup": 4, "eval_every": 2, "patience": 2}
    told["evaluation"] = held_out(make_loader)
    if until is not None:
        run(until=until, **told)
    result = run(**told)
    found = [line["eval_loss"] for line in lines(result.metrics) if "eval_loss" in line]
    best = found.index(min(found))
    assert result.stopped == "patience"
    assert len(found) == best + 3
    assert result.step == 2 * len(found) < 20
    again = run(**told)
    assert (again.stopped, again.losses, again.step) == ("patience", (), result.step)
    if until is None:
        assert run(**{**told, "patience": None}).step == 20
