"""What another threshold would keep and drop, from what the steps measured: seconds, and no text is read.

What enters: a dataset made by `preprocess`, and other values for thresholds. What leaves: for each value the rows that
would be kept, lost and gained. Invariant: under the values that made the dataset the answer is the dataset, row by row
(checked on every call); what no step has measured is said to be unknown, not guessed to be kept.

A row that a rule dropped and that would now pass has been through no step after that rule's group (`steps.running`): it
is counted as "passes, not measured further". How many of them would be kept at the end is estimated by the share of
those that passed before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, PreprocessError
from datapipe.preprocess.retuned import Retuned, VariantCount
from datapipe.preprocess.split_fates import KEPT, PASSES, Fates, split_fates
from datapipe.preprocess.stored_run import of_stored_run, open_stored_run, step_called
from datapipe.steps.step import LABELS

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.preprocess.split_fates import SplitFates, StageFates
    from datapipe.preprocess.stored_run import StoredRun, StoredStep

MAX_VARIANTS: Final = 64


@of_stored_run
def retune(
    dataset: str | os.PathLike[str],
    changes: Mapping[str, Any],
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Retuned:
    """Judge the stored signals again.

    Args:
        dataset: made by `preprocess`.
        changes: by "step.option", the value, or a list of values to compare; several lists give every combination.

    Raises:
        ConfigError: no such step or option; an option that is no threshold (its step would have to measure again); a
            value out of range; more than 64 combinations.
        DatasetError: the dataset has no signals. PreprocessError: they were measured by another version of a step.
    """
    began = time.perf_counter()
    run = open_stored_run(dataset, storage_options=storage_options)
    variants = _variants(run, changes)
    places = sorted({place for _, options in variants for place in options})
    kinds = {file.places: file for files in run.files.values() for file in files}
    columns = {
        column
        for file in kinds.values()
        for group in run.groups(file)
        if any(step.place in places for step in group)
        for step in group
        for column in run.signal_columns(file, step).values()
    }
    fates = Fates()
    survivors = _survivors(run)
    counts = [VariantCount(named) for named, _ in variants]
    now = VariantCount({})
    for split in run.files:
        rows = split_fates(run, split, fates, ["row_id", *LABELS[:1], *sorted(columns)])
        now.add(rows, rows.fate, None)
        _check(run, rows, fates, places)
        repeated = survivors.get(split)
        for (_, options), count in zip(variants, counts, strict=True):
            fate, reached = _judged(run, rows, fates, options)
            count.add(rows, fate, repeated, reached=reached)
    later = run.steps[_end_of_group(run, max(places)) + 1 :]
    return Retuned(
        dataset=run.store.url,
        documents_in=now.rows,
        kept=now.kept,
        bytes_kept=now.bytes_kept,
        gone=now.gone(fates),
        later=tuple(step.name for step in later if _may_remove(step)),
        variants=tuple(count.finished(fates) for count in counts),
        seconds=time.perf_counter() - began,
    )


def _variants(run: StoredRun, changes: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[int, Any]]]:
    """Of each combination: values by "step.option", and options by place of the step."""
    from datapipe.steps import options_from

    if not changes:
        raise ConfigError("nothing to change", expected="step.option=value", fix="name a threshold: --set step.option=")
    found: list[tuple[StoredStep, str, list[Any]]] = []
    for key, value in changes.items():
        step, option = step_called(run, key)
        _check_threshold(run, step, option)
        several = isinstance(value, Sequence) and not isinstance(value, str)
        if several and isinstance(step.plain.get(option), list):
            several = any(isinstance(each, Sequence) and not isinstance(each, str) for each in value)
        found.append((step, option, list(value) if several else [value]))
    combinations = list(itertools.product(*(values for _, _, values in found)))
    if not 1 <= len(combinations) <= MAX_VARIANTS:
        raise ConfigError(f"{len(combinations)} combinations", expected=f"1 to {MAX_VARIANTS}", fix="name fewer values")
    variants = []
    for values in combinations:
        plain: dict[int, dict[str, Any]] = {}
        for (step, option, _), value in zip(found, values, strict=True):
            plain.setdefault(step.place, dict(step.plain))[option] = value
        options = {}
        for place, mapping in plain.items():
            spec = run.steps[place].spec
            assert spec is not None
            options[place] = options_from(spec, mapping)
        named = {f"{step.name}.{option}": value for (step, option, _), value in zip(found, values, strict=True)}
        variants.append((named, options))
    return variants


def _check_threshold(run: StoredRun, step: StoredStep, option: str) -> None:
    """Refuse what stored signals cannot answer."""
    from datapipe.steps.options import nearest

    again = f"datapipe preprocess … --set {step.name}.{option}=VALUE"
    if step.spec is None or step.spec.judge is None:
        judged = [each.name for each in run.steps if each.spec is not None and each.spec.judge is not None]
        raise ConfigError(
            f"{step.name} keeps no signals that can be judged again",
            expected=f"a threshold of {', '.join(judged)}" if judged else "a recipe with a step that keeps signals",
            fix=f"run it anew: {again}",
        )
    thresholds = [name for name in step.plain if name not in step.spec.measured_by]
    if option in step.spec.measured_by:
        raise ConfigError(
            f"{step.name}.{option} decides what is measured",
            expected=f"a threshold: {', '.join(thresholds)}",
            fix=f"measure anew: {again}",
        )
    if option not in step.plain:
        raise ConfigError(
            f"{step.name} has no option {option!r}",
            expected=f"one of {', '.join(thresholds)}",
            fix=nearest(option, thresholds),
        )
    if step.changed:
        raise PreprocessError(
            f"{step.name} ran in another version than the one installed",
            expected="signals of the version that judges them",
            fix="run preprocess again, or install the version that made the dataset",
        )


def _check(run: StoredRun, rows: SplitFates, fates: Fates, places: list[int]) -> None:
    """The options that ran, judged again, give the dataset."""
    same = {place: run.steps[place].options for place in places}
    fate, _ = _judged(run, rows, fates, same)
    if (wrong := int((fate != rows.fate).sum())) > 0:
        raise PreprocessError(
            f"split {rows.split}: of {len(fate):,} rows {wrong:,} are judged otherwise than when the dataset was made",
            expected="signals of the version that judges them",
            fix="run preprocess again, or install the version that made the dataset",
        )


def _judged(
    run: StoredRun, rows: SplitFates, fates: Fates, options: Mapping[int, Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Fates under other options: int64[n]; and which rows passed the changed rules before: bool[n]."""
    import numpy as np

    fate = rows.fate.copy()
    passed = np.zeros(len(fate), bool)
    for stage in rows.stages:
        groups = run.groups(stage.file)
        for number, group in enumerate(groups):
            if not any(step.place in options for step in group):
                continue
            before = {step.name for earlier in groups[:number] for step in earlier}
            mine = {step.name for step in group} - before
            # Rows that the group saw: not gone when the stage read them, nor in a step before the group.
            ahead = before | {each.step for each in fates.known if each.step not in _names(run, stage)}
            seen = ~np.isin(stage.fate, [i for i, each in enumerate(fates.known) if each.step in ahead])
            inside = np.isin(stage.fate, [i for i, each in enumerate(fates.known) if each.step in mine])
            marks = _group_marks(run, stage, group, fates, options, seen)
            at = stage.position
            # A row that has another fate by now went in an earlier stage under these options.
            open_ = seen & (fate[at] == rows.fate[at])
            new = np.where(marks != KEPT, marks, np.where(inside, _beyond(run, group), rows.fate[at]))
            fate[at[open_]] = new[open_]
            passed[at[seen & ~inside]] = True
    return fate, passed


def _names(run: StoredRun, stage: StageFates) -> set[str]:
    return {run.steps[place].name for place in stage.file.places}


def _beyond(run: StoredRun, group: list[StoredStep]) -> int:
    """What a row is that passes a group for the first time: kept, if nothing after it can remove a row."""
    return PASSES if any(_may_remove(step) for step in run.steps[group[-1].place + 1 :]) else KEPT


def _end_of_group(run: StoredRun, place: int) -> int:
    """The place of the last step that was measured on the same rows as that at `place`."""
    for files in run.files.values():
        for group in (group for file in files for group in run.groups(file)):
            if any(step.place == place for step in group):
                return group[-1].place
    return place


def _may_remove(step: StoredStep) -> bool:
    return step.spec is None or bool(step.spec.reasons) or (step.spec.kind == "global" and step.name != "vocabulary")


def _group_marks(
    run: StoredRun,
    stage: StageFates,
    group: list[StoredStep],
    fates: Fates,
    options: Mapping[int, Any],
    seen: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Of each row of a stage the first mark of the group under these options, `KEPT` without one: int64[rows]."""
    import numpy as np
    import pyarrow as pa

    marks = np.full(len(seen), KEPT)
    if not seen.any():
        return marks
    table = stage.table.filter(pa.array(seen))
    places = np.flatnonzero(seen)
    for step in group:
        assert step.spec is not None
        assert step.spec.judge is not None
        reasons = step.spec.judge(_signals(run, stage, step, table), options.get(step.place, step.options))
        verdict = _numbered(reasons, step, fates)
        # What a step of the group quarantined is bad data under any threshold.
        bad = [i for i, f in enumerate(fates.known) if f.step == step.name and f.kind == "quarantine"]
        stored = stage.fate[places]
        verdict = np.where(np.isin(stored, bad), stored, verdict)
        marks[places] = np.where(marks[places] == KEPT, verdict, marks[places])
    return marks


def _signals(run: StoredRun, stage: StageFates, step: StoredStep, table: pa.Table) -> pa.Table:
    """The step's signals by their own names, and the labels that rows have."""
    columns = run.signal_columns(stage.file, step)
    labels = [name for name in LABELS if name in table.column_names]
    chosen = table.select([*columns.values(), *labels])
    return chosen.rename_columns([*columns, *labels])


def _numbered(reasons: Any, step: StoredStep, fates: Fates) -> npt.NDArray[np.int64]:
    """The numbers of drops by reason: int64[n], `KEPT` where null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons
    coded = coded.dictionary_encode()
    numbers = np.array([fates.number(step.name, "drop", word) for word in coded.dictionary.to_pylist()] + [KEPT])
    found: npt.NDArray[np.int64] = numbers[pc.fill_null(coded.indices.cast(pa.int64()), len(numbers) - 1).to_numpy()]
    return found


def _survivors(run: StoredRun) -> dict[int, npt.NDArray[np.int64]]:
    """Positions of the rows that others repeat, by split."""
    import numpy as np

    found: dict[int, list[Any]] = {}
    for files in run.files.values():
        for file in files:
            table = run.table(file, ["survivor_split", "survivor_position"]).drop_null()
            splits = table.column("survivor_split").to_numpy()
            positions = table.column("survivor_position").to_numpy().astype(np.int64)
            for split in np.unique(splits).tolist():
                found.setdefault(split, []).append(positions[splits == split])
    return {split: np.unique(np.concatenate(parts)) for split, parts in found.items()}
