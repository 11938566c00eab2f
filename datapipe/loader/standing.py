"""Where a loader stands in its sequence, and how that moves: a batch delivered, an epoch begun, batches skipped.

What enters: a sequence, and what the user says (`set_epoch`, a state, `skip`). What leaves: the epoch to walk, and from
which batch on. Invariant: what it says of itself (`state`) is all that another process needs to go on from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np

from datapipe.errors import ConfigError, StateError
from datapipe.loader.iterator import Progress
from datapipe.loader.state import make_state, read_state, saved_cursor, saved_skips, wrong_cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from datapipe.loader.sequence import EpochSequence, Sequence
    from datapipe.loader.state import Settings

    Ints = npt.NDArray[np.int64]


@final
class Standing:
    """One loader's place.

    Attributes:
        order: the sequence. progress: epoch, and batches of it that were delivered or skipped; the iterator counts on.
        skipped: [epoch, first batch, batches] of each time. first: the epoch from which on `order` is the sequence:
            those before were of another snapshot.
    """

    def __init__(self, order: Sequence) -> None:
        self.order = order
        self.progress = Progress()
        self.skipped: list[list[int]] = []
        self.first = 0
        self._walk: tuple[int, EpochSequence] | None = None
        self._cursor: Ints | None = None

    def begin(self) -> Progress:
        """Where the next iteration begins: at the next epoch, if one was begun and no state loaded since.

        An epoch that was skipped to its end is over.
        """
        progress = self.progress
        if progress.position and (not progress.resumed or self.ended()):
            progress.epoch, progress.position = progress.epoch + 1, 0
        if not progress.position:
            self._cursor = None
        self._walk = None
        return progress

    def follow(self, walk: EpochSequence) -> None:
        """Take over a walk of this epoch that was begun elsewhere."""
        self._walk = self.progress.epoch, walk

    def walk(self) -> EpochSequence:
        """The epoch in progress, from where it was begun."""
        if self._walk is None or self._walk[0] != self.progress.epoch:
            self._walk = self.progress.epoch, self.order.epoch(self.progress.epoch, self._cursor)
        return self._walk[1]

    def ended(self) -> bool:
        """Whether the last batch of the epoch was delivered."""
        return self.progress.position > 0 and not self.walk().has(self.progress.position)

    def move(self, epoch: int) -> None:
        """Go to an epoch's start."""
        self.progress = Progress(epoch=epoch)
        self._walk = self._cursor = None

    def succeed(self, before: Standing, epoch: int) -> None:
        """Take the place of one over another snapshot, at an epoch's start."""
        self.move(epoch)
        self.skipped, self.first = before.skipped, epoch

    def skip(self, batches: int) -> None:
        """Pass over the next batches, of the epoch in progress (or, where that is over, of the next).

        Raises:
            ConfigError: the epoch has not so many left.
        """
        progress = self.progress
        if self.ended():
            self.move(progress.epoch + 1)
            progress = self.progress
        walk = self.walk()
        start, target = progress.position, progress.position + batches
        if not walk.has(target - 1):
            left = self.order.steps - start
            raise ConfigError(
                f"skip({batches}) with {left} batches of epoch {progress.epoch} left",
                expected=f"at most {left}",
                fix=f"skip({left}) ends this epoch; skip the rest in the next one" if left else "set_epoch(...)",
            )
        self._cursor = walk.cursor(target * self.order.global_batch) if walk.has(target) else self._cursor
        self.progress = Progress(epoch=progress.epoch, position=target, resumed=True)
        last = self.skipped[-1] if self.skipped else None
        if last is not None and last[0] == progress.epoch and last[1] + last[2] == start:
            last[2] += batches
        else:
            self.skipped.append([progress.epoch, start, batches])

    def state(self, fingerprint: str, settings: Settings) -> dict[str, Any]:
        """Which batch comes next, as plain JSON."""
        epoch, position = self.progress.epoch, self.progress.position
        cursor = None
        if self.ended():
            epoch, position = epoch + 1, 0
        elif position:
            found = self.walk().cursor(position * self.order.global_batch)
            cursor = None if found is None else found.tolist()
        return make_state(fingerprint, settings, epoch, position, cursor=cursor, skipped=self.skipped)

    def load(
        self, state: Mapping[str, Any], order: Sequence, fingerprint: str, settings: Settings, *, world_size: int
    ) -> None:
        """Stand where a state stands.

        Args:
            order: the sequence from now on. settings: its.

        Raises:
            StateError: it does not fit; then nothing changes.
        """
        epoch, position = read_state(
            state, fingerprint, settings, world_size=world_size, steps=order.steps if order.steady else None
        )
        saved = saved_cursor(state, order.lanes)
        cursor = None if saved is None else np.array(saved, np.int64).reshape(-1, 2)
        skipped = saved_skips(state)
        _prove(order, epoch, position, cursor)
        self.order = order
        self.move(epoch)
        self.progress = Progress(epoch=epoch, position=position, resumed=True)
        self._cursor = cursor
        self.skipped = skipped
        if order.steady and position and position == order.steps:
            self.move(epoch + 1)
            self.progress.resumed = True


def _prove(order: Sequence, epoch: int, position: int, cursor: Ints | None) -> None:
    """Refuse a place that is none: a cursor that leads elsewhere, or more batches than the epoch, once planned, has.

    What is planned for it is planned again by nobody: the iteration begins there.
    """
    if order.steady and cursor is None:
        return  # the number of batches was compared
    if cursor is not None:
        windows = np.array([len(ends) - 1 for ends in order.epoch(epoch).windows])
        if (cursor[:, 0] > windows).any():
            raise wrong_cursor(cursor.tolist())
    walk = order.epoch(epoch, cursor)
    if position and not walk.has(position - 1):
        raise StateError(
            f"the state stands at batch {position} of epoch {epoch}",
            expected="no more than the epoch has",
            fix="load the state as `loader.state_dict()` returned it",
        )
    if cursor is not None and walk.has(position):
        found = walk.cursor(position * order.global_batch)
        if found is not None and not np.array_equal(found, cursor):
            raise wrong_cursor(cursor.tolist())
