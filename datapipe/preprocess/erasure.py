"""What an erasure did, as `datapipe erase` tells it.

What enters: counts. What leaves: the same, JSON-able. Invariant: no id of an erased row is in it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was done.

    Attributes:
        url, fingerprint, snapshot: of the dataset as it is now.
        erased: documents that this call erased: those asked for, and those that had been dropped as duplicates of them
            (`duplicates`). before: of the ids asked for, those that had been erased before.
        rows: of the shards that are gone; packed ones count where fewer rows are left. shards: that were rewritten.
        removed: files that were deleted. cached_bytes: that caches gave up.
        notes: what a person must know: what erasing does not reach here.
    """

    url: str
    fingerprint: str
    snapshot: int
    erased: int
    duplicates: int
    before: int
    rows: int
    shards: int
    removed: int
    cached_bytes: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"notes": list(self.notes)}
