"""Where rows that are to be erased have been: their places in the splits, and those of the rows that lost to them.

What enters: a stored run, row ids. What leaves: places. Invariant: a row that was taken for a duplicate of an erased
one is erased with it: it says the same, and would take its place in the next run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.stored_run import StoredRun
    from datapipe.preprocess.suppression import Suppression

    Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Places:
    """What was found.

    Attributes:
        read: by split, positions of rows that the reader made, ascending. unread: by split, places in its first signals
            file of rows that it did not.
        ids: of all of them. known: those found by their id, asked for or on the list. losers: how many were found
            because they repeat one that was.
        survivors: ids of rows that stay, and that an erased one was a duplicate of.
        files: names of input files that held such a row and, in its split, nothing else: the name may tell of a person.
    """

    read: Mapping[int, Ints]
    unread: Mapping[int, Ints]
    ids: frozenset[str]
    known: frozenset[str]
    losers: int
    survivors: tuple[str, ...] = field(default=())
    files: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return sum(map(len, self.read.values())) + sum(map(len, self.unread.values()))


def places_of(run: StoredRun, row_ids: Iterable[str], suppression: Suppression) -> Places:
    """Find rows by id, and what repeats them. Reads the ids and fates of all rows, split by split.

    Rows on the list are found as well: they are there where an erasure was killed once it had written the list, or
    where a snapshot that it had not removed yet was rolled back to.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(set(row_ids)), pa.string())
    read: dict[int, set[int]] = {}
    unread: dict[int, Any] = {}
    known: set[str] = set()
    alone: set[str] = set()
    lost: dict[tuple[int, int], list[tuple[int, int]]] = {}
    to: dict[tuple[int, int], tuple[int, int]] = {}
    for split, files in run.files.items():
        first = run.table(files[0], ["row_id", "position"])
        found = pc.fill_null(pc.is_in(first.column("row_id"), value_set=wanted), False)
        if len(suppression):
            found = pc.or_(found, suppression.mask(first.column("row_id")))
        if pc.any(found).as_py():
            known.update(first.column("row_id").filter(found).to_pylist())
            alone.update(_files_of_one(first.column("row_id"), found))
            there = pc.is_valid(first.column("position"))
            mine = first.column("position").filter(pc.and_(found, there))
            read[split] = set(mine.to_pylist())
            unread[split] = np.flatnonzero(pc.and_(found, pc.invert(there)).to_numpy())
        for file in files:
            table = run.table(file, ["position", "survivor_split", "survivor_position"])
            if "survivor_split" not in table.column_names:
                continue
            table = table.filter(pc.is_valid(table.column("survivor_split")))
            for position, s, p in zip(*(table.column(n).to_pylist() for n in table.column_names), strict=True):
                lost.setdefault((s, p), []).append((split, position))
                to[split, position] = (s, p)
    asked = {(split, position) for split, positions in read.items() for position in positions}
    losers, open_ = 0, list(asked)
    while open_:
        for split, position in lost.get(open_.pop(), ()):
            if position not in read.setdefault(split, set()):
                read[split].add(position)
                open_.append((split, position))
                losers += 1
    stay = {to[place] for place in asked if place in to and to[place][1] not in read.get(to[place][0], ())}
    positions = {split: np.array(sorted(each), np.int64) for split, each in read.items() if each}
    return Places(
        read=positions,
        unread={split: each for split, each in unread.items() if len(each)},
        ids=frozenset(known) | _ids_at(run, positions),
        known=frozenset(known),
        losers=losers,
        survivors=tuple(sorted(_ids_at(run, _by_split(stay)))),
        files=tuple(sorted(alone)),
    )


def ids_of_older(run: StoredRun, row_ids: Iterable[str]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Of the snapshots before the newest, which hold what was rolled back, those of these ids that a row of theirs has.

    Args:
        run: of the newest snapshot. row_ids: that are looked for.

    Returns:
        The ids that were found; these with those of the rows that lost to them there; and ids of the newest's rows that
        they had lost to. Snapshots whose rows the newest one knows all of are not looked through.
    """
    from datapipe.dataset import read_snapshot, snapshot_paths
    from datapipe.errors import ManifestError, NotFoundError
    from datapipe.preprocess.stored_run import stored_run
    from datapipe.preprocess.suppression import Suppression

    wanted = list(row_ids)
    seen = {file.path for files in run.files.values() for file in files}
    found: set[str] = set()
    all_of_them: set[str] = set()
    survivors: set[str] = set()
    for number in snapshot_paths(run.store) if wanted else ():
        if number >= run.manifest.snapshot:
            continue  # kept by who was killed before the next was published
        try:
            older = replace(stored_run(run.store, read_snapshot(run.store, number)), keyring=run.keyring)
            paths = {file.path for files in older.files.values() for file in files}
            if paths <= seen:
                continue
            places = places_of(older, wanted, Suppression(b""))
        except (NotFoundError, ManifestError):
            continue  # nobody can roll back to it, and it goes with the others
        found |= places.known
        all_of_them |= places.ids
        survivors |= {*places.survivors}
        seen |= paths
    stay = places_of(run, survivors, Suppression(b"")).known if survivors else frozenset()
    return frozenset(found), frozenset(all_of_them), stay


def _files_of_one(ids: Any, found: Any) -> list[str]:
    """Of the files that rows were found in, by their ids ("file:place"), those with no other row here."""
    import pyarrow.compute as pc

    files = pc.replace_substring_regex(ids, ":[^:]*$", "")
    mine = files.filter(pc.is_in(files, value_set=files.filter(found).combine_chunks()))
    return [each["values"] for each in pc.value_counts(mine).to_pylist() if each["counts"] == 1]


def _by_split(places: Iterable[tuple[int, int]]) -> dict[int, Ints]:
    import numpy as np

    found: dict[int, list[int]] = {}
    for split, position in places:
        found.setdefault(split, []).append(position)
    return {split: np.array(each, np.int64) for split, each in found.items()}


def _ids_at(run: StoredRun, positions: Mapping[int, Ints]) -> frozenset[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids: set[str] = set()
    for split, mine in positions.items():
        table = run.table(run.files[split][0], ["row_id", "position"])
        chosen = pc.is_in(table.column("position"), value_set=pa.array(mine, pa.uint32()))
        ids.update(table.column("row_id").filter(chosen).drop_null().to_pylist())
    return frozenset(ids)
