"""The demo's training run: the same loader and model in the process that stops and in the one that goes on.

What enters: the dataset the demo made. What leaves: a profiled run with its checkpoint, and the digests of the
batches that follow
it: as a loader that never stopped gives them, and as a fresh process finds them. Invariant: both sides build loader
and model from the same few numbers in this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import CorpusError, TrainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader import DataLoader
    from datapipe.train import StepRecord, TrainConfig

BATCH: Final = 8
EXTRA: Final = 10
"""Steps that the fresh process adds."""
_COMPARED: Final = 3
_TELL_EVERY: Final = 20


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the first process did. `digests` are the batches that come next in a loader that never stopped."""

    steps: int
    first_loss: float
    last_loss: float
    tokens_per_s: float
    device: str
    precision: str
    parameters: int
    epoch: int
    position: int
    epoch_steps: int
    digests: tuple[str, ...]

    @property
    def learnt(self) -> bool:
        """Whether the loss fell."""
        return self.last_loss < self.first_loss

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"learnt": self.learnt}


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What the fresh process did: (expected, found) digests of the next batches, and the loss it went on with."""

    pairs: tuple[tuple[str, str], ...]
    steps: int
    loss: float

    @property
    def same(self) -> bool:
        """Whether it had the very batches it should have had."""
        return all(expected == found for expected, found in self.pairs)


def make_loader(out: Path, device: str | None = None) -> DataLoader:
    """The loader of the demo's dataset, from its first batch on."""
    from datapipe import DataLoader, open_dataset

    dataset = open_dataset(str(out / "dataset"), columns=["tokens", "segment_ids"])
    if not len(dataset):
        raise CorpusError(
            "no document was left to train on: the ledger above says what dropped them",
            expected="at least one row of tokens",
            fix="give more or other text: datapipe demo --input FOLDER",
        )
    return DataLoader(dataset, batch_size=min(BATCH, len(dataset)), seed=0, device=device)


def make_config(out: Path, steps: int, device: str) -> TrainConfig:
    """A model of about 2 million parameters for the demo's vocabulary; `steps` and `EXTRA` more make the run."""
    from datapipe import open_dataset
    from datapipe.train import GPTConfig, TrainConfig

    dataset = open_dataset(str(out / "dataset"))
    assert dataset.manifest is not None
    assert dataset.manifest.vocabulary is not None
    seq_len = dataset.schema.field("tokens").type.list_size
    model = GPTConfig(vocab_size=dataset.manifest.vocabulary.size, seq_len=seq_len, layers=4, heads=4, width=128)
    return TrainConfig(steps=steps + EXTRA, model=model, warmup=10, checkpoint_every=40, device=device)


def train_profiled(out: Path, *, steps: int, device: str, tell: Callable[[str], None]) -> Trained:
    """Train `steps` steps under a profile; a run that was interrupted goes on, one that was finished begins anew."""
    # Measured on 2 busy cores: threads that spin for their turn cost 2.6 s a step, threads that sleep 0.6 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from datapipe.profiling import profile
    from datapipe.train import load_checkpoint, train
    from datapipe.train.precision import choose_device

    folder = out / "train"
    target = choose_device(device)
    before = _unfinished(out, steps)
    if before:
        tell(f"going on after step {before}, from its checkpoint")

    def on_step(record: StepRecord) -> None:
        prof.count_rows(record.rows)
        if record.step == 1 or record.step % _TELL_EVERY == 0:
            tell(f"step {record.step:>4}  loss {record.loss:.3f}  {record.tokens_per_s:,.0f} tokens/s")

    with (
        make_loader(out, None if target.type == "cpu" else str(target)) as loader,
        profile(out / "profile", title="datapipe demo") as prof,
    ):
        result = train(
            make_config(out, steps, device),
            loader,
            out=folder,
            resume="auto" if before else "fresh",
            until=steps,
            on_step=on_step,
        )
    if result.stopped in {"SIGINT", "SIGTERM"}:
        raise KeyboardInterrupt
    state = load_checkpoint(result.checkpoint).state["loader"]
    losses = [json.loads(line)["loss"] for line in result.metrics.read_text().splitlines()]
    tenth = max(1, len(losses) // 10)
    return Trained(
        steps=result.step,
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
        tokens_per_s=result.tokens / result.seconds,
        device=result.device,
        precision=result.precision,
        parameters=result.parameters,
        epoch=state["epoch"],
        position=state["position"],
        epoch_steps=len(make_loader(out)),
        digests=tuple(_digests(out, None, result.step)),
    )


def _unfinished(out: Path, steps: int) -> int:
    """The step at which an earlier run on this very dataset stopped before `steps`; 0: there is none."""
    from datapipe import open_dataset
    from datapipe.errors import CheckpointError
    from datapipe.train import latest_checkpoint, load_checkpoint

    newest = latest_checkpoint(out / "train")
    if newest is None:
        return 0
    try:
        checkpoint = load_checkpoint(newest)
    except CheckpointError:
        return 0
    here = open_dataset(str(out / "dataset")).fingerprint
    return checkpoint.step if checkpoint.step < steps and checkpoint.state["loader"]["fingerprint"] == here else 0


def _digests(out: Path, state: dict[str, Any] | None, skip: int) -> list[str]:
    from datapipe.train import next_batch_digests

    with make_loader(out) as loader:
        if state is not None:
            loader.load_state_dict(state)
        return next_batch_digests(loader, skip + _COMPARED)[skip:]


def resume_check(out: Path, trained: Trained, *, device: str) -> Resumed:
    """Start a fresh process on the checkpoint, and compare the batches it finds with those that should come.

    Raises:
        TrainError: the fresh process failed.
    """
    command = [sys.executable, "-m", "datapipe.cli.demo.training", str(out), str(trained.steps), device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own module)
    if done.returncode:
        raise TrainError(f"the fresh process ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    pairs = tuple(zip(trained.digests, found["digests"], strict=True))
    return Resumed(pairs=pairs, steps=found["steps"], loss=found["loss"])


def _in_fresh_process(out: Path, steps: int, device: str) -> dict[str, Any]:
    """What the fresh process does: read the checkpoint, look at the next batches, train `EXTRA` steps more."""
    from datapipe.train import latest_checkpoint, load_checkpoint, train
    from datapipe.train.precision import choose_device

    newest = latest_checkpoint(out / "train")
    assert newest is not None
    digests = _digests(out, load_checkpoint(newest).state["loader"], 0)
    target = choose_device(device)
    with make_loader(out, None if target.type == "cpu" else str(target)) as loader:
        result = train(make_config(out, steps, device), loader, out=out / "train", resume="must")
    return {"digests": digests, "steps": result.step - result.resumed_from, "loss": result.losses[-1]}


if __name__ == "__main__":
    print(json.dumps(_in_fresh_process(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
