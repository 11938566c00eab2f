"""What happened to one row: where it came from, what each step measured and said, and where it is now.

What enters: a dataset made by `preprocess`, a row id. What leaves: an `Explanation`. Invariant: everything in it was
stored when the row went through; a step's verdict is the one that counted, and of steps that were not reached nothing
is said.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import DatasetError
from datapipe.preprocess.explanation import Explanation, StepSaid, Survivor
from datapipe.preprocess.row_in_shards import in_shards, moved_in_shards
from datapipe.preprocess.row_search import Place, find_row, nearest_ids, row_id_at
from datapipe.preprocess.signals_file import base_fields
from datapipe.preprocess.sound_windows import cuts_windows, sound_of, windows_of
from datapipe.preprocess.stored_run import of_stored_run, open_stored_run
from datapipe.steps.step import LABELS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from datapipe.preprocess.row_in_shards import InShards
    from datapipe.preprocess.sound_windows import Window
    from datapipe.preprocess.stored_run import StageFile, StoredRun, StoredStep

_CHAIN: Final = 8
"""Survivors that lost to others in turn are followed so far."""


@of_stored_run
def explain(
    dataset: str | os.PathLike[str],
    row_id: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    keys: Any = None,
) -> Explanation:
    """What became of the row of that id.

    Args:
        dataset: made by `preprocess`.
        row_id: "<file>:<position>", or what the recipe's input.id_column held; or of a window of a sound,
            "<row id>#<frame>".
        keys: of encrypted columns, as `open_dataset` takes them.

    Returns:
        The row's story; of an id that was given more than once, that of the first, the others in `same_id`.

    Raises:
        DatasetError: no row has that id; the message holds those that may have been meant. Or the dataset has no
            signals.
    """
    run = open_stored_run(dataset, storage_options=storage_options, keys=keys)
    found = [_explained(run, row_id, place) for place in find_row(run, row_id)]
    sound = sound_of(row_id) if cuts_windows(run) else None
    if sound is not None:
        found += _of_window(run, row_id, sound, alone=not found)
    if not found:
        raise _unknown(run, row_id)
    return found[0].with_same_id(tuple(found[1:]))


def _of_window(run: StoredRun, row_id: str, sound: str, *, alone: bool) -> Iterator[Explanation]:
    """What became of a window: of its sound, and where the window is.

    Args:
        alone: whether no row of the input has the id. Then it is an error that the sound has no such window.
    """
    for place in find_row(run, sound):
        whole = _explained(run, sound, place)
        rows = whole.where.rows if whole.where is not None else ()
        for row, window in zip(rows, whole.windows, strict=True):
            if whole.where is not None and window.row_id == row_id:
                where = replace(whole.where, rows=(row,))
                yield replace(whole, row_id=row_id, sound=sound, windows=(window,), where=where)
                return
        if alone and whole.windows:
            near = sorted(whole.windows, key=lambda each: abs(each.start_frame - int(row_id.rpartition("#")[2])))
            raise DatasetError(
                f"the sound {sound!r} has no window {row_id!r}",
                expected=f"one of its {len(whole.windows):,}, like {', '.join(each.row_id for each in near[:3])}",
                fix="copy one from the column row_id of the shards",
            )
        if alone:
            yield replace(whole, row_id=row_id, sound=sound)


def _unknown(run: StoredRun, row_id: str) -> DatasetError:
    near = nearest_ids(run, row_id)
    named = (run.manifest.recipe or {}).get("input", {}).get("id_column") is not None
    file = row_id.rpartition(":")[0]
    why = ""
    if near.is_file and not named:
        why = ": that is a file, and its rows are <file>:<position>"
    elif file and not near.same_file and not named:
        why = f": the dataset has no row of a file {file!r}"
    return DatasetError(
        f"no row has the id {row_id!r}{why}",
        expected="the id of a row of the input" + (f", like {', '.join(near.ids)}" if near.ids else ""),
        fix="copy one from rejects/*.jsonl, or from the column row_id of the shards",
    )


def _explained(run: StoredRun, row_id: str, place: Place) -> Explanation:
    import pyarrow.compute as pc

    steps: list[StepSaid] = []
    labels: dict[str, Any] = {}
    gone: StepSaid | None = None
    size = None
    for number, file in enumerate(run.files[place.split]):
        table = run.table(file)
        if place.read:
            table = table.filter(pc.equal(table.column("position"), place.at))
        else:
            table = table.slice(place.at, 1) if number == 0 else table.slice(0, 0)
        row = table.to_pylist()[0] if table.num_rows else None
        if number == 0:
            size = row["bytes"] if row is not None else None
        if row is not None:
            labels |= {name: row[name] for name in LABELS if row.get(name) is not None}
        said, gone = _stage(run, file, row, table)
        steps += said
        if gone is not None:
            # The row-by-row half of a global step lets every row pass; what counts is what the whole said.
            whole = gone
            steps = [each for each in steps if each is whole or each.step != whole.step]
            break
    id_column = (run.manifest.recipe or {}).get("input", {}).get("id_column")
    where, windows = _where(run, row_id, place) if gone is None else (None, ())
    return Explanation(
        row_id=row_id,
        file=row_id.rpartition(":")[0] if id_column is None else None,
        split=place.split,
        position=place.at if place.read else None,
        bytes=size,
        outcome="kept" if gone is None else {"drop": "dropped", "quarantine": "quarantined"}.get(gone.kind, gone.kind),
        step=None if gone is None else gone.step,
        reason=None if gone is None else gone.reason,
        detail=None if gone is None else gone.detail,
        survivor=None if gone is None else gone.survivor,
        steps=_with_silent(run, steps, gone),
        labels=labels,
        redactions=_redactions(run, steps),
        where=where,
        windows=windows,
    )


def _with_silent(run: StoredRun, steps: list[StepSaid], gone: StepSaid | None) -> tuple[StepSaid, ...]:
    """The steps with those between them that no stage of the ledger tells of: a global step that let the row pass."""
    said = {each.step: each for each in steps}
    names = [step.name for step in run.steps]
    if gone is not None and gone.step in names:
        names = names[: max((place for place, name in enumerate(names) if name in said), default=-1) + 1]
    elif gone is not None:
        return tuple(steps)
    if len(said) < len(steps):
        return tuple(steps)  # a step that comes twice: they are told apart by their order alone
    silent = StepSaid(step="", kind="passed", reason=None)
    rest = [each for each in steps if each.step not in names]
    return (*rest, *(said.get(name) or replace(silent, step=name) for name in names))


def _where(run: StoredRun, row_id: str, place: Place) -> tuple[InShards, tuple[Window, ...]]:
    if cuts_windows(run):
        return windows_of(run, place.split, row_id)
    return (moved_in_shards(run, row_id) if run.moved else in_shards(run, place.split, place.at)), ()


def _stage(
    run: StoredRun, file: StageFile, row: dict[str, Any] | None, table: pa.Table
) -> tuple[list[StepSaid], StepSaid | None]:
    """What the steps of a stage said of the row, and that by which it went."""
    said: list[StepSaid] = []
    gone: StepSaid | None = None
    names = [run.steps[place].name for place in file.places]
    if row is not None and row["kind"] is not None and row["step"] not in names:
        # By the reader, or by a drop list, before the stage's first step.
        gone = _said_gone(run, file.split, row, signals={}, thresholds={})
        return [gone], gone
    for group in run.groups(file):
        for step in group:
            signals = {} if row is None else _measured(run, file, step, row)
            thresholds = _thresholds(step) if signals else {}
            if row is not None and gone is None and row["step"] == step.name:
                gone = _said_gone(run, file.split, row, signals=signals, thresholds=thresholds)
                said.append(gone)
            else:
                also = _verdict(run, file, step, table) if signals and gone is not None else None
                said.append(
                    StepSaid(
                        step=step.name,
                        kind="passed" if gone is None else "measured",
                        reason=also,
                        signals=signals,
                        thresholds=thresholds,
                    )
                )
        if gone is not None:
            return said, gone
    return said, None


def _said_gone(
    run: StoredRun, split: int, row: dict[str, Any], *, signals: dict[str, Any], thresholds: dict[str, Any]
) -> StepSaid:  # fmt: skip
    survivor = None
    # Of a repeated id the other row has the same id: there is nothing to name.
    if row["survivor_split"] is not None and row["kind"] == "duplicate":
        survivor = _survivor(run, row["survivor_split"], row["survivor_position"])
    detail = row["detail"]
    if detail is None and survivor is not None:
        detail = _similarity(run, split, row["position"])
    return StepSaid(
        step=row["step"],
        kind=row["kind"],
        reason=row["reason"],
        detail=detail,
        survivor=survivor,
        signals=signals,
        thresholds=thresholds,
    )


def _survivor(run: StoredRun, split: int, position: int) -> Survivor:
    """The row that another repeats, and what became of it: it may have gone in a later step, for its own reason."""
    import pyarrow.compute as pc

    row_id = row_id_at(run, split, position)
    outcome, reason, then = "kept", None, None
    for file in run.files.get(split, ()):
        table = run.table(file, ["position", "kind", "reason", "survivor_split", "survivor_position"])
        rows = table.filter(pc.equal(table.column("position"), position)).to_pylist()
        if rows and rows[0]["kind"] is not None:
            outcome, reason = (
                {"drop": "dropped", "quarantine": "quarantined"}.get(rows[0]["kind"], rows[0]["kind"]),
                (rows[0]["reason"]),
            )
            if rows[0]["survivor_split"] is not None and outcome == "duplicate":
                then = (rows[0]["survivor_split"], rows[0]["survivor_position"])
            break
    last = row_id
    for _ in range(_CHAIN):
        if then is None:
            break
        last = row_id_at(run, *then)
        then = _lost_to(run, *then)
    return Survivor(row_id=row_id, split=split, position=position, outcome=outcome, reason=reason, last=last)


def _similarity(run: StoredRun, split: int, position: int) -> str | None:
    """Of a near duplicate, how like which document it is, from the table of clusters; None where there is none."""
    import pyarrow.compute as pc

    for path in run.clusters:
        table = run.read(path, ["split", "position", "jaccard", "link_split", "link_position"])
        mine = pc.and_(pc.equal(table.column("split"), split), pc.equal(table.column("position"), position))
        for row in table.filter(mine).to_pylist():
            other = row_id_at(run, row["link_split"], row["link_position"])
            likeness = row["jaccard"]
            # Of pairs that were not verified nothing is known but that they share a band.
            alike = (
                "shares a band with" if likeness is None or math.isnan(likeness) else f"similarity {likeness:.3f} to"
            )
            return f"{alike} {other}"
    return None


def _lost_to(run: StoredRun, split: int, position: int) -> tuple[int, int] | None:
    import pyarrow.compute as pc

    for file in run.files.get(split, ()):
        table = run.table(file, ["position", "survivor_split", "survivor_position"]).drop_null()
        for row in table.filter(pc.equal(table.column("position"), position)).to_pylist():
            return row["survivor_split"], row["survivor_position"]
    return None


def _measured(run: StoredRun, file: StageFile, step: StoredStep, row: dict[str, Any]) -> dict[str, Any]:
    """The step's signals by name, of a row that it measured."""
    columns = run.signal_columns(file, step)
    steps = [run.steps[place] for place in file.places]
    if step.spec is None and sum(each.spec is None for each in steps) == 1:
        # The one step whose code is not at hand (a user's own): what no other step of the stage has measured.
        others = {column for each in steps for column in run.signal_columns(file, each).values()}
        columns = {name: name for name in row if name not in others | {*base_fields(), *LABELS}}
    values = {name: row.get(column) for name, column in columns.items()}
    return {} if all(value is None for value in values.values()) else values


def _thresholds(step: StoredStep) -> dict[str, Any]:
    """The options that the step's judge reads: numbers and short texts."""
    if step.spec is None or step.spec.judge is None:
        return {}
    return {name: value for name, value in step.plain.items() if name not in step.spec.measured_by}


def _verdict(run: StoredRun, file: StageFile, step: StoredStep, table: pa.Table) -> str | None:
    """What a step that came after the one that counted says of the row."""
    if step.spec is None or step.spec.judge is None or step.changed:
        return None
    columns = run.signal_columns(file, step)
    labels = [name for name in LABELS if name in table.column_names]
    chosen = table.select([*columns.values(), *labels]).rename_columns([*columns, *labels])
    reason: str | None = step.spec.judge(chosen, step.options)[0].as_py()
    return reason


def _redactions(run: StoredRun, said: list[StepSaid]) -> dict[str, int]:
    """Counters of the row that are not zero."""
    specs = {step.name: step.spec for step in run.steps}
    found: dict[str, int] = {}
    for each in said:
        spec = specs.get(each.step)
        for name in spec.counters if spec is not None else ():
            if each.signals.get(name):
                found[name] = found.get(name, 0) + int(each.signals[name])
    return found
