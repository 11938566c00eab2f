"""Which row groups are bad, and from which epoch on: what `on_error="quarantine"` remembers.

What enters: row groups that could not be read or decoded, twice; what a state says of them. What leaves: the same for
the state, for `stats` and the log. Invariant: a row group goes in once and never out; the entries are a set, so that it
does not matter in which order, or by which thread, they were found.

Only damage is quarantined: an `IntegrityError` (truncated, a wrong checksum, not what the index promises) or a
`LoaderError` of the data (a null where none may be, a number beyond its dtype). Everything else (the network, a lack of
memory or of rights, a shard that is not there) says nothing of the rows, and stops the run as ever.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from datapipe import events
from datapipe.errors import IntegrityError, LoaderError, StateError
from datapipe.loader.state import saved_quarantine
from datapipe.locks import new_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

SHARE: Final = 0.05
"""Part of a lane's row groups (rounded up) that may be bad. Of a lane, since that is read whole wherever it is read: a
share of all would stop one world size and not another."""
_LOG: Final = logging.getLogger("datapipe.loader.quarantine")


def is_damage(error: BaseException) -> bool:
    """Whether it is the rows that are at fault: the same again would help only if they were read wrongly."""
    cause = error.__cause__
    if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None):
        return False  # Arrow's own errors of damaged files are OSErrors without a number
    return isinstance(error, IntegrityError | LoaderError)


@final
class Quarantine:
    """The bad row groups of one loader; threads share it.

    Args:
        dataset: names them, in messages.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._lock = new_lock()
        self._since: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._entries: list[list[int]] = []

    @property
    def entries(self) -> list[list[int]]:
        """[epoch, block] of each, sorted: block is replaced from that epoch on. What the state records."""
        return list(self._entries)

    def in_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """A loader's state, with what is known by now."""
        if self._entries:
            state["quarantined"] = self.entries
        return state

    def holds(self, epoch: int, block: int) -> bool:
        """Whether a block is replaced in an epoch without being asked for again."""
        since = self._since.get(block)
        return since is not None and since <= epoch

    def restore(self, entries: Iterable[Iterable[int]]) -> None:
        """What a state says, in place of what was known."""
        since = {block: epoch for epoch, block in sorted(map(tuple, entries), reverse=True)}
        with self._lock:
            self._since = since
            self._reasons = dict.fromkeys(since, "so says the state")
            self._list()

    def _list(self) -> None:
        # Replaced, never changed: a state asks for it without the lock.
        self._entries = sorted([epoch, block] for block, epoch in self._since.items())

    def add(self, epoch: int, block: int, lane: Ints, error: BaseException) -> None:
        """A block was found bad.

        Args:
            lane: all blocks of its lane, itself among them.

        Raises:
            LoaderError: more of the lane is bad than may be.
        """
        reason = str(getattr(error, "got", error))
        group = self._dataset.row_groups[block]
        with self._lock:
            known = self._since.get(block)
            if known is not None and known <= epoch:
                return
            bad = [each for each in lane.tolist() if each in self._since and each != block]
            most = -(-len(lane) * round(SHARE * 100) // 100)
            if len(bad) >= most:
                raise _too_many(len(bad) + 1, len(lane), most, group) from error
            self._since[block] = epoch
            self._reasons[block] = reason
            self._list()
        _LOG.warning(
            "shard %s, row group %d is bad and replaced from epoch %d on: %s", group.path, group.group, epoch, reason
        )
        recorder = events.active()
        if recorder is not None:
            recorder.notes["quarantined"] = "; ".join(
                f"{each['shard']} row group {each['row_group']}: {each['reason']}" for each in self.stats()
            )

    def stats(self) -> list[dict[str, Any]]:
        """epoch, block, shard, row_group, rows and reason of each."""
        found = []
        for epoch, block in self._entries:
            group = self._dataset.row_groups[block]
            found.append(
                {
                    "epoch": epoch, "block": block, "shard": group.path, "row_group": group.group,
                    "rows": int(self._dataset.index.rows[block]), "reason": self._reasons[block],
                }
            )  # fmt: skip
        return found


def checked_quarantine(state: Mapping[str, Any], dataset: Any, quarantine: Quarantine | None) -> list[list[int]]:
    """[epoch, block] of each bad row group that a state names.

    Raises:
        StateError: they are none of the dataset's, or this loader has no quarantine for them.
    """
    entries = saved_quarantine(state)
    if entries and quarantine is None:
        raise StateError(
            f"the state has {len(entries)} row group(s) in quarantine, and this loader none",
            expected="the same rows again, which stood in for those",
            fix='on_error="quarantine"; or repair the dataset and leave "quarantined" out of the state',
        )
    blocks = len(dataset.index)
    beyond = [block for _, block in entries if block >= blocks]
    if beyond:
        raise StateError(f"the state has row group {beyond[0]} in quarantine", expected=f"0 to {blocks - 1}")
    return entries


def _too_many(bad: int, blocks: int, most: int, group: Any) -> LoaderError:
    error = LoaderError(
        f"{bad} of the {blocks} row groups of a lane are bad",
        expected=f'{most} at most with on_error="quarantine" ({SHARE:.0%} of them, rounded up)',
        fix="run `datapipe verify` on the dataset; copy the bad shards again or make them anew",
    )
    error.add_note(f"the last one: shard {group.path}, row group {group.group}")
    return error
