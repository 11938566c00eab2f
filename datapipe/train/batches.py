"""The loop's side of a loader: batch after batch, epoch after epoch, on the device that computes.

What enters: a loader (one `iter()` is one epoch). What leaves: batches, without end. Invariant: nothing is taken ahead,
so the loader's `state_dict()` after a step says exactly which batches the model has seen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, cast, final

from datapipe.device.nested import replaced
from datapipe.errors import ConfigError, TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from datapipe.train.phases import Phases


class ResumableLoader(Protocol):
    """What the loop asks of a loader; `datapipe.DataLoader` has it."""

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, or go on with the one that a state just loaded stands in."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as plain JSON, counting batches delivered."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


def check_loader(loader: Any) -> None:
    """Raise ConfigError unless it can be iterated over and says where it stands."""
    missing = [name for name in ("__iter__", "state_dict", "load_state_dict") if not callable(getattr(loader, name, 0))]
    if missing:
        raise ConfigError(
            f"a {type(loader).__name__} without {' and '.join(missing)}",
            expected="a loader that can be resumed exactly",
            fix="datapipe.DataLoader(dataset, batch_size)",
        )


@final
class Batches:
    """Batches of a loader across its epochs.

    Args:
        loader: iterated over anew whenever an epoch ends.
        device: where the batches' tensors go; those that a loader delivers there already stay.
    """

    def __init__(self, loader: ResumableLoader, device: torch.device, phases: Phases) -> None:
        self.loader = loader
        self._device = device
        self._phases = phases
        self._iterator: Iterator[Any] | None = None
        self._epoch_began = 0
        self._passes = 0
        self._given = 0
        self._fresh = False  # the step in progress has no batch yet

    @property
    def epoch(self) -> int:
        """The epoch of the last batch: as the loader counts, else passes begun here, from 0."""
        epoch = getattr(self.loader, "epoch", None)
        return epoch if isinstance(epoch, int) else max(0, self._passes - 1)

    def begin_step(self, item: int, now: int) -> None:
        """A step begins: until its first batch is there, the end of an epoch moves its beginning."""
        self._phases.begin_step(item, now)
        self._fresh = True

    def next(self) -> Any:
        """The next batch, on the device.

        Raises:
            TrainError: a whole epoch gave no batch. What the loader raises passes through.
        """
        while True:
            if self._iterator is None:
                self._epoch_began, self._given = time.perf_counter_ns(), 0
                self._passes += 1
            try:
                # Making the iterator starts the loader's threads: part of the wait for the epoch's first batch.
                with self._phases("wait"):
                    if self._iterator is None:
                        self._iterator = iter(self.loader)
                    batch = next(self._iterator)
            except StopIteration:
                self._end_epoch()
                continue
            self._given += 1
            self._fresh = False
            return self._moved(batch)

    def _end_epoch(self) -> None:
        if not self._given:
            raise TrainError(
                "an epoch without a batch",
                expected="at least one global batch of rows",
                fix='a smaller batch_size, tail="pad" or "partial", or more rows',
            )
        self.close()
        if self._fresh:
            # Finding the end of an epoch belongs to no step: the one in progress begins with the new epoch.
            self._phases.begin_step(self._phases.item, time.perf_counter_ns())

    def _moved(self, batch: Any) -> Any:
        if not needs_moving(batch, self._device):
            return batch
        with self._phases("h2d"):
            return moved(batch, self._device)

    def skip(self, batches: int) -> None:
        """Pass over the next batches, over the end of an epoch where it comes; a loader that cannot makes them."""
        pass_over = getattr(self.loader, "skip", None)
        if not callable(pass_over):
            for _ in range(batches):
                self.next()
            return
        self.close()
        for _ in range(batches):
            pass_over(1)  # one by one: a loader refuses more than its epoch has left

    def close(self) -> None:
        """End the epoch in progress, and its threads."""
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            return
        close = getattr(iterator, "close", None)
        if callable(close) and iterator is not cast("Any", self.loader):
            close()
        self._phases.write("epoch", self._passes - 1, self._epoch_began, time.perf_counter_ns())


def needs_moving(batch: Any, device: torch.device) -> bool:
    """Whether any tensor of the batch, however nested, lies elsewhere."""
    elsewhere: list[bool] = []

    def look(tensor: torch.Tensor, _: str | None) -> torch.Tensor:
        elsewhere.append(tensor.device != device)
        return tensor

    replaced(batch, look)
    return any(elsewhere)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device, the copies done: a loader may reuse what it is given back."""
    return replaced(batch, lambda tensor, _: tensor.to(device))
