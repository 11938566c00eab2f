"""`erased.json`: which rows have been erased, remembered so that they do not come back, by hashes of their ids.

    {"salt": "<32 hex>", "ids": ["<32 hex>", …]}          while an erasure is under way also "unfinished": true

What enters: row ids. What leaves: whether one has been erased. Invariant: ids are kept as BLAKE2b of 16 bytes, keyed by
a salt of the dataset's own: who has the file can try ids, and read none. Nothing is ever taken out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from datapipe.storage import Store

ERASED: Final = "erased.json"
REASON: Final = "erased"
"""What such a row is counted by, as if a step of that name had dropped it."""
STEP: Final = "erase"
_HEX: Final = re.compile(r"[0-9a-f]{32}")


@final
class Suppression:
    """The erased rows of one dataset."""

    def __init__(self, salt: bytes, ids: Iterable[str] = (), *, unfinished: bool = False) -> None:
        """`unfinished`: an erasure has begun and was not seen to its end."""
        self._salt = salt
        self._ids = set(ids)
        self.unfinished = unfinished

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, str) and self._name(row_id) in self._ids

    def mask(self, row_ids: Any) -> pa.Array:
        """Which of these ids (a string column) have been erased: boolean[n]; a null has not."""
        import pyarrow as pa

        return pa.array([row_id in self for row_id in row_ids.to_pylist()], pa.bool_())

    def add(self, row_ids: Iterable[str]) -> None:
        """Remember more of them."""
        self._ids.update(map(self._name, row_ids))

    @property
    def digest(self) -> str:
        """Names what is in it: tasks that read the corpus depend on it. "" where there is nothing."""
        return hashlib.blake2b(self.to_json(), digest_size=16).hexdigest() if self._ids else ""

    def to_json(self, *, unfinished: bool = False) -> bytes:
        """The file."""
        told = {"salt": self._salt.hex(), "ids": sorted(self._ids)} | ({"unfinished": True} if unfinished else {})
        return json.dumps(told, indent=1).encode() + b"\n"

    def _name(self, row_id: str) -> str:
        return hashlib.blake2b(row_id.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=16).hexdigest()


def read_suppression(store: Store) -> Suppression:
    """What has been erased of the dataset at `store`; an empty one where nothing has.

    Raises:
        IntegrityError: the file is damaged: without it, what was erased would come back.
    """
    try:
        raw = json.loads(store.read(ERASED))
        salt, ids = bytes.fromhex(raw["salt"]), list(raw["ids"])
        if len(salt) == 16 and all(isinstance(each, str) and _HEX.fullmatch(each) for each in ids):
            return Suppression(salt, ids, unfinished=raw.get("unfinished") is True)
    except NotFoundError:
        return Suppression(os.urandom(16))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise IntegrityError(
        f"{store.url}/{ERASED} is damaged",
        expected="the list of erased rows, as `datapipe erase` wrote it",
        fix="restore it from a copy: without it, rows that were erased would come back",
    )


def nothing_to_erase(store: Store) -> ConfigError:
    """The error of who names no row where no erasure is to be ended."""
    return ConfigError(
        f"no row id was given, and no erasure of {store.url} was interrupted; nothing was changed",
        expected="ids of rows, as the column row_id has them",
        fix="datapipe erase DATASET ROW_ID …, or --from a file of ids",
    )
