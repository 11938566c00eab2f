"""The loop: what it computes, what it records, how it ends."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import datapipe
from datapipe.errors import CheckpointError, ConfigError, TrainError
from datapipe.train import GPT, latest_checkpoint, load_checkpoint, train
from datapipe.train.digests import batch_digest
from tests.train.conftest import weights


def test_the_loss_falls(run):
    """On rows with a rule to learn it falls well below guessing."""
    result = run(steps=80, lr=1e-2)
    assert result.losses[0] == pytest.approx(math.log(61), abs=0.2)
    assert sum(result.losses[-5:]) / 5 < 0.75 * result.losses[0]
    assert (result.step, result.stopped, result.resumed_from) == (80, None, 0)
    assert result.parameters == result.model.parameter_count()
    assert result.tokens_per_s > 0


def test_accumulated_batches_weigh_by_their_targets(run, make_loader):
    """Four small batches with uneven padding make the step of one large batch of the same rows."""

    class Joined:
        """All four batches of an epoch as one."""

        def __init__(self, inner):
            self.inner = inner
            self.state_dict, self.load_state_dict = inner.state_dict, inner.load_state_dict

        def __iter__(self):
            parts = list(self.inner)
            counts = {int((part["segment_ids"] == 0).sum()) for part in parts}
            assert len(counts) > 1  # a plain mean of means would be wrong
            return iter([{name: torch.cat([part[name] for part in parts]) for name in parts[0]}])

    small, large = [], []
    run(make_loader(batches=4), accumulate=4, steps=3, on_step=small.append)
    run(Joined(make_loader(batches=4)), resume="fresh", steps=3, on_step=large.append)
    assert [r.tokens for r in small] == [r.tokens for r in large]
    assert [r.rows for r in small] == [r.rows for r in large] == [16] * 3
    for name in ("loss", "grad_norm"):
        got, expected = ([getattr(r, name) for r in records] for records in (small, large))
        assert got == pytest.approx(expected, rel=1e-5), name


def test_clipping_bounds_the_update_and_reports_the_norm_before_it(run):
    """With SGD-like first moments the same norm is reported, clipped or not; the weights differ."""
    free, bound = [], []
    a = run(steps=2, clip=None, on_step=free.append)
    b = run(steps=2, clip=1e-9, eps=1e-3, resume="fresh", on_step=bound.append)
    assert free[0].grad_norm == bound[0].grad_norm > 1e-3
    assert weights(a) != weights(b)
    # A gradient of norm 1e-9 against eps 1e-3 moves nothing but by weight decay: the loss stays.
    assert bound[1].loss == pytest.approx(bound[0].loss, abs=0.2)


def test_epochs_follow_each_other_until_the_steps_are_done(run, make_loader):
    records = []
    run(make_loader(batches=5), steps=12, on_step=records.append)
    assert [r.epoch for r in records] == [0] * 5 + [1] * 5 + [2] * 2
    assert [r.step for r in records] == list(range(1, 13))
    assert len({r.loss for r in records}) == 12


def test_the_rate_follows_the_schedule(run):
    records = []
    run(steps=10, warmup=4, lr=1.0e-3, on_step=records.append)
    assert [r.lr for r in records[:4]] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert records[-1].lr == pytest.approx(1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("until", [1, 5, 11])
def test_stopping_and_going_on_changes_no_bit(tmp_path, run, precision, until):
    """At an epoch's end or inside one, whatever the precision, the losses and weights are those of one run."""
    whole = run(out=tmp_path / "whole", precision=precision)
    first = run(out=tmp_path / "parts", precision=precision, until=until)
    then = run(out=tmp_path / "parts", precision=precision, resume="must")
    assert (first.stopped, first.step, then.resumed_from, then.step) == ("until", until, until, 12)
    assert first.losses + then.losses == whole.losses
    assert weights(then) == weights(whole)


def test_random_parts_of_a_model_go_on_too(tmp_path, run, make_model):
    """Dropout after a resume is the dropout that would have been."""

    class Dropping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model()

        def loss_sum(self, batch):
            total, count = self.inner.loss_sum(batch)
            return total * torch.nn.functional.dropout(torch.ones(8), 0.5).mean(), count

    whole = run(out=tmp_path / "whole", model=Dropping())
    first = run(out=tmp_path / "parts", model=Dropping(), until=7)
    then = run(out=tmp_path / "parts", model=Dropping())
    assert first.losses + then.losses == whole.losses
    assert len(set(whole.losses)) == 12
    assert weights(then) == weights(whole)


def test_a_finished_run_is_not_run_again_but_can_be_extended(run):
    first = run(steps=6)
    again = run(steps=6)
    assert (again.losses, again.step, again.stopped, weights(again)) == ((), 6, None, weights(first))
    more = run(steps=9)
    assert (more.resumed_from, more.step, len(more.losses)) == (6, 9, 3)


def test_checkpoints_come_at_their_interval_and_at_the_end(tmp_path, run):
    run(steps=11, checkpoint_every=4, keep=9)
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000004", "step-00000008", "step-00000011"]
    assert load_checkpoint(tmp_path / "run").state["loader"] == {"epoch": 2, "position": 1, "seed": 0}


def test_another_configuration_is_not_resumed(run):
    """The message names every difference; nothing is trained."""
    run(until=3)
    with pytest.raises(CheckpointError, match=r"lr 0.003, here 0.001; accumulate 1, here 2") as fault:
        run(lr=1e-3, accumulate=2)
    assert 'resume="fresh"' in fault.value.fix


def test_fresh_begins_anew(tmp_path, run):
    """The checkpoints and the log of the run before are gone."""
    run(until=7, checkpoint_every=2, keep=5)
    result = run(until=2, resume="fresh", lr=1e-3)
    assert (result.resumed_from, result.step) == (0, 2)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    assert len(result.metrics.read_text().splitlines()) == 2


def test_must_needs_a_checkpoint(run):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run(resume="must")


def test_a_damaged_checkpoint_stops_the_run_unless_asked(tmp_path, run):
    """Then "fallback" goes on from the one before, to the very same end, and sets the damaged one aside."""
    whole = run(out=tmp_path / "whole")
    run(until=8, checkpoint_every=4)
    newest = latest_checkpoint(tmp_path / "run")
    (newest / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="step-00000008"):
        run()
    result = run(resume="fallback")
    assert (result.resumed_from, weights(result)) == (4, weights(whole))
    assert (newest.parent / "damaged-step-00000008").is_dir()
    assert run().step == 12


def test_labels_are_smoothed_while_training_and_not_while_evaluating(tmp_path, run, make_loader, make_model):
    """The loss that is learnt from is torch's smoothed one; the evaluation's is the plain one of the same weights."""
    batch = make_loader().batch(0, 0)
    plain = run(out=tmp_path / "plain", steps=1, evaluation=[batch])
    smooth = run(out=tmp_path / "smooth", steps=1, evaluation=[batch], label_smoothing=0.2)
    assert smooth.losses[0] > plain.losses[0] > 0
    model = smooth.model.eval()
    assert smooth.best_loss == pytest.approx(model.loss(batch).item(), rel=1e-6)
    model.label_smoothing = 0.2
    assert model.loss(batch).item() == pytest.approx(smooth.best_loss, rel=1e-6), "only while training"
    assert model.train().loss(batch).item() > smooth.best_loss
    with pytest.raises(ConfigError, match="label_smoothing=0.2 with a Spoilt"):
        run(model=Spoilt(make_model(), 1.0), label_smoothing=0.2)


def test_a_model_may_be_made_by_the_run(tmp_path, run, make_shape):
    """A function is called once the seed is set: the weights are those of the built-in model of that seed."""
    built_in = run(out=tmp_path / "a", steps=2, seed=3)
    torch.manual_seed(99)
    made = run(out=tmp_path / "b", steps=2, seed=3, model=lambda: GPT(make_shape()))
    assert weights(made) == weights(built_in)


class Spoilt(torch.nn.Module):
    """A GPT whose loss is `value` times itself at its 4th call."""

    def __init__(self, inner, value):
        super().__init__()
        self.inner, self.value, self.calls = inner, value, 0

    def loss_sum(self, batch):
        self.calls += 1
        total, count = self.inner.loss_sum(batch)
        return total * (self.value if self.calls == 4 else 1.0), count


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_its_step(tmp_path, run, make_model, value):
    """It stops before the update: the weights in memory are those of the step before, and no checkpoint has it."""
    model = Spoilt(make_model(), value)
    with pytest.raises(TrainError, match=f"step 4: the loss is {value}") as fault:
        run(model=model, checkpoint_every=3)
    assert "step-00000003" in fault.value.fix
    assert any("spikes.jsonl" in note for note in fault.value.__notes__)
    assert json.loads((tmp_path / "run/spikes.jsonl").read_text())["loader"]["position"] == 4
    assert load_checkpoint(tmp_path / "run").step == 3
    saved = load_checkpoint(tmp_path / "run").model_tensors()
    assert batch_digest(saved) == batch_digest(dict(model.state_dict()))


def test_a_gradient_that_is_no_number_is_found_too(run, make_model):
    """A finite loss whose gradient overflows float32."""

    class Steep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model()

        def loss_sum(self, batch):
            total, count = self.inner.loss_sum(batch)
            return (total * 1e-30) * 1e30 * 1e30 * 1e-30 + (total - total.detach()) * 1e38 * 10, count

    with pytest.raises(TrainError, match="step 1: the gradient's norm is (inf|nan)"):
        run(model=Steep())


def test_batches_without_a_target_are_refused(run, make_loader):
    def empty(_, batch):
        return {**batch, "segment_ids": torch.zeros_like(batch["segment_ids"])}

    with pytest.raises(TrainError, match="step 1: its batches have no target"):
        run(make_loader(change=empty))


def test_a_loader_without_batches_is_refused(run, make_loader):
    with pytest.raises(TrainError, match="an epoch without a batch"):
        run(make_loader(batches=0))


def test_what_the_loader_raises_passes_through(run, make_loader):
    def fail(position, batch):
        if position == 3:
            raise datapipe.DatapipeError("a broken shard")
        return batch

    with pytest.raises(datapipe.DatapipeError, match="a broken shard"):
        run(make_loader(change=fail))


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"loader": [1, 2]}, "list without state_dict and load_state_dict"), ({"resume": "yes"}, "resume='yes'"),
     ({"until": 0}, "until=0"), ({"model": torch.nn.Linear(2, 2)}, "Linear without loss_sum"),
     ({"device": "gpu"}, "device="), ({"precision": "fp8"}, "fp8")],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_is_made(run, changes, match):
    with pytest.raises(ConfigError, match=match):
        run(**changes)


def test_without_a_model_it_asks_for_one(tmp_path, make_loader, make_config):
    with pytest.raises(ConfigError, match="neither a model"):
        train(make_config(model=None), make_loader(), out=tmp_path)


def test_a_profile_of_the_loop_adds_up(run, make_loader):
    """Profiled, the run has as many steps as were done, each with its wait, and a small remainder."""
    with datapipe.profile() as prof:
        result = run(make_loader(batches=5), on_step=lambda record: prof.count_rows(record.rows))
    summary = prof.summary()
    assert summary.series.count == 12
    assert {"wait", "forward", "backward", "optimizer"} <= {part.name for part in summary.parts}
    assert summary.samples == 12 * 4
    assert result.step == 12


def test_a_profile_of_the_loop_knows_its_loader(run, make_model, tmp_path):
    """Its settings are among the run's facts, so that there can be advice about them."""
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(64 * 16) % 50, pa.uint16()), 16)
    pq.write_table(pa.table({"tokens": tokens}), tmp_path / "a.parquet")
    dataset = datapipe.open_dataset(tmp_path / "a.parquet")
    with datapipe.DataLoader(dataset, 4, num_threads=2) as loader, datapipe.profile() as prof:
        run(loader, steps=6, model=make_model(vocab_size=50, seq_len=16))
    summary = prof.summary()
    assert summary.notes["loader"] == "datapipe.DataLoader"
    assert summary.notes["loader.num_threads"] == 2
    assert summary.advice is None or "not one whose options are known" not in summary.advice.sentence


def test_the_loader_is_left_open_and_its_epoch_closed(run, make_loader):
    closed = []
    loader = make_loader(batches=9)
    original = loader.__class__.__iter__

    class Watched(loader.__class__):
        def __iter__(self):
            iterator = original(self)
            iterator.close = lambda: closed.append(self.position)
            return iterator

    watched = Watched(batches=9)
    run(watched, steps=12)
    assert closed == [9, 3]
    assert watched.closed == 0


@pytest.mark.cuda
def test_on_cuda_it_learns_and_goes_on(tmp_path, cuda, run):
    """bf16 on the GPU: the loss falls, host batches are moved, and a stop changes no loss."""
    whole = run(out=tmp_path / "whole", steps=60, lr=1e-2, device="cuda", precision="auto")
    assert (whole.device, whole.precision) == (str(cuda), "bf16")
    assert sum(whole.losses[-5:]) / 5 < 0.75 * whole.losses[0]
    first = run(out=tmp_path / "parts", steps=60, lr=1e-2, device="cuda", precision="auto", until=31)
    then = run(out=tmp_path / "parts", steps=60, lr=1e-2, device="cuda", precision="auto")
    assert first.losses + then.losses == pytest.approx(whole.losses, rel=1e-3)
