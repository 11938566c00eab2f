"""The training loop: batches in, a trained model and its checkpoints out.

What enters: a `TrainConfig`, a loader that can say where it stands, and a folder. What leaves: `out/checkpoints`,
`out/metrics.jsonl`, `out/spikes.jsonl` if there were any, a `TrainResult`. Invariant: the numbers depend on config,
model and loader alone. A run that was stopped (at a step, by a signal, by SIGKILL) and started again computes what it
would have, from its last checkpoint on.

    wait → h2d → forward → backward → (sync) → optimizer → (evaluate) → (checkpoint)   the parts of a step: `phases`
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, final

from torch import nn

from datapipe.errors import ConfigError
from datapipe.train import random_state
from datapipe.train.batches import Batches, check_loader
from datapipe.train.checkpoint_files import only_run_in
from datapipe.train.checkpoint_loading import as_saved
from datapipe.train.config import RESUME, TrainConfig
from datapipe.train.meter import Meter
from datapipe.train.metrics_log import MetricsLog
from datapipe.train.model import GPT
from datapipe.train.optimizer import make_optimizer
from datapipe.train.phases import Phases
from datapipe.train.precision import choose_device, choose_precision, float32_products
from datapipe.train.ranks import ranks_of
from datapipe.train.result import StepRecord, TrainResult
from datapipe.train.run_state import RunState
from datapipe.train.schedule import make_schedule
from datapipe.train.skips import check_skips, pass_over
from datapipe.train.step import Step
from datapipe.train.stop_signal import StopSignal
from datapipe.train.strategy import Strategy
from datapipe.train.watch import Watch

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.evaluation import EvaluationLoader

METRICS: Final = "metrics.jsonl"


def train(
    config: TrainConfig,
    loader: ResumableLoader,
    *,
    out: str | os.PathLike[str],
    model: nn.Module | Callable[[], nn.Module] | None = None,
    evaluation: EvaluationLoader | None = None,
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
        model: an nn.Module with `loss_sum(batch)` (`datapipe.train.Supervised` gives any module one), or what makes it,
            called after the generators were seeded; None: the GPT of `config.model`. It is moved to the device.
        evaluation: a loader whose every batch is evaluated on each `config.eval_every` steps and after the last; the
            checkpoint of the lowest loss is kept. Let it give all rows: `tail="partial"`; on several processes "pad",
            with a model that heeds `mask`, as some may have none of the last rows.
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
    folder = Path(out)
    with ExitStack() as stack:
        ranks = stack.enter_context(ranks_of(config.layout, config.device))
        ranks.check(config, loader)
        if ranks.lead:
            stack.enter_context(only_run_in(folder))
        device = choose_device(config.device)
        precision = choose_precision(config.precision, device)
        stack.enter_context(float32_products(device, precision))
        stop = stack.enter_context(StopSignal())
        if evaluation is not None:
            config = replace(config, keep_best=True)
        made = _make_model(config, model)
        meter = Meter(made, device, precision, config.peak_flops, devices=ranks.world)
        strategy = Strategy(made, config, ranks, device=device, precision=precision)
        if ranks.data_rank:
            # The weights are drawn; what the model draws from here on differs from replica to replica.
            random_state.seed_everything(config.seed + ranks.data_rank)
        watch = Watch(config, folder, loader, evaluation, writes=ranks.lead)
        run = _Run(config, loader, folder, strategy, meter, watch)
        run.resume(resume)
        goal = config.steps if until is None else min(until, config.steps)
        run.phases.write("startup", -1, began, time.perf_counter_ns())
        return run.go(goal, stop, on_step)


def _make_model(config: TrainConfig, model: nn.Module | Callable[[], nn.Module] | None) -> nn.Module:
    random_state.seed_everything(config.seed)
    if model is None:
        if config.model is None:
            raise ConfigError(
                "neither a model nor TrainConfig(model=…)", fix="model=GPTConfig(vocab_size=…, seq_len=…)"
            )
        made: nn.Module = GPT(config.model)
    else:
        made = model if isinstance(model, nn.Module) else model()
    if not callable(getattr(made, "loss_sum", None)):
        raise ConfigError(
            f"a {type(made).__name__} without loss_sum",
            expected="a module with `loss_sum(batch)` → (the loss summed over its targets, their number)",
            fix='datapipe.train.Supervised(model, inputs="image", targets="label")',
        )
    if config.label_smoothing:
        if not hasattr(made, "label_smoothing"):
            raise ConfigError(
                f"label_smoothing={config.label_smoothing} with a {type(made).__name__}",
                expected="a model with an attribute label_smoothing, which its loss_sum heeds",
                fix="the built-in GPT, Supervised, or label_smoothing=0",
            )
        made.label_smoothing = config.label_smoothing  # type: ignore[assignment]  # a float, and no module
    return made


@final
class _Run:
    """A run in progress: `step` steps are done."""

    def __init__(
        self,
        config: TrainConfig,
        loader: ResumableLoader,
        folder: Path,
        strategy: Strategy,
        meter: Meter,
        watch: Watch,
    ) -> None:
        self.config = config
        self.loader = loader
        self.folder = folder
        self.strategy = strategy
        self.lead = strategy.ranks.lead
        self.device = device = strategy.device
        self.precision = strategy.precision
        self.model = strategy.model
        self.optimizer = make_optimizer(self.model, config)
        self.rate = make_schedule(config)
        self.phases = Phases(device)
        self.batches = Batches(loader, device, self.phases)
        self.stepper = Step(config, strategy, self.optimizer, self.batches, self.phases)
        self.step = 0
        self.stopping = False  # every rank at the same step
        self.watch = watch
        self.meter = meter
        self.state = RunState(
            config, folder, self.model, self.optimizer, loader, device, scaler=strategy.scaler, ranks=strategy.ranks
        )
        self.parameters = strategy.parameters
        if self.phases.recorder is not None:
            self.phases.recorder.loader = loader
            self.phases.recorder.notes |= {
                "parameters": self.parameters, "device": str(device), "precision": self.precision,
                "batches a step": config.accumulate,
            }  # fmt: skip

    def resume(self, how: str) -> None:
        """Put model, optimizer, generators and loader where the newest checkpoint says."""
        point = self.state.resume(how)
        if point is None:
            return
        self.step = point.step
        with as_saved(point):
            check_skips(self.config, point.state["config"], point.step)
            if "watch" in point.state:
                self.watch.load(point.state["watch"])
            if "micro_batch" in point.state:
                self.stepper.fitting.load(point.state["micro_batch"])

    def go(self, goal: int, stop: StopSignal, on_step: Callable[[StepRecord], None] | None) -> TrainResult:
        """Steps until `goal` are done, a signal came, or evaluations came no lower."""
        resumed_from, tokens, spent = self.step, 0, 0
        losses: list[float] = []
        every = self.config.checkpoint_every
        watch = self.watch
        watch.begin(self.step)
        self.stepper.asked_to_stop = lambda: stop.name is not None
        with MetricsLog(self.folder / METRICS, steps=self.step, writes=self.lead) as log, self.state.saver as saver:
            done = -1 if saver.newest is None else self.step  # the step of the newest checkpoint
            now = time.perf_counter_ns()
            try:
                while self.step < goal and not self._stops(stop) and not watch.out_of_patience:
                    pass_over(self.config, self.batches, self.step)
                    self.batches.begin_step(self.step - resumed_from, now)
                    record = self._one_step()
                    better = False
                    if watch.due(self.step):
                        with self.phases("evaluate"):
                            # Several ranks go through each batch as often as the others: in one piece.
                            rows = self.stepper.fitting.rows if self.strategy.ranks.world == 1 else None
                            found, better = watch.evaluate(self.step, self.strategy, rows=rows)
                        record = replace(record, eval_loss=found)
                    if saver.due(self.step):
                        with self.phases("checkpoint"):
                            saver.wait()
                    log.write(record)
                    last = self.step == goal or self._stops(stop) or watch.out_of_patience
                    if last or better or (every and self.step % every == 0):
                        with self.phases("checkpoint"):
                            since = [*losses[max(done, resumed_from) - resumed_from :], record.loss]
                            self._save(record.eval_loss if watch.evaluates else sum(since) / len(since))
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
                        self._save()
                        saver.wait()
            finally:
                self.batches.close()
        assert saver.newest is not None
        best = saver.newest.with_name(f"step-{watch.best.step:08d}")
        ended = "patience" if watch.out_of_patience else None
        return TrainResult(
            step=self.step, resumed_from=resumed_from, losses=tuple(losses), tokens=tokens, seconds=spent / 1e9,
            stopped=ended if ended or self.step >= self.config.steps else self._why(stop),
            checkpoint=saver.newest, metrics=log.path, device=str(self.device), precision=self.precision,
            parameters=self.parameters, model=self.model, spikes=watch.found, best_loss=watch.best.loss,
            overflows=self.strategy.scaler.skipped,
            micro_batch=self.stepper.fitting.rows,
            best=best if watch.best.loss is not None and best.is_dir() else None,
        )  # fmt: skip

    def _stops(self, stop: StopSignal) -> bool:
        """Whether a signal ends the run here: at once where there is one process, else as all ranks agreed."""
        return stop.name is not None if self.strategy.ranks.world == 1 else self.stopping

    def _why(self, stop: StopSignal) -> str:
        return (stop.name or "SIGTERM") if self._stops(stop) else "until"

    def _one_step(self) -> StepRecord:
        """One update from `accumulate` batches, unless what came of them forbids it."""
        phases = self.phases
        gradient = self.stepper.gradient(self.step + 1)
        self.stopping = gradient.stop
        finding = None if gradient.overflowed else self.watch.look(self.step + 1, gradient)
        rate = self.rate(self.step)
        if gradient.overflowed:
            self.stepper.drop(gradient)
        elif finding is None or finding.applied:
            self.stepper.update(gradient, rate)
        elif finding.action == "raise":
            # Before the update: the model in memory stays the last good one.
            raise self.watch.fault(finding, self.state.saver.end())
        else:
            self.stepper.drop(gradient)
        self.step += 1
        spent, elapsed = phases.spent, max(1, phases.elapsed)
        compute = sum(spent.get(name, 0) for name in ("forward", "backward", "sync", "optimizer"))
        speed = gradient.targets / elapsed * 1e9
        return StepRecord(
            step=self.step, loss=gradient.loss, lr=rate, grad_norm=gradient.norm, tokens=int(gradient.targets),
            rows=gradient.rows, tokens_per_s=speed, wait_ms=spent.get("wait", 0) / 1e6, compute_ms=compute / 1e6,
            epoch=self.batches.epoch, stall=spent.get("wait", 0) / elapsed, memory=self.meter.memory(),
            mfu=self.meter.mfu(speed), spike=None if finding is None else str(finding),
        )  # fmt: skip

    def _save(self, score: float | None = None) -> None:
        more = {"watch": self.watch.state(), "micro_batch": self.stepper.fitting.state()}
        known = score is not None and math.isfinite(score)
        self.state.save(self.step, score=score if known else None, more=more)
