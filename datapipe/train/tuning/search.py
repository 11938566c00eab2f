"""The search: trials drawn by Optuna, halved at their rungs, kept on disk after each.

    out/search.journal       every trial: its values, its loss at each rung, its end     (Optuna's)
       /trials/00007/        its checkpoints and its log, as of any run

What enters: `TuneOptions` and a function from values to what trains with them. What leaves: a `TuneResult`. Invariant:
a trial that ended is never run again. One that a kill cut short is taken up from its own checkpoint, at most three
times, then counted as failed. Draws depend on the seed and on the trials before them, not on when the search was
stopped.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CheckpointError, ConfigError, DatapipeError, NoSpaceError, TrainError, in_words
from datapipe.train.checkpoint_files import only_run_in
from datapipe.train.tuning.space import contains, draw
from datapipe.train.tuning.trial_run import Contender, check_contender, read_progress, run_rung, seconds_of_rung
from datapipe.train.tuning.trials import TrialRow, TuneResult, rank, rows_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from datapipe.train.tuning.options import Plan, TuneOptions

    Contend = Callable[[Mapping[str, Any]], AbstractContextManager[Contender]]

JOURNAL: Final = "search.journal"
TRIALS: Final = "trials"
_NAME: Final = "datapipe"
_TAKEN_UP: Final = 3
"""How often a trial is begun before it counts as failed: one that ends its process (memory) would do so for ever."""
_FAILURES: Final = 5
"""Trials that fail one after another, with none that did not: the fault is not theirs."""


def tune(
    options: TuneOptions,
    contend: Contend,
    *,
    out: str | os.PathLike[str],
    steps: int,
    first: Mapping[str, Any] | None = None,
    about: str = "",
    on_trial: Callable[[TrialRow], None] | None = None,
) -> TuneResult:
    """Search until the budget is spent or `options.trials` have ended, beginning where the search in `out` stands.

    SIGTERM and Ctrl-C end it after the step in progress, with that trial's checkpoint.

    Args:
        contend: values by name → a context that gives the `Contender` which trains with them.
        steps: of the whole run that is searched for.
        first: values to try first, those in use so far; one that lies outside the space is drawn instead.
        about: all that the trials share, in any words: the same in each start of one search.
        on_trial: called with each trial's row when it stops: ended, or out of budget.

    Raises:
        ConfigError: an option is wrong, or `out` holds another search. TrainError: `out` is in use, its journal is
            damaged, or every trial fails. NoSpaceError: the disk is full. What is not of this package passes through.
    """
    folder = Path(out)
    plan = options.plan(steps)
    with only_run_in(folder), _quiet():
        study = _open(folder, options, plan, first)
        plan = _plan_of(study, folder, options, plan, about)
        return _Search(folder, options, plan, contend, study).go(on_trial)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna logs each trial; so do we."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _open(folder: Path, options: TuneOptions, plan: Plan, first: Mapping[str, Any] | None) -> Study:
    """The study in the folder, new or gone on with."""
    import optuna

    from datapipe.train.tuning.journal import open_journal

    factors = plan.factors
    pruner: optuna.pruners.BasePruner
    if options.pruner == "none":
        pruner = optuna.pruners.NopPruner()
    elif options.pruner == "halving":
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=options.eta)
    else:
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=factors[-1], reduction_factor=options.eta)
    study = optuna.create_study(
        storage=open_journal(folder / JOURNAL), study_name=_NAME, pruner=pruner, load_if_exists=True
    )
    if not study.trials and first:
        space = options.space
        study.enqueue_trial({name: v for name, v in first.items() if name in space and contains(space[name], v)})
    return study


def _plan_of(study: Study, folder: Path, options: TuneOptions, plan: Plan, about: str) -> Plan:
    """The plan that the search was begun with, kept now if it begins."""
    told = {"options": options.identity(), "about": about, "rungs": list(plan.amounts)}
    saved = study.user_attrs.get("told")
    if saved is None:
        study.set_user_attr("told", told)
        return plan
    if options.first_rung is None:  # it followed from the budget, or the length of the run, of the first start
        told["rungs"] = saved["rungs"]
    other = [name for name in told if saved[name] != told[name]]
    if other:
        raise ConfigError(
            f"{folder} holds another search: its {' and its '.join(other)} were {saved[other[0]]}",
            expected=f"{told[other[0]]}",
            fix="what it was begun with (budget_s and trials may grow), or another folder",
        )
    return replace(plan, amounts=tuple(saved["rungs"]))


@final
class _Search:
    """A search in progress."""

    def __init__(self, folder: Path, options: TuneOptions, plan: Plan, contend: Contend, study: Study) -> None:
        self.folder = folder
        self.options = options
        self.plan = plan
        self.contend = contend
        self.study = study
        self.stopped: str | None = None
        self.pace = 0.0  # of the trial before, for one that has none yet

    def go(self, on_trial: Callable[[TrialRow], None] | None) -> TuneResult:
        """Trials cut short first, then new ones, until nothing more fits."""
        from optuna.trial import TrialState

        waiting = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        for frozen in waiting:
            self._one(self._taken_up(frozen), on_trial)
        while self.stopped is None and self._ended() < self.options.trials and self._fits(0, self.pace):
            self._check_failures()
            self._one(self._drawn(), on_trial)
        rows = rows_of(self.study, self.plan, self.folder / TRIALS)
        return TuneResult(
            rows=rank(rows), plan=self.plan, spent_s=self._spent(), budget_s=self.options.budget_s,
            space=tuple(sorted(self.options.space)), stopped=self.stopped,
        )  # fmt: skip

    def _drawn(self) -> Trial:
        return self._with_values(self.study.ask())

    def _taken_up(self, frozen: FrozenTrial) -> Trial:
        from optuna import Trial

        # Optuna has no public way to go on with a trial that is running; this is its own.
        return self._with_values(Trial(self.study, frozen._trial_id))  # noqa: SLF001

    def _with_values(self, trial: Trial) -> Trial:
        """The trial with a value of each name, drawn now where it has none yet."""
        from optuna.samplers import TPESampler

        # A sampler's generator begins anew in each process: seeded by the trial's number, it goes on as if in one.
        self.study.sampler = TPESampler(seed=(self.options.seed * 1_000_003 + trial.number) % (1 << 32))
        for name, part in sorted(self.options.space.items()):
            draw(trial, name, part)
        return trial

    def _one(self, trial: Trial, on_trial: Callable[[TrialRow], None] | None) -> None:
        """Run a trial as far as it goes."""
        if self.stopped is not None:
            return
        begun = trial.user_attrs.get("begun", 0) + 1
        if begun > _TAKEN_UP:
            self._end(trial, "fail", f"begun {_TAKEN_UP} times, and the process ended each time")
        else:
            trial.set_user_attr("begun", begun)
            self._climb(trial)
        # Out of budget or stopped by a signal is no failed beginning.
        if not _over(self.study, trial):
            trial.set_user_attr("begun", begun - 1)
        if on_trial is not None:
            on_trial(next(row for row in rows_of(self.study, self.plan, self.folder / TRIALS)
                          if row.number == trial.number))  # fmt: skip

    def _climb(self, trial: Trial) -> None:
        import torch

        try:
            with self.contend(dict(trial.params)) as contender:
                self._rungs(trial, check_contender(contender))
        except NoSpaceError:
            raise
        except (CheckpointError, ConfigError) as error:
            self._end(trial, "fail", in_words(error))
        except (TrainError, torch.OutOfMemoryError) as error:
            # Told as pruned, with no loss: the worst that the sampler knows, so it draws elsewhere.
            self._end(trial, "prune", in_words(error))
        except DatapipeError as error:
            self._end(trial, "fail", in_words(error))

    def _rungs(self, trial: Trial, contender: Contender) -> None:
        folder = self.folder / TRIALS / f"{trial.number:05d}"
        last = len(self.plan.amounts) - 1
        value = None
        for rung, factor in enumerate(self.plan.factors):
            reported = self._reported(trial, factor)
            if reported is None:
                pace = read_progress(folder).pace or self.pace
                if not self._fits(rung, pace):
                    return
                began = time.perf_counter()
                done = run_rung(contender, folder, self.plan, rung)
                spent = trial.user_attrs.get("spent_s", 0.0) + time.perf_counter() - began
                trial.set_user_attr("spent_s", spent)
                trial.set_user_attr("progress", {"steps": done.progress.steps, "tokens": done.progress.tokens,
                                                 "step_ms": done.progress.pace * 1e3})  # fmt: skip
                self.pace = done.progress.pace
                if done.stopped is not None:
                    self.stopped = done.stopped
                    return
                reported = done.loss
                trial.report(reported, factor)
            value = reported
            if math.isnan(value):
                self._end(trial, "prune", "its score is not a number")
                return
            if rung < last and trial.should_prune():
                self._end(trial, "prune", "")
                return
        self.study.tell(trial, value)

    def _reported(self, trial: Trial, factor: int) -> float | None:
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        return frozen.intermediate_values.get(factor)

    def _end(self, trial: Trial, how: str, why: str) -> None:
        from optuna.trial import TrialState

        if why:
            trial.set_user_attr("why", why)
        self.study.tell(trial, state=TrialState.PRUNED if how == "prune" else TrialState.FAIL)
        # It never goes on: its checkpoints would only fill the disk.
        shutil.rmtree(self.folder / TRIALS / f"{trial.number:05d}" / "checkpoints", ignore_errors=True)

    def _spent(self) -> float:
        return float(sum(trial.user_attrs.get("spent_s", 0.0) for trial in self.study.get_trials(deepcopy=False)))

    def _fits(self, rung: int, pace: float) -> bool:
        return self._spent() + seconds_of_rung(self.plan, rung, pace) <= self.options.budget_s * 1.001

    def _ended(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _check_failures(self) -> None:
        from optuna.trial import TrialState

        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        if len(ended) >= _FAILURES and all(trial.state == TrialState.FAIL for trial in ended):
            raise TrainError(
                f"the first {len(ended)} trials failed, the last with: {ended[-1].user_attrs.get('why')}",
                fix="correct what it says, and search into another folder",
            )


def _over(study: Study, trial: Trial) -> bool:
    return bool(study.get_trials(deepcopy=False)[trial.number].state.is_finished())
