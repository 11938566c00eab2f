"""Steps that fit the device: the micro-batch is found, and made smaller when memory runs out.

    first step                    probe: whole batch, then 2, 4, … pieces until one fits, then bisection
    out of memory in a step       everything put back as the step began; half the rows; again from its first batch

What enters: a step's attempt and the rows it may put through the model at once. What leaves: what the attempt returns.
Invariant: an attempt that failed leaves no trace (gradients, generators and the model's buffers are those from before
it, its batches are kept and used again), so the numbers are those of a run told this micro-batch for that step.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, TypeVar, final

import torch

from datapipe.errors import TrainError
from datapipe.train import random_state
from datapipe.train.micro_batch import fewest_pieces, rows_of
from datapipe.train.out_of_memory import give_back, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_LOG = logging.getLogger("datapipe.train.memory")

T = TypeVar("T")


@final
class Fitting:
    """The micro-batch of one run.

    Args:
        told: rows; "auto": found and, where it has to be, made smaller; None: whole batches.

    Attributes:
        rows: at once, now; None: whole batches, or not yet known.
        shrunk: times that memory ran out in the midst of the run.
    """

    def __init__(self, told: int | str | None, model: nn.Module, device: torch.device) -> None:
        self._auto = told == "auto"
        self._model = model
        self._device = device
        self.rows = told if isinstance(told, int) else None
        self.shrunk = 0

    @property
    def unknown(self) -> bool:
        """Whether it is to be found before the next step."""
        return self._auto and self.rows is None

    @property
    def keeps_batches(self) -> bool:
        """Whether a step may have to begin anew, so that its batches must not go yet."""
        return self._auto

    def find(self, batch: Any, attempt: Callable[[int], None], *, reserve: int = 0) -> None:
        """Find how many rows of a batch like this one fit.

        Args:
            attempt: puts so many rows through the model, forward and back, as a step does.
            reserve: bytes that the optimizer will hold besides, from its first update on.

        Raises:
            TrainError: not one row fits.
        """
        total = rows_of(batch)
        before = self._snapshot()

        def fits(rows: int) -> bool:
            done = self._done(lambda: self._with_reserve(attempt, rows, reserve))
            self._restore(before)
            _LOG.debug("%d of %d rows at once %s", rows, total, "fit" if done else "do not fit")
            return done

        rows = fewest_pieces(total, fits)
        if total and not rows:
            raise self._nothing_fits("a row")
        self.rows = rows or None
        if rows < total:
            _LOG.warning("%d of %d rows fit at once: %d micro-batches a batch", rows, total, math.ceil(total / rows))

    def run(self, attempt: Callable[[], T], step: int) -> T:
        """Do an attempt, with fewer rows at once as long as memory runs out.

        Args:
            attempt: one step up to its gradient, from its first batch on. step: its number, for what is said.

        Raises:
            TrainError: memory runs out with one row, or with the rows that were told.
        """
        if not self._auto:
            try:
                return attempt()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                told = "whole batches" if self.rows is None else f"micro_batch={self.rows}"
                raise TrainError(
                    f"step {step}: out of memory with {told} ({str(error).splitlines()[0][:200]})",
                    expected=f"a step that fits {self._device}",
                    fix='micro_batch="auto", which finds what fits; or recompute=True, a shorter row, a smaller model',
                ) from error
        before = self._snapshot()
        while True:
            found: list[T] = []
            if self._done(lambda: found.append(attempt())):  # noqa: B023  (called at once)
                return found[0]
            self._restore(before)
            rows = self.rows or 1
            if rows == 1:
                raise self._nothing_fits(f"step {step}: one row")
            self.rows = math.ceil(rows / 2)
            self.shrunk += 1
            _LOG.warning("step %d: out of memory with %d rows at once; again with %d", step, rows, self.rows)

    def state(self) -> dict[str, Any]:
        """Plain JSON: what a run that goes on need not find again."""
        return {"rows": self.rows, "shrunk": self.shrunk}

    def load(self, state: dict[str, Any]) -> None:
        """Go on with what was found; a number that was told stays."""
        if self._auto:
            self.rows = state["rows"]
            self.shrunk = int(state["shrunk"])

    def _done(self, work: Callable[[], Any]) -> bool:
        """Whether it came to its end; if memory ran out, what it held has been given back."""
        try:
            work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        give_back(self._device)  # here: the exception, which held the frames, is gone
        return False

    def _with_reserve(self, attempt: Callable[[int], None], rows: int, reserve: int) -> None:
        held = torch.empty(reserve if self._device.type != "cpu" else 0, dtype=torch.uint8, device=self._device)
        attempt(rows)
        del held

    def _snapshot(self) -> tuple[dict[str, Any], list[tuple[torch.Tensor, torch.Tensor]]]:
        persistent = self._model.state_dict(keep_vars=True).values()
        buffers = [each for each in persistent if isinstance(each, torch.Tensor) and not each.requires_grad]
        weights = {id(weight) for weight in self._model.parameters()}
        kept = [(each, each.detach().clone()) for each in buffers if id(each) not in weights]
        return random_state.capture(self._device), kept

    def _restore(self, before: tuple[dict[str, Any], list[tuple[torch.Tensor, torch.Tensor]]]) -> None:
        generators, buffers = before
        self._model.zero_grad(set_to_none=True)
        random_state.restore(generators, self._device)
        with torch.no_grad():
            for live, kept in buffers:
                live.copy_(kept)

    def _nothing_fits(self, what: str) -> TrainError:
        return TrainError(
            f"{what} does not fit {self._device}",
            expected="memory for the weights, their gradients, the optimizer and one row",
            fix="recompute=True, shorter rows, bf16, a smaller model, or shards of it on more devices",
        )
