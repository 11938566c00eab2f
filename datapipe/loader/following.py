"""Which snapshot of a growing dataset an epoch is of: the newest when it begins, the same on every rank, on record.

What enters: a dataset that was opened with `follow=`; a loader's state. What leaves: the dataset to go on with.
Invariant: a snapshot is taken up between two epochs only. On several ranks it is rank 0's find that all take (by
torch.distributed), or what the function given as `follow` says; where there is neither, nothing is taken up, and an
error is raised, so that no rank goes on with another snapshot than the others. A state names its snapshot: the epoch
that it is of is gone through on that one, whatever has been published since.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.dataset.views import found
from datapipe.errors import ConfigError, DatapipeError, DatasetError, LoaderError, ManifestError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datapipe.dataset import Dataset
    from datapipe.loader.mixture import Mixture

PATIENCE: Final = 60.0
"""Seconds that a rank waits to see what rank 0 has seen: NFS keeps what it knows of a file for up to 60 (`nfs(5)`,
acregmax)."""
_PAUSE: Final = 0.5


@final
class Following:
    """What one loader does about newer snapshots.

    Args:
        agree: what this process found newest → what all ranks take; None: torch.distributed agrees, of several ranks.
    """

    def __init__(self, world_size: int, agree: Callable[[int], int] | None) -> None:
        self._world_size = world_size
        self._agree = agree

    def newest(self, dataset: Dataset) -> Dataset | None:
        """The snapshot that the epoch now beginning is of; None: the one there is.

        Raises:
            ConfigError: several ranks have no way to agree. SchemaError: the newest lacks a column; of several ranks
                each stays where it is, and warns. LoaderError: another rank has another dataset.
            DatasetError: what was agreed on is not there.
        """
        assert dataset.manifest is not None
        agree = self._agree or self._together()
        newer = None
        try:
            newer = dataset.newer()
        except DatapipeError as error:
            # To stay is right at any time; to raise on one rank would leave the others waiting.
            if agree is None and not isinstance(error, (StorageError, ManifestError)):
                raise  # one without our columns, say: alone we had better know
            warnings.warn(f"{dataset.url}: no newer snapshot can be looked for: {error}", stacklevel=4)
        mine = newer or dataset
        assert mine.manifest is not None
        number = mine.manifest.snapshot if agree is None else int(agree(mine.manifest.snapshot))
        if number != mine.manifest.snapshot:
            mine = dataset if number == dataset.manifest.snapshot else _seen(dataset, number)
        if agree is not None and self._agree is None:
            _check_same(mine.fingerprint)
        return None if mine is dataset else mine

    def _together(self) -> Callable[[int], int] | None:
        if self._world_size == 1:
            return None
        if _distributed() is not None:
            return lambda number: _broadcast([number])[0]
        raise ConfigError(
            f"follow=True on {self._world_size} ranks, which have no way to agree on a snapshot",
            expected="torch.distributed, initialised before the first epoch",
            fix="torch.distributed.init_process_group(…), or open_dataset(url, follow=function), which gets the number"
            " of the snapshot that a process found and returns the one that all take",
        )


def following_for(dataset: Dataset | Mixture, world_size: int) -> Following | None:
    """What a loader of this dataset does about newer snapshots; None: nothing."""
    follow = getattr(dataset, "follows", False)
    if not follow:
        return None
    return Following(world_size, follow if callable(follow) else None)


def snapshot_of(dataset: Dataset | Mixture, state: Mapping[str, Any]) -> Dataset | None:
    """The snapshot that a state was saved on, where it is not the one that there is; None: it is, or there is none."""
    fingerprint = state.get("fingerprint") if hasattr(state, "get") else None
    if not getattr(dataset, "follows", False) or not isinstance(fingerprint, str):
        return None
    return None if dataset.fingerprint == fingerprint else found(dataset, fingerprint)  # type: ignore[arg-type]


def named_in(state: dict[str, Any], dataset: Dataset | Mixture) -> dict[str, Any]:
    """A state, with the number of the snapshot where the loader follows."""
    manifest = getattr(dataset, "manifest", None)
    if getattr(dataset, "follows", False) and manifest is not None:
        state["snapshot"] = manifest.snapshot
    return state


def _seen(dataset: Dataset, number: int) -> Dataset:
    """A snapshot that another rank has seen, once this process sees it too."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return dataset.at(number)
        except DatasetError:
            if time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def _distributed() -> Any:
    """torch.distributed, where the program has imported and initialised it."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _broadcast(numbers: list[int]) -> list[int]:
    """Rank 0's numbers, on every rank: as a tensor, so that nothing is pickled."""
    torch, distributed = sys.modules["torch"], _distributed()
    device = "cpu"
    if distributed.get_backend() == "nccl":
        device = f"cuda:{torch.cuda.current_device()}"
    tensor = torch.tensor(numbers, dtype=torch.int64, device=device)
    distributed.broadcast(tensor, src=0)
    return [int(number) for number in tensor.tolist()]


def _check_same(fingerprint: str) -> None:
    """Refuse a snapshot of the same number and another content: ranks that were given unlike datasets."""
    mine = int(fingerprint.removeprefix("dp1-")[:15], 16)
    theirs = _broadcast([mine])[0]
    if theirs != mine:
        raise LoaderError(
            f"this rank's snapshot is {fingerprint}, rank 0's begins with dp1-{theirs:015x}",
            expected="the same dataset, columns and filter on every rank",
            fix="open the same URL on all ranks",
        )
