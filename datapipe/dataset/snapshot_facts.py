"""What made a snapshot, written down before what it is told from goes: the snapshots before it.

    snapshots/told.json    {number: {"fingerprint": …, "kind": …, "added": rows or null}}

What enters: a store. What leaves: facts by number. Invariant: it is for people to read; a dataset is whole without it,
and what is not there, or is of another content, is told from the manifests that are left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from datapipe.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.storage import Store

TOLD: Final = "snapshots/told.json"


@dataclass(frozen=True, kw_only=True)
class SnapshotFacts:
    """`kind` and `added` of a snapshot, as `dataset.snapshots.Snapshot` has them, and the content they are of."""

    fingerprint: str
    kind: str
    added: int | None


def read_facts(store: Store) -> dict[int, SnapshotFacts]:
    """By number; nothing where the file is not there, or is not what `put_facts` wrote."""
    try:
        found = {
            int(number): SnapshotFacts(fingerprint=each["fingerprint"], kind=each["kind"], added=each["added"])
            for number, each in json.loads(store.read(TOLD)).items()
        }
    except (NotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    sound = all(isinstance(each.kind, str) and isinstance(each.added, int | None) for each in found.values())
    return found if sound else {}


def put_facts(store: Store, facts: Mapping[int, SnapshotFacts]) -> None:
    """Write them, in the place of those that are there."""
    plain = {str(number): asdict(facts[number]) for number in sorted(facts)}
    store.put(TOLD, json.dumps(plain, indent=1).encode() + b"\n")


def note_facts(store: Store, number: int, facts: SnapshotFacts) -> None:
    """Write down what makes a snapshot that is about to be published."""
    put_facts(store, {**read_facts(store), number: facts})
