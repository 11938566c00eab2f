"""The profiles of a job's ranks, merged: who is late, in what, and who waits for whom.

What enters: a job's folder, with a profile per rank. What leaves: the summary of the rank that the others wait for (of
the first, where none is late), with `ranks`, and with the verdict and the fixes of the job.
Invariant: nothing rests on the machines' clocks agreeing; only durations within a rank are compared, step by step.

Ranks that train together meet in the step: in the backward pass, where DistributedDataParallel reduces gradients, in
collectives ("communication"), and wherever the spread that earlier parts left between them closes (a forward pass that
broadcasts buffers or gathers weights). What a rank does before they meet is its *own* time. Synchronous steps are
equally long on every rank, so where a rank's own time is shorter than the last rank's it waits inside the meeting: by
the smaller of how much earlier it arrives and how much longer its meeting takes. (Critical path of a bulk-synchronous
step; Böhme et al., "Identifying the root causes of wait states", ICPP 2010, calls it "Wait at N x N".)
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.errors import ProfileError
from datapipe.profiling.profile_file import NAME, load_profile
from datapipe.profiling.rank_advice import job_advice, job_verdict
from datapipe.profiling.ranks import RankRow, Ranks, RankWait
from datapipe.profiling.verdict import ms, spoken

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.summary import Summary

    Floats = npt.NDArray[np.float64]

_MEETING: Final = ("backward", "communication")
"""Parts of the step in which ranks wait for each other."""
_MAY_MEET: Final = ("forward", "optimizer", "sync")
"""Parts in which they do so if half of the spread between them, or more, is gone after it."""
_LATE: Final = 0.05
"""Share of the mean step from which a rank is a straggler: what TensorFlow Profiler calls moderately bound."""
_TOGETHER: Final = 0.10
"""The means of synchronous steps may differ by this share: the first and last steps of a short run are not shared."""
_MOST: Final = 0.8
"""Share of the steps in which ranks that meet end closer than they began."""
_SMALL: Final = 0.001
"""Waits between two ranks below this share of the step are left out: a thousand ranks have a million pairs."""


def has_ranks(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the profiles of a job's ranks."""
    return any(Path(folder).glob(f"rank-*/{NAME}"))


def load_run(folder: str | os.PathLike[str]) -> Summary:
    """A run's profile, or a job's: where a folder holds ranks' profiles, these are merged (late ones included).

    A profile in the folder itself that was recorded after them, by a process that was alone, goes before them.

    Raises:
        ProfileError: as `load_profile` and `merge_ranks`.
    """
    path = Path(folder)
    if not has_ranks(path):
        return load_profile(path)
    merged = merge_ranks(path)
    if (path / NAME).exists():
        alone = load_profile(path)
        if alone.ranks is None and alone.started_unix_ns > merged.started_unix_ns:
            return alone
    return merged


def await_ranks(folder: str | os.PathLike[str], count: int, *, patience: float) -> Summary:
    """Merge once the ranks 0 to `count` - 1 have written, or after `patience` seconds with what is there.

    Raises:
        ProfileError: as `merge_ranks`.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end and any(not (Path(folder) / f"rank-{r}" / NAME).exists() for r in range(count)):
        time.sleep(0.05)
    return merge_ranks(folder)


def merge_ranks(folder: str | os.PathLike[str]) -> Summary:
    """Merge the profiles that the ranks of a job wrote into `folder/rank-0`, `folder/rank-1`, ….

    Args:
        folder: the job's folder. Profiles in it that another start of the job left are not taken.

    Returns:
        The summary of the latest rank (of the first there is, where none is late) with `ranks` filled in; its verdict
        and its fixes are the job's.

    Raises:
        ProfileError: there is no rank's profile, one is damaged, or two say that they are the same rank.
    """
    found = [load_profile(path.parent) for path in sorted(Path(folder).glob(f"rank-*/{NAME}"))]
    found = [one for one in found if one.rank is not None]
    if not found:
        raise ProfileError(
            f"there are no ranks' profiles in {folder}",
            expected=f"rank-0/{NAME}, rank-1/{NAME}, …",
            fix="record them: torchrun … -m datapipe profile train.py",
        )
    newest = max(found, key=lambda one: one.started_unix_ns).rank
    summaries = {
        one.rank.rank: one
        for one in found
        if one.rank is not None and newest is not None
        and (one.rank.world_size, one.rank.job) == (newest.world_size, newest.job)
    }  # fmt: skip
    ordered = dict(sorted(summaries.items()))
    ranks = side_by_side(ordered, newest.world_size if newest is not None else len(ordered))
    shown = next(iter(ranks.stragglers or ordered))
    return replace(
        ordered[shown], ranks=ranks, verdict=job_verdict(ordered[shown].verdict, ranks, shown),
        advice=job_advice(ordered, ranks, shown),
    )  # fmt: skip


def side_by_side(summaries: Mapping[int, Summary], world_size: int) -> Ranks:
    """The ranks' steady steps compared.

    Args:
        summaries: rank → its profile.
        world_size: processes the job had; ranks below it without a profile are named as missing.
    """
    import numpy as np

    ranks = sorted(summaries)
    missing = tuple(sorted(set(range(world_size)) - set(ranks)))
    common = _common_steps(summaries)
    if not len(common):
        return Ranks(
            world_size=world_size, steps=0, rows=(), missing=missing, synchronous=False, skew=(0.0, 0.0),
            stragglers=(), waits=(), sentence="The ranks have no steady step in common, so they cannot be compared.",
        )  # fmt: skip
    total = np.array([_column(summaries[r], summaries[r].series.total_ns, common) for r in ranks])
    columns = {
        name: np.array([_column(summaries[r], summaries[r].series.parts_ns.get(name, []), common) for r in ranks])
        for name in dict.fromkeys(name for r in ranks for name in summaries[r].series.parts_ns)
    }
    means = total.mean(axis=1)
    step = float(means.mean()) or 1.0
    agree = len(ranks) > 1 and float(means.max() - means.min()) <= _TOGETHER * step
    meetings = _meetings(columns, _LATE * step, agree=agree)
    meeting = sum((columns[name] for name in meetings), np.zeros_like(total))
    own = total - meeting
    synchronous = agree and bool(meeting.any())
    last = own.argmax(axis=0)
    late = np.zeros(len(ranks))
    if len(ranks) > 1:
        late = np.array([(own[i] - np.median(np.delete(own, i, axis=0), axis=0)).mean() for i in range(len(ranks))])
    across = np.arange(len(common))
    # Both are signs of waiting, and either alone is also noise: of the compute in backward, of the step's edge.
    idle = np.minimum(own[last, across] - own, meeting - meeting[last, across]).clip(min=0) * synchronous
    stragglers = tuple(ranks[i] for i in np.argsort(-late, kind="stable").tolist() if late[i] >= _LATE * step)
    parts = [_means(summaries[r], summaries[r].series.parts_ns, common) for r in ranks]
    waits = [_means(summaries[r], summaries[r].series.waits_ns, common) for r in ranks]
    rows = tuple(
        RankRow(
            rank=rank, step=float(means[i]), p50=float(np.percentile(total[i], 50)),
            p95=float(np.percentile(total[i], 95)), parts=parts[i], waits=waits[i],
            stages={row.name: row.mean for row in summaries[rank].stages}, own=float(own[i].mean()),
            late=float(late[i]), last=float((last == i).mean()), waiting=float(idle[i].mean()),
            slow_part=_slow_part(i, parts, waits) if rank in stragglers else None,
        )
        for i, rank in enumerate(ranks)
    )  # fmt: skip
    pairs = [
        RankWait(rank=ranks[i], waits_for=ranks[j], mean=float((idle[i] * (last == j)).mean()))
        for j in np.unique(last).tolist()
        for i in range(len(ranks))
        if i != j
    ]
    skew = own.max(axis=0) - own.min(axis=0)
    made = Ranks(
        world_size=world_size, steps=len(common), rows=rows, missing=missing, synchronous=synchronous,
        meetings=meetings if synchronous else (), stragglers=stragglers,
        skew=(float(skew.mean()), float(np.percentile(skew, 95))),
        waits=tuple(sorted((w for w in pairs if w.mean >= _SMALL * step), key=lambda wait: -wait.mean)), sentence="",
    )  # fmt: skip
    return replace(made, sentence=_sentence(made, step), evidence=_evidence(made))


def _meetings(columns: Mapping[str, Floats], worth: float, *, agree: bool) -> tuple[str, ...]:
    """The parts in which the ranks meet.

    Args:
        columns: part → float64[ranks, steps], ns, parts in the order of the step.
        worth: a spread smaller than this (ns, mean over the steps) is not looked at.
        agree: the ranks' steps are equally long.
    """
    found = []
    so_far: Floats | float = 0.0
    for name, ns in columns.items():
        after = so_far + ns
        if name in _MEETING:
            found.append(name)
        elif agree and name in _MAY_MEET and not isinstance(so_far, float):
            spread, left = (ends.max(axis=0) - ends.min(axis=0) for ends in (so_far, after))
            # In most steps too: in a few of them two parts may make up for each other by chance.
            if spread.mean() >= worth and left.mean() <= spread.mean() / 2 and (left <= spread / 2).mean() >= _MOST:
                found.append(name)
        so_far = after
    return tuple(found)


def _common_steps(summaries: Mapping[int, Summary]) -> npt.NDArray[np.int64]:
    """Numbers of the steps that are steady on every rank."""
    import numpy as np

    common: npt.NDArray[np.int64] | None = None
    for summary in summaries.values():
        number = np.array(summary.series.number, dtype=np.int64)
        steady = number[np.array(summary.series.kind, dtype=np.int64) == 0]
        common = np.unique(steady) if common is None else np.intersect1d(common, steady)
    return np.empty(0, dtype=np.int64) if common is None else common


def _column(summary: Summary, values: Sequence[int], common: npt.NDArray[np.int64]) -> Floats:
    """float64[common]: a column of the series at those steps (ns); zeros for a part the rank has not."""
    import numpy as np

    if not len(values):
        return np.zeros(len(common))
    number = np.array(summary.series.number, dtype=np.int64)
    order = np.argsort(number, kind="stable")
    taken: Floats = np.array(values, dtype=np.float64)[order[np.searchsorted(number[order], common)]]
    return taken


def _means(summary: Summary, columns: Mapping[str, Sequence[int]], common: npt.NDArray[np.int64]) -> dict[str, float]:
    return {name: float(_column(summary, values, common).mean()) for name, values in columns.items()}


def _slow_part(place: int, parts: Sequence[Mapping[str, float]], waits: Sequence[Mapping[str, float]]) -> str:
    """In words, where in its own time a rank exceeds the others' median most; of the wait, the stage."""
    part = _most_above([{k: v for k, v in one.items() if k not in _MEETING} for one in parts], place)
    stage = _most_above(waits, place) if part == "wait" and any(waits) else None
    if part == "wait":
        return f"it waits for {spoken(stage)}" if stage is not None else "it waits for data"
    return f"it is slow in {spoken(part)}"


def _most_above(tables: Sequence[Mapping[str, float]], place: int) -> str:
    import statistics

    def excess(name: str) -> float:
        others = [table.get(name, 0.0) for i, table in enumerate(tables) if i != place]
        return tables[place].get(name, 0.0) - (statistics.median(others) if others else 0.0)

    return max(tables[place], key=excess, default="other")


def _sentence(ranks: Ranks, step: float) -> str:
    row = {one.rank: one for one in ranks.rows}
    if len(ranks.rows) < 2:
        return "Only one rank left a profile: there is nothing to compare it with."
    if not ranks.stragglers:
        return f"The {len(ranks.rows)} ranks keep pace: none is late by {_LATE:.0%} of the step."
    worst = row[ranks.stragglers[0]]
    line = (
        f"Rank {worst.rank} is late by {ms(worst.late)} a step ({worst.late / step:.0%} of it): {worst.slow_part};"
        f" it is last in {worst.last:.0%} of the steps."
    )
    more = [str(rank) for rank in ranks.stragglers[1:]]
    return line + (f" Late too: rank{'s' if len(more) > 1 else ''} {', '.join(more)}." if more else "")


def _evidence(ranks: Ranks) -> tuple[str, ...]:
    lines = [
        f"Skew: {ms(ranks.skew[0])} between the first rank and the last, mean; 95th percentile {ms(ranks.skew[1])}."
    ]
    lines += [f"Rank {w.rank} waits {ms(w.mean)} a step for rank {w.waits_for}." for w in ranks.waits[:5]]
    if len(ranks.waits) > 5:
        lines.append(f"{len(ranks.waits) - 5} more pairs of ranks wait for each other.")
    if not ranks.synchronous and len(ranks.rows) > 1:
        lines.append("The ranks' steps are not equally long or never meet, so who waits for whom is not known.")
    if ranks.missing:
        lines.append(f"No profile of rank {', '.join(map(str, ranks.missing))}.")
    if ranks.meetings:
        lines.append(
            f"They meet in {' and '.join(ranks.meetings)}: a rank that computes slowly inside is not told from one that"
            " waits there."
        )
    return tuple(lines)
