"""The training loop: batches in, a trained model and its checkpoints out.

What enters: a `TrainConfig`, a loader that can say where it stands, and a folder. What leaves: `out/checkpoints`,
`out/metrics.jsonl`, a `TrainResult`. Invariant: the numbers depend on config, model and loader alone. A run that was
stopped (at a step, by a signal, by SIGKILL) and started again computes what it would have, from its last checkpoint on.

    wait → h2d → forward → backward → (sync) → optimizer → (checkpoint)      the parts of a step, see `phases`
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, final

from datapipe.errors import ConfigError, TrainError
from datapipe.train import random_state
from datapipe.train.batches import Batches, check_loader
from datapipe.train.checkpoint_files import only_run_in
from datapipe.train.config import RESUME, TrainConfig
from datapipe.train.metrics_log import MetricsLog
from datapipe.train.model import GPT
from datapipe.train.optimizer import make_optimizer
from datapipe.train.phases import Phases
from datapipe.train.precision import choose_device, choose_precision, float32_products
from datapipe.train.result import StepRecord, TrainResult
from datapipe.train.run_state import RunState
from datapipe.train.schedule import make_schedule
from datapipe.train.step import Step
from datapipe.train.stop_signal import StopSignal

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import torch
    from torch import nn

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.step import Gradient

METRICS: Final = "metrics.jsonl"


def train(
    config: TrainConfig,
    loader: ResumableLoader,
    *,
    out: str | os.PathLike[str],
    model: nn.Module | None = None,
    resume: Literal["auto", "must", "fallback", "fresh"] = "auto",
    until: int | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> TrainResult:
    """Train until `config.steps` steps are done, beginning where the run in `out` stands.

    SIGTERM and Ctrl-C end it after the step in progress, with a checkpoint; a second one at once. Under a
    `datapipe.profile` the loop records its own steps and waits: give it the loader, not `prof.steps(loader)`. On CUDA,
    a loader made with device="cuda" copies beside the compute. Python's and torch's global generators are seeded.

    Args:
        loader: iterated over again at the end of each epoch, and left open. It is put where the checkpoint says.
        out: the run's folder, made if need be; one process at a time.
        model: an nn.Module with `loss_sum(batch)`; None: the GPT of `config.model`. It is moved to the device.
        resume: "auto": from the newest checkpoint, if there is one; "must": there has to be one; "fallback": from the
            newest that is not damaged; "fresh": begin anew, and delete the checkpoints that are there.
        until: stop once this many steps of the whole run are done, with a checkpoint; the schedule stays that of
            `config.steps`.
        on_step: called with each step's record, outside its clock.

    Raises:
        ConfigError: an argument is wrong. CheckpointError: the newest checkpoint is damaged, or of another run.
        TrainError: the loss or the gradient is not finite, there is nothing to learn from, or `out` is in use.
        NoSpaceError: a checkpoint finds no room. What the loader raises passes through.
    """
    began = time.perf_counter_ns()
    if resume not in RESUME:
        raise ConfigError(f"resume={resume!r}", expected=", ".join(RESUME))
    if until is not None and (isinstance(until, bool) or not isinstance(until, int) or until < 1):
        raise ConfigError(f"until={until!r}", expected="a whole number from 1, or None")
    check_loader(loader)
    device = choose_device(config.device)
    folder = Path(out)
    with only_run_in(folder), float32_products(device), StopSignal() as stop:
        run = _Run(config, loader, folder, device, _make_model(config, model))
        run.resume(resume)
        goal = config.steps if until is None else min(until, config.steps)
        run.phases.write("startup", -1, began, time.perf_counter_ns())
        return run.go(goal, stop, on_step)


def _make_model(config: TrainConfig, model: nn.Module | None) -> nn.Module:
    random_state.seed_everything(config.seed)
    if model is None:
        if config.model is None:
            raise ConfigError(
                "neither a model nor TrainConfig(model=…)", fix="model=GPTConfig(vocab_size=…, seq_len=…)"
            )
        return GPT(config.model)
    if not callable(getattr(model, "loss_sum", None)):
        raise ConfigError(
            f"a {type(model).__name__} without loss_sum",
            expected="a module with `loss_sum(batch)` → (the loss summed over its targets, their number)",
        )
    return model


@final
class _Run:
    """A run in progress: `step` steps are done."""

    def __init__(
        self, config: TrainConfig, loader: ResumableLoader, folder: Path, device: torch.device, model: nn.Module
    ) -> None:
        self.config = config
        self.loader = loader
        self.folder = folder
        self.device = device
        self.precision = choose_precision(config.precision, device)
        self.model = model.to(device).train()
        self.optimizer = make_optimizer(self.model, config)
        self.rate = make_schedule(config)
        self.phases = Phases(device)
        self.batches = Batches(loader, device, self.phases)
        self.stepper = Step(
            config, self.model, self.optimizer, self.batches, self.phases, device=device, precision=self.precision
        )
        self.step = 0
        self.state = RunState(config, folder, self.model, self.optimizer, loader, device)
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        if self.phases.recorder is not None:
            self.phases.recorder.notes |= {
                "parameters": self.parameters, "device": str(device), "precision": self.precision,
                "batches a step": config.accumulate,
            }  # fmt: skip

    def resume(self, how: str) -> None:
        """Put model, optimizer, generators and loader where the newest checkpoint says."""
        point = self.state.resume(how)
        if point is not None:
            self.step = point.step

    def go(self, goal: int, stop: StopSignal, on_step: Callable[[StepRecord], None] | None) -> TrainResult:
        """Steps until `goal` are done, or a signal came."""
        resumed_from, losses, tokens, spent = self.step, [], 0, 0
        every = self.config.checkpoint_every
        with MetricsLog(self.folder / METRICS, steps=self.step) as log, self.state.saver as saver:
            done = -1 if saver.newest is None else self.step  # the step of the newest checkpoint
            now = time.perf_counter_ns()
            try:
                while self.step < goal and stop.name is None:
                    self.batches.begin_step(self.step - resumed_from, now)
                    record = self._one_step()
                    if saver.due(self.step):
                        with self.phases("checkpoint"):
                            saver.wait()
                    log.write(record)
                    last = self.step == goal or stop.name is not None
                    if last or (every and self.step % every == 0):
                        with self.phases("checkpoint"):
                            self.state.save(self.step)
                            if last:
                                saver.wait()
                        done = self.step
                    spent += self.phases.elapsed
                    now = self.phases.end_step()
                    losses.append(record.loss)
                    tokens += record.tokens
                    if on_step is not None:
                        on_step(record)
                        now = time.perf_counter_ns()
                if done != self.step:
                    with self.phases("checkpoint"):
                        self.state.save(self.step)
                        saver.wait()
            finally:
                self.batches.close()
        assert saver.newest is not None
        return TrainResult(
            step=self.step, resumed_from=resumed_from, losses=tuple(losses), tokens=tokens, seconds=spent / 1e9,
            stopped=None if self.step >= self.config.steps else stop.name or "until",
            checkpoint=saver.newest, metrics=log.path, device=str(self.device), precision=self.precision,
            parameters=self.parameters, model=self.model,
        )  # fmt: skip

    def _one_step(self) -> StepRecord:
        """One update from `accumulate` batches."""
        phases = self.phases
        gradient = self.stepper.gradient()
        self._check(gradient)
        rate = self.rate(self.step)
        self.stepper.update(gradient, rate)
        self.step += 1
        spent = phases.spent
        compute = sum(spent.get(name, 0) for name in ("forward", "backward", "sync", "optimizer"))
        return StepRecord(
            step=self.step, loss=gradient.loss, lr=rate, grad_norm=gradient.norm, tokens=int(gradient.targets),
            rows=gradient.rows, tokens_per_s=gradient.targets / max(1, phases.elapsed) * 1e9,
            wait_ms=spent.get("wait", 0) / 1e6, compute_ms=compute / 1e6, epoch=self.batches.epoch,
        )  # fmt: skip

    def _check(self, gradient: Gradient) -> None:
        """Raise before the update, so that the model in memory stays the last good one."""
        step = self.step + 1
        if not gradient.targets:
            raise TrainError(
                f"step {step}: its batches have no target",
                expected="two tokens of one document in a row",
                fix="look at the dataset's segment_ids, or use a larger batch_size",
            )
        wrong_loss = not math.isfinite(gradient.loss_sum)
        if wrong_loss or not math.isfinite(gradient.norm_of_sum):
            what, value = ("loss", gradient.loss) if wrong_loss else ("gradient's norm", gradient.norm_of_sum)
            newest = self.state.saver.end()
            last = f"from {newest.name}, " if newest is not None else ""
            error = TrainError(
                f"step {step}: the {what} is {value}",
                expected="a finite number",
                fix=f"go on {last}with a lower lr, a longer warmup or clip=1.0; or look at the batch",
            )
            error.add_note(f"the loader stands at {self.loader.state_dict()}")
            raise error
