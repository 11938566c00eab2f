"""A script run as it is and without parts of itself: the headspace, the compute floor, and whether the ledger says so.

What enters: the summaries of several short runs of one script, by what stood in for its loaders. What leaves: a
`Differential`, part of the `Summary` of the script's own run.
Invariant: every figure is of steps that really ran, none of a model; the same steps (past the first, past the filling
of memory) are compared in every run; a run that came to nothing is named with its reason, and nothing rests on it.

Methods: three runs with synthetic, cold and cached data, G = N·b/T1 (Mohan et al., "Analyzing and Mitigating Data
Stalls in DNN Training", VLDB 2021, DS-Analyzer); "the drop in step time when cached batches are replayed is the
headspace" (SPDL's documentation, on how to find what bounds a pipeline).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.profiling.summary import Summary

SAME: Final = 0.05
"""Share of the step within which the ledger and the runs agree; more where the runs differ by more among themselves."""
UNSURE: Final = 0.1
"""Share of the step: runs of one kind that lie further apart than this tell nothing about a ledger."""
_LABEL: Final = {
    "as-is": "as it is", "cached": "cached batches", "synthetic": "one batch repeated", "loader": "loader alone",
}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class Variant:
    """The runs of one kind. Times in ns a step.

    Attributes:
        name: "as-is", "cached", "synthetic" or "loader".
        label: for a person.
        steps: compared, over all its runs.
        mean: of the runs' means; low, high: the least and the greatest of those.
        wait: of it, exposed wait for data, as the runs' own ledgers have it.
        parts: step part → mean.
        failed: why it came to nothing; "" where it did not.
    """

    name: str
    label: str
    steps: int = 0
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0
    wait: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    failed: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Differential:
    """What the runs say together. Times in ns a step.

    Attributes:
        rounds: runs of each kind, interleaved.
        steps: after which each was ended.
        left_out: first steps of each run that no figure counts: they fill memory and start things.
        variants: by kind.
        floor: the step on cached batches: what compute alone takes; None where those runs came to nothing.
        headspace: share of the step as it is that is above the floor.
        loader: what the loader alone takes for a batch, None as above.
        ledger_floor: the step as it is less its exposed wait: what the ledger says the floor is.
        agrees: whether both floors are the same within `tolerance`; None where one is missing, or where runs of one
            kind differ by more than `UNSURE` of the step.
        tolerance: ns.
        sentence: for a person.
        lines: further facts, a line each.
    """

    rounds: int
    steps: int
    left_out: int
    variants: tuple[Variant, ...]
    floor: float | None
    headspace: float | None
    loader: float | None
    ledger_floor: float | None
    agrees: bool | None
    tolerance: float
    sentence: str
    lines: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant | None:
        """The runs of one kind, where they came to something."""
        return next((one for one in self.variants if one.name == name and not one.failed), None)


def left_out(steps: int, cached: int) -> int:
    """First steps that no figure counts: those that fill memory and two more, of short runs at most half."""
    return min(cached + 2, max(1, steps // 2))


def differential(
    runs: Mapping[str, Sequence[Summary]], failed: Mapping[str, str], *, rounds: int, steps: int, skip: int
) -> Differential:
    """Compare runs of one script.

    Args:
        runs: summaries by kind ("as-is", "cached", "synthetic", "loader").
        failed: by kind, why a run of it came to nothing; those of that kind that did not are compared.
        rounds: runs of each kind that were begun.
        steps: after which each was ended.
        skip: first steps of each run to leave out.
    """
    variants = tuple(_variant(name, runs.get(name, ()), failed.get(name, ""), skip) for name in _LABEL)
    there = {one.name: one for one in variants if not one.failed}
    own, cached, loader = there.get("as-is"), there.get("cached"), there.get("loader")
    floor = None if cached is None else cached.mean
    ledger_floor = None if own is None else own.mean - own.wait
    agrees, tolerance = None, 0.0
    if own is not None and cached is not None and ledger_floor is not None and floor is not None:
        tolerance = max(SAME * own.mean, own.high - own.low, cached.high - cached.low)
        if tolerance <= UNSURE * own.mean:
            agrees = abs(floor - ledger_floor) <= tolerance
    sentence, lines = _said(there, ledger_floor, agrees=agrees, tolerance=tolerance)
    return Differential(
        rounds=rounds, steps=steps, left_out=skip, variants=variants, floor=floor,
        headspace=None if own is None or floor is None or not own.mean else 1 - floor / own.mean,
        loader=None if loader is None else loader.mean,
        ledger_floor=ledger_floor, agrees=agrees, tolerance=tolerance, sentence=sentence,
        lines=(*lines, *_missing(variants, failed)),
    )  # fmt: skip


def _missing(variants: Sequence[Variant], failed: Mapping[str, str]) -> list[str]:
    """A line for each kind whose runs, or some of them, came to nothing."""
    lines = [f"{one.label}: not measured, {one.failed}." for one in variants if one.failed]
    return lines + [
        f"{one.label}: one of its runs is missing, {failed[one.name]}."
        for one in variants
        if one.name in failed and not one.failed
    ]


def _variant(name: str, runs: Sequence[Summary], failed: str, skip: int) -> Variant:
    import numpy as np

    found = [run for run in runs if len(_compared(run, skip))]
    if not found:
        return Variant(name=name, label=_LABEL[name], failed=failed or f"it had no more than {skip} steps")
    kept = [_compared(run, skip) for run in found]
    means = [float(np.mean(np.array(run.series.total_ns)[at])) for run, at in zip(found, kept, strict=True)]
    names = dict.fromkeys(part for run in found for part in run.series.parts_ns)
    parts = {
        part: float(
            np.mean(
                [
                    np.mean(np.array(run.series.parts_ns[part])[at]) if part in run.series.parts_ns else 0.0
                    for run, at in zip(found, kept, strict=True)
                ]
            )
        )
        for part in names
    }
    hidden = float(np.mean([run.hidden_ns for run in found]))
    return Variant(
        name=name, label=_LABEL[name], steps=sum(len(at) for at in kept), mean=float(np.mean(means)), low=min(means),
        high=max(means), wait=max(0.0, parts.get("wait", 0.0) - hidden), parts=parts,
    )  # fmt: skip


def _compared(run: Summary, skip: int) -> list[int]:
    """Places in the series of the steps that are compared: steady ones past the first `skip`."""
    series = run.series
    return [
        place
        for place, (number, kind) in enumerate(zip(series.number, series.kind, strict=True))
        if number >= skip and kind == 0
    ]


def _said(
    there: Mapping[str, Variant], ledger_floor: float | None, *, agrees: bool | None, tolerance: float
) -> tuple[str, tuple[str, ...]]:
    from datapipe.profiling.verdict import ms

    own, cached, loader = there.get("as-is"), there.get("cached"), there.get("loader")
    if own is None or cached is None or ledger_floor is None:
        return "The runs do not tell the compute floor: see below which came to nothing.", ()
    gain = 1 - cached.mean / own.mean
    if own.mean - cached.mean <= max(own.high - own.low, cached.high - cached.low):
        sentence = (
            f"No headspace that the runs could tell: a step takes {ms(own.mean)} as it is, {ms(cached.mean)} without "
            "its loader."
        )
    else:
        sentence = f"Headspace {gain:.0%}: a step takes {ms(own.mean)} as it is, {ms(cached.mean)} without its loader."
    lines = [_ledger_line(own, cached, ledger_floor, agrees=agrees, tolerance=tolerance)]
    if agrees is False:
        lines += _where(own, cached, ledger_floor)
    if loader is not None:
        lines.append(_loader_line(own, cached, loader))
    synthetic = there.get("synthetic")
    if synthetic is not None:
        apart = synthetic.mean / cached.mean - 1
        if abs(synthetic.mean - cached.mean) > max(tolerance, SAME * cached.mean):
            lines.append(
                f"One batch repeated takes {ms(synthetic.mean)}, {apart:+.0%}: batches differ in what they cost, "
                "and the first is not like the others."
            )
    return sentence, tuple(lines)


def _ledger_line(own: Variant, cached: Variant, floor: float, *, agrees: bool | None, tolerance: float) -> str:
    from datapipe.profiling.verdict import ms

    if agrees is None:
        return (
            f"Whether the ledger agrees cannot be told: runs of one kind lie {ms(tolerance)} apart. Less its wait the "
            f"step takes {ms(floor)}, measured without the loader {ms(cached.mean)}; a quiet machine or more --steps "
            "would tell."
        )
    word = "The ledger agrees" if agrees else "The ledger does not agree"
    return (
        f"{word}: less its wait the step takes {ms(floor)}, measured without the loader {ms(cached.mean)}"
        f" ({(floor - cached.mean) / own.mean:+.1%} of the step; the same within {ms(tolerance)})."
    )


def _where(own: Variant, cached: Variant, floor: float) -> list[str]:
    """The parts that make up the disagreement, largest first; those below a quarter of it are left out."""
    from datapipe.profiling.verdict import ms

    whole = floor - cached.mean
    changes = {
        name: own.parts.get(name, 0.0) - cached.parts.get(name, 0.0)
        for name in dict.fromkeys((*own.parts, *cached.parts))
        if name != "wait"
    }
    large = sorted((name for name, ns in changes.items() if ns / whole >= 0.25), key=lambda name: -abs(changes[name]))
    why = "what the loader does meanwhile costs it that" if whole > 0 else "it costs more without the loader"
    return [
        f"In {n}: {ms(own.parts.get(n, 0.0))} as it is, {ms(cached.parts.get(n, 0.0))} without: {why}." for n in large
    ]


def _loader_line(own: Variant, cached: Variant, loader: Variant) -> str:
    from datapipe.profiling.verdict import ms

    slower = "the loader" if loader.mean > cached.mean else "compute"
    best = max(loader.mean, cached.mean)
    said = (
        f"The loader alone takes {ms(loader.mean)} a batch ({1e9 / loader.mean if loader.mean else 0:,.0f} a second), "
        f"compute alone {ms(cached.mean)}: {slower} is the slower"
    )
    over, same = own.mean - best, max(SAME * own.mean, own.high - own.low)
    if same > UNSURE * own.mean:
        return f"{said}."
    if min(loader.mean, cached.mean) <= same:
        return f"{said}, by so much that overlapping them gains little."
    if over <= same:
        return f"{said}, and the step takes what it takes: they overlap fully."
    if own.mean >= (loader.mean + cached.mean) * (1 - SAME):
        return f"{said}. The step takes both, one after the other: workers or threads would let them overlap."
    return f"{said}. Overlapped fully a step would take {ms(best)}; {ms(over)} more is lost between them."
