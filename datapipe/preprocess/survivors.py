"""Of a row that lost to another: the row id of the other, for its place (split:position).

What enters: a sample of rejects, whose details are places. What leaves: the same with row ids. Invariant: a row id is
given only where the row is really there to be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from datapipe.preprocess.rejects import RejectSample
from datapipe.preprocess.rows_file import read_rows
from datapipe.preprocess.step_order import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datapipe.preprocess.made import Made
    from datapipe.preprocess.tasks import Reject
    from datapipe.storage import Store


def with_survivors(rejects: Iterable[Reject], made: Made, store: Store) -> RejectSample:
    """The sample, with the row id of a duplicate's survivor for its place."""
    rejects = tuple(rejects)
    removed = {stage.removal.reason: stage.removal for stage in made.plan.stages if stage.removal is not None}
    wanted: dict[int, set[int]] = {}
    for reject in rejects:
        if reject.reason in removed and ":" in reject.detail:
            split, _, position = reject.detail.partition(":")
            wanted.setdefault(int(split), set()).add(int(position))
    names = row_ids_at(wanted, made, store)
    sample = RejectSample(made.plan.recipe.seed)
    for reject in rejects:
        if reject.reason not in removed:
            sample.add([reject])
            continue
        # Of a repeated id, the row that has it first may be gone for another reason: there is nothing to point at.
        first = names.get(reject.detail) if removed[reject.reason].kind == "duplicate" else None
        how = "equal to" if reject.reason == "duplicate" else "much like"
        sample.add([replace(reject, detail=f"{how} {first}" if first else "")])
    return sample


def row_ids_at(wanted: Mapping[int, set[int]], made: Made, store: Store) -> dict[str, str]:
    """Row ids by place, of the places (positions by split) whose rows the first stage wrote."""
    names: dict[str, str] = {}
    for stage in made.plan.stages:
        if "rows" not in stage.writes or stage.source is not None:
            continue
        for split, positions in wanted.items():
            record = made.records[stage.number].get(split)
            if record is None or "rows" not in record.files:
                continue
            for table in read_rows(store, record.files["rows"].path, ["row_id", POSITION]):
                found = zip(table.column(POSITION).to_pylist(), table.column("row_id").to_pylist(), strict=True)
                names |= {f"{split}:{position}": row_id for position, row_id in found if position in positions}
    return names
