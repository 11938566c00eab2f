"""Looking after a dataset that grows: compact, roll back, let old snapshots expire. Each holds the output meanwhile.

What enters: where a dataset is. What leaves: a newer snapshot, or fewer files; and what was done. Invariant: nobody
appends meanwhile (`output_folder.claim`); each publishes in one step or not at all, and, killed anywhere, leaves a
dataset that opens and does the rest when it is called again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from datapipe.errors import DatasetError
from datapipe.preprocess.output_folder import claim
from datapipe.preprocess.run_files import runs_told
from datapipe.preprocess.telling import finish_telling

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from datapipe.dataset import Expired, Manifest
    from datapipe.storage import Store


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What `compact` did.

    Attributes:
        snapshot: the newest one's number. fingerprint: of its content, which is what it was.
        shards_before, shards: how many. merged_bytes: of shards that were rewritten.
        index_before, index: files that later deliveries are compared with.
    """

    snapshot: int
    fingerprint: str
    shards_before: int
    shards: int
    merged_bytes: int
    index_before: int
    index: int

    @property
    def changed(self) -> bool:
        """Whether there was anything to merge."""
        return (self.shards_before, self.index_before) != (self.shards, self.index)


def compact(
    url: str | os.PathLike[str], *, target: int | None = None, storage_options: Mapping[str, Any] | None = None
) -> Compacted:
    """Merge small shards into larger ones: a new snapshot of the same rows in the same order, in the same row groups.

    Its fingerprint, the loader's order and every state saved before hold for it. The small ones stay for the snapshots
    before, until those expire.

    Args:
        url: of the dataset. target: bytes of a merged shard, at most; None: `dataset.compaction.TARGET`.

    Raises:
        DatasetError: it has no manifest, or columns that are encrypted. OutputError: a run holds it.
        StorageError: bytes could not be read or written. IntegrityError: a shard is damaged.
    """
    from datapipe.dataset import compacted, keep_snapshot, publish, read_snapshot
    from datapipe.dataset.compaction import TARGET
    from datapipe.preprocess.index_runs import compacted_index

    store = _store(url, storage_options)
    with claim(store) as work:
        finish_telling(store)
        old = read_snapshot(store)
        merged = compacted(store, old, target=TARGET if target is None else target, scratch=work.scratch())
        index = compacted_index(work, old)
        if index is not None:
            base = merged or old.model_copy(update={"snapshot": old.snapshot + 1, "parent": old.fingerprint})
            merged = base.model_copy(update={"index": index})
        if merged is not None:
            keep_snapshot(store, old)
            publish(store, merged, over=old)
        new = merged or old
        return Compacted(
            snapshot=new.snapshot,
            fingerprint=new.fingerprint,
            shards_before=len(old.shards),
            shards=len(new.shards),
            merged_bytes=sum(shard.bytes for shard in {*old.shards} - {*new.shards}),
            index_before=len(old.index),
            index=len(new.index),
        )


def rollback(
    url: str | os.PathLike[str], snapshot: int, *, storage_options: Mapping[str, Any] | None = None
) -> Manifest:
    """Make an earlier snapshot's content the newest; what was delivered since may be delivered again.

    It is a snapshot of its own: those in between stay until they expire, so that it can be taken back.

    Raises:
        DatasetError: there is no such snapshot. OutputError: a run holds it. StorageError: as `compact`.
    """
    from datapipe.dataset import roll_back

    store = _store(url, storage_options)
    with claim(store):
        finish_telling(store)
        return roll_back(store, snapshot)


def expire(
    url: str | os.PathLike[str],
    *,
    keep: int | None = None,
    older_than: float | None = None,
    grace: float | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Expired:
    """Let old snapshots go; see `dataset.retention.expire`.

    Raises:
        ConfigError: a number is out of range. OutputError: a run holds it. StorageError: as `compact`.
    """
    from datapipe.dataset import expire as expire_in
    from datapipe.dataset.retention import GRACE

    store = _store(url, storage_options)
    with claim(store):
        finish_telling(store)
        return expire_in(
            store,
            keep=keep,
            older_than=older_than,
            grace=GRACE if grace is None else grace,
            now=time.time(),
            replaced=_replaced(store),
        )


def _replaced(store: Store) -> dict[int, float]:
    """When each snapshot was replaced by a delivery, as `run.json` tells."""
    found = {}
    for run in runs_told(store):
        try:
            number, ended = int(run["snapshot"]), datetime.fromisoformat(run["ended"]).timestamp()
        except (KeyError, TypeError, ValueError):
            continue
        if number:
            found[number - 1] = ended
    return found


def _store(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Store:
    from datapipe.dataset import MANIFEST_NAME
    from datapipe.storage import open_store

    store = open_store(str(url), storage_options=storage_options)
    if not store.exists(MANIFEST_NAME):
        raise DatasetError(
            f"{store.url} has no manifest, and so no snapshots",
            expected="a dataset that datapipe preprocess made",
            fix="check the path",
        )
    return store
