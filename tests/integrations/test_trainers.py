"""Other people's training loops, the real ones: each goes on from its own checkpoint with what would come next."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.errors import ConfigError, StateError

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

torch = pytest.importorskip("torch")
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def dataset(tmp_path):
    pq.write_table(pa.table({"id": list(range(120))}), tmp_path / "rows.parquet", row_group_size=10)
    return datapipe.open_dataset(tmp_path / "rows.parquet")


def loader(dataset, **options):
    return datapipe.DataLoader(dataset, 10, seed=1, **options)


def ids(batch):
    return batch["id"].tolist()


@pytest.fixture
def whole(dataset):
    """Three epochs of batches."""
    with loader(dataset) as fresh:
        return [ids(batch) for _ in range(3) for batch in fresh]


class TestLightning:
    @pytest.fixture
    def fit(self, dataset, tmp_path):
        """Train to the end of an epoch: what was seen, by the module's own account."""
        lightning = pytest.importorskip("lightning", reason="lightning is not installed")

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.line = torch.nn.Linear(1, 1)
                self.seen, self.validated = [], []

            def training_step(self, batch, _):
                self.seen.append(ids(batch))
                return self.line(batch["id"].float()[:, None]).mean() * 0

            def validation_step(self, batch, _):
                self.validated.append(ids(batch))

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        def fit(data, epochs=3, resumed=None, callbacks=(), **told):
            module = Module()
            trainer = lightning.Trainer(
                max_epochs=epochs, default_root_dir=str(tmp_path), callbacks=list(callbacks),
                enable_checkpointing=bool(callbacks), **QUIET,
            )  # fmt: skip
            trainer.fit(module, **{"datamodule" if hasattr(data, "setup") else "train_dataloaders": data},
                        ckpt_path=resumed, weights_only=False)  # fmt: skip
            return module

        return fit

    def saver(self, folder, **when):
        from lightning.pytorch.callbacks import ModelCheckpoint

        return ModelCheckpoint(dirpath=folder, save_top_k=-1, filename="{step}", **when)

    def test_the_loader_as_it_is(self, fit, dataset, whole, tmp_path):
        """Checkpoints within an epoch hold and restore its state."""
        saver = self.saver(tmp_path, every_n_train_steps=5)
        with loader(dataset) as fresh:
            assert fit(fresh, callbacks=[saver]).seen == whole
        for step in (5, 15):
            with loader(dataset) as fresh:
                assert fit(fresh, resumed=str(tmp_path / f"step={step}.ckpt")).seen == whole[step:]

    def test_as_a_data_module(self, fit, dataset, whole, tmp_path, monkeypatch):
        """At an epoch's end too, and from a run that was over; each loop has its loader, closed after it."""
        from datapipe.integrations.lightning_data import DataModule

        monkeypatch.setattr("datapipe.loader.executor.JOIN_SECONDS", 60)  # a busy machine's threads end late
        made = []

        def validation():
            made.append(datapipe.DataLoader(dataset, 40, shuffle=False))
            return made[-1]

        ran = fit(DataModule(lambda: loader(dataset), validate=validation), 2, callbacks=[self.saver(tmp_path)])
        assert ran.seen == whole[:24]
        assert ran.validated[-3:] == [list(range(at, at + 40)) for at in (0, 40, 80)]
        assert made[0].stats()["threads"] == 0
        for step in (12, 24):
            again = DataModule(lambda: loader(dataset))
            assert fit(again, resumed=str(tmp_path / f"step={step}.ckpt")).seen == whole[step:]

    def test_another_fit_goes_on(self, fit, dataset, whole):
        """The module keeps where the last fit left its loader."""
        from datapipe.integrations.lightning_data import DataModule

        data = DataModule(lambda: loader(dataset))
        assert fit(data, 1).seen == whole[:12]
        assert fit(data, 2).seen == whole[12:]


class TestTransformers:
    @pytest.fixture
    def train(self, dataset, tmp_path):
        """Train: the model with what it saw. Two batches an update."""
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        from datapipe.integrations.hugging_face import TakesLoader

        class Trainer(TakesLoader, transformers.Trainer):
            pass

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.line = torch.nn.Linear(1, 1)
                self.seen, self.evaluated = [], []

            def forward(self, id, **_):
                (self.seen if self.training else self.evaluated).append(id.tolist())
                return {"loss": self.line(id.float()[:, None] / 100).pow(2).mean()}

        def train(resumed=None, data=None, limit=None, **options):
            arguments = transformers.TrainingArguments(
                str(tmp_path), num_train_epochs=3, report_to=[], use_cpu=True, save_steps=4, disable_tqdm=True,
                gradient_accumulation_steps=2, eval_strategy="epoch", save_total_limit=limit,
            )  # fmt: skip
            model = Model()
            with data or loader(dataset) as fresh, datapipe.DataLoader(dataset, 60, shuffle=False) as held_out:
                trainer = Trainer(model, arguments, train_loader=fresh, eval_loader=held_out, **options)
                trainer.train(resume_from_checkpoint=resumed)
            return model

        return train

    def test_it_goes_on_from_a_checkpoint(self, train, whole, tmp_path):
        """Within an epoch and after one: the same batches and weights, none read to be dropped; `True`: the newest."""
        straight = train()
        assert straight.seen == whole
        assert [len(rows) for rows in straight.evaluated] == [60, 60] * 3
        for step, resumed in ((4, str(tmp_path / "checkpoint-4")), (12, str(tmp_path / "checkpoint-12")), (18, True)):
            again = train(resumed)
            assert again.seen == whole[2 * step :]
            assert torch.equal(again.line.weight, straight.line.weight) or step == 18

    def test_a_run_killed_as_it_removes_old_checkpoints_goes_on(self, train, whole, tmp_path, monkeypatch):
        """With save_total_limit=1 the newest is the only one there will be: it has the loader's state by then."""
        import transformers.trainer

        class Killed(BaseException):
            pass

        def killed(**_):
            raise Killed

        straight = train()
        shutil.rmtree(tmp_path / "checkpoint-4")
        monkeypatch.setattr(transformers.trainer, "rotate_checkpoints", killed)
        with pytest.raises(Killed):
            train(limit=1)
        monkeypatch.undo()
        again = train(str(tmp_path / "checkpoint-4"))
        assert again.seen == whole[8:]
        assert torch.equal(again.line.weight, straight.line.weight)

    def test_what_does_not_fit_is_refused(self, train, dataset, tmp_path):
        """A checkpoint without the loader's state, one of other settings, two sources of data."""
        train()
        with pytest.raises(StateError, match="seed"):
            train(True, datapipe.DataLoader(dataset, 10, seed=2))
        for path in tmp_path.glob("checkpoint-*/loader.json"):
            path.write_text("{")
        with pytest.raises(StateError, match=r"loader\.json"):
            train(True)
        with pytest.raises(ConfigError, match="train_dataset"):
            train(train_dataset=[0])


def test_accelerate_saves_and_loads_it(dataset, whole, tmp_path):
    """`register_for_checkpointing` is all it takes; `prepare` leaves the loader as it is."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

    def run(start, stop):
        accelerator = accelerate.Accelerator(cpu=True)
        with loader(dataset) as fresh:
            _, data = accelerator.prepare(torch.nn.Linear(1, 1), fresh)
            assert data is fresh
            accelerator.register_for_checkpointing(data)
            if start:
                accelerator.load_state(str(tmp_path / "saved"))
            seen = []
            while len(seen) < stop - start:
                for batch in data:
                    seen.append(ids(batch))
                    if len(seen) == stop - start:
                        break
            accelerator.save_state(str(tmp_path / "saved"))
            return seen

    assert run(0, 17) + run(17, 36) == whole


@pytest.mark.parametrize("taken", [0, 5, 12, 17, 24])
def test_the_protocol_of_the_stateful_loader(dataset, whole, taken):
    """`state_dict` and `load_state_dict` as torchdata's, while iterating and between epochs, into a new loader.

    Within an epoch the same code drives both: each goes on with what its own uninterrupted run gives next.
    """
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def theirs():
        return stateful.StatefulDataLoader(range(120), batch_size=10, shuffle=False)

    def interrupted(make, read):
        data, seen = make(), []
        while len(seen) < taken:
            for batch in data:
                seen.append(read(batch))
                if len(seen) == taken:
                    break
        state = json.loads(json.dumps(data.state_dict())) if make is not theirs else data.state_dict()
        again = make()
        again.load_state_dict(state)
        return (seen + [read(batch) for _ in range(3) for batch in again])[:36]

    assert interrupted(lambda: loader(dataset), ids) == whole
    if taken % 12:
        assert interrupted(theirs, torch.Tensor.tolist) == [list(range(at, at + 10)) for at in range(0, 120, 10)] * 3
