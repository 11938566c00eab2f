"""Other people's training loops take the loader as it is; skipped where they are not installed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

torch = pytest.importorskip("torch")
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def dataset(tmp_path):
    pq.write_table(pa.table({"id": list(range(120))}), tmp_path / "rows.parquet", row_group_size=10)
    return datapipe.open_dataset(tmp_path / "rows.parquet")


def test_lightnings_checkpoints_hold_the_state(dataset, tmp_path):
    """A fit that goes on from a checkpoint within an epoch sees the batches that would have come next."""
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(1, 1)
            self.seen = []

        def training_step(self, batch, _):
            self.seen.append(batch["id"].tolist())
            return self.line(batch["id"].float()[:, None]).mean() * 0

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(resumed=None, **options):
        module = Module()
        trainer = lightning.Trainer(max_epochs=2, default_root_dir=str(tmp_path), **QUIET, **options)
        with datapipe.DataLoader(dataset, 10, seed=1) as loader:
            trainer.fit(module, loader, ckpt_path=resumed, weights_only=False)
        return module.seen

    saver = ModelCheckpoint(dirpath=tmp_path / "saved", every_n_train_steps=5, save_top_k=-1, filename="{step}")
    whole = fit(callbacks=[saver])
    assert len(whole) == 24
    for step in (5, 15):
        assert fit(str(tmp_path / "saved" / f"step={step}.ckpt"), enable_checkpointing=False) == whole[step:]


def test_hugging_faces_trainer_takes_it(dataset, tmp_path):
    """From `get_train_dataloader`, which loads the state where it resumes; the Trainer then skips nothing itself."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(1, 1)
            self.seen = []

        def forward(self, id, **_):
            self.seen.append(id.tolist())
            return {"loss": self.line(id.float()[:, None]).mean() * 0}

    def train(state=None, resumed=None):
        loader = datapipe.DataLoader(dataset, 10, seed=1)
        if state is not None:
            loader.load_state_dict(state)

        class Trainer(transformers.Trainer):
            def get_train_dataloader(self):
                return loader

        class Saver(transformers.TrainerCallback):
            def on_save(self, args, trained, control, **_):
                states[trained.global_step] = loader.state_dict()

        options = transformers.TrainingArguments(
            str(tmp_path), max_steps=15, report_to=[], use_cpu=True, save_steps=5, disable_tqdm=True,
            ignore_data_skip=True,
        )  # fmt: skip
        model, states = Model(), {}
        Trainer(model, options, train_dataset=[0], callbacks=[Saver()]).train(resume_from_checkpoint=resumed)
        return model.seen, states

    whole, states = train()
    with datapipe.DataLoader(dataset, 10, seed=1) as loader:
        epochs = [batch["id"].tolist() for _ in range(2) for batch in loader]
    assert whole == epochs[:15]
    assert train(states[5], str(tmp_path / "checkpoint-5"))[0] == whole[5:]
