"""Two runs side by side: which parts of the step changed, by how much, and whether that is more than noise.

What enters: two profiles (summaries, folders or files). What leaves: a `Comparison`.
Invariant: the differences of the parts sum to the difference of the step; p-values come from the steps themselves.

Significance: a permutation test on the difference of means (Fisher 1935; Good, "Permutation Tests", ch. 3).
Neighbouring steps resemble each other, so what is permuted is means of stretches of consecutive steps, at most 100
a run, not single steps. A stretch is as long as it takes for its mean to resemble its neighbour's by 0.25 at most, if
the steps are an AR(1) process of their lag-1 autocorrelation (corrected for a short run's bias: Marriott & Pope 1954;
none where it is within white noise's one-sided 5% bound, 1.64/√n: Bartlett 1946); by what the mean then still varies
more than its stretches show, the difference is made smaller. A run worth fewer than 6 independent steps
(n (1 - ρ) ÷ (1 + ρ): Bayley & Hammersley 1946) is not judged. 9,999 permutations from a fixed seed;
p = (1 + those at least as extreme) / 10,000, two-sided; parts are corrected for their number by Holm's method.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ProfileError
from datapipe.profiling.profile_file import load_profile
from datapipe.profiling.summary import Summary
from datapipe.profiling.terminal import visible
from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ALPHA: Final = 0.01
_STRETCHES: Final = 100
_PERMUTATIONS: Final = 9_999
_FEWEST: Final = 6
"""Stretches, and independent steps, a run must have for a p of 0.01: with 5 and 5 there are only 252 orders."""
_RESEMBLES: Final = 0.25
_ALIKE: Final = 0.995
_CHANCE: Final = 1.64
_LEFT: Final = 0.5


@final
@dataclass(frozen=True, kw_only=True)
class Change:
    """One part in both runs. Times in ns per steady step.

    Attributes:
        name: the part, or "step".
        before, after: means.
        difference: after - before.
        relative: difference ÷ before, or None where it was 0.
        of_step: difference ÷ the step of the first run.
        p: two-sided, or None where there are too few steps.
        significant: p < 0.01 (for parts after correction).
    """

    name: str
    before: float
    after: float
    difference: float
    relative: float | None
    of_step: float
    p: float | None
    significant: bool


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Run B against run A.

    Attributes:
        step: the steady step.
        parts: its parts, largest change first; a stage of the wait is named "wait: stage" and listed in `waits`.
        waits: the wait by stage.
        sentence: for a person.
        verdicts: the two runs' own verdicts.
        differs: facts of the environment and notes that are not the same, "name: a → b".
        steps: steady steps compared, of A and of B.
    """

    step: Change
    parts: tuple[Change, ...]
    waits: tuple[Change, ...]
    sentence: str
    verdicts: tuple[str, str]
    differs: tuple[str, ...]
    steps: tuple[int, int]

    def regressed(self, threshold: float = 0.05) -> bool:
        """Whether B's step is slower than A's by more than `threshold` (a fraction) and by more than noise."""
        return self.step.significant and self.step.relative is not None and self.step.relative > threshold

    def as_dict(self) -> dict[str, Any]:
        """The comparison as one plain JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(change.name) for change in (self.step, *self.parts, *self.waits)) + 2
        lines = [self.sentence, "", f"{'':{width}}{'before':>12}{'after':>12}{'difference':>13}{'of step':>10}{'p':>9}"]
        for change in self.parts:
            lines.append(_line(change, change.name, width))
            if change.name == "wait":
                lines += [_line(stage, f"  {stage.name}", width) for stage in self.waits]
        lines.append(_line(self.step, "step", width))
        if self.differs:
            lines += ["", "not the same in both runs:", *(f"  {line}" for line in self.differs)]
        return "\n".join(visible(line) for line in lines)


def compare(a: Summary | str | os.PathLike[str], b: Summary | str | os.PathLike[str]) -> Comparison:
    """Compare two runs.

    Args:
        a: the run before: a summary, the folder of a run, or its `profile.json`.
        b: the run after.

    Raises:
        ProfileError: a profile cannot be read, or holds no steady step.
    """
    one, two = (s if isinstance(s, Summary) else load_profile(s) for s in (a, b))
    for which, summary in (("first", one), ("second", two)):
        if summary.step is None:
            raise ProfileError(f"the {which} profile holds no steps", fix="record a run with prof.steps(loader)")
    names = list(dict.fromkeys([*one.series.parts_ns, *two.series.parts_ns]))
    names = [n for n in names if n != "other"] + ["other"]
    stages = list(dict.fromkeys([*one.series.waits_ns, *two.series.waits_ns]))
    left, right = _table(one, names, stages), _table(two, names, stages)
    p = _p_values(left, right)
    changes = _changes(["step", *names, *stages], left.mean(axis=0), right.mean(axis=0), p, parts=len(names))
    step, parts, waits = changes[0], changes[1 : 1 + len(names)], changes[1 + len(names) :]
    parts = sorted(parts, key=lambda change: -abs(change.difference))
    return Comparison(
        step=step,
        parts=tuple(parts),
        waits=tuple(sorted(waits, key=lambda change: -abs(change.difference))),
        sentence=_sentence(
            step, parts, min(((_rho(t[:, 0]), len(t)) for t in (left, right)), key=lambda r: _worth(*r))
        ),
        verdicts=(one.verdict.sentence, two.verdict.sentence),
        differs=_differs(one, two),
        steps=(len(left), len(right)),
    )


def _table(summary: Summary, names: list[str], stages: list[str]) -> Floats:
    """Steady steps as rows: the step, its parts, its wait by stage; ns."""
    import numpy as np

    series = summary.series
    steady = np.asarray(series.kind) == 0
    steady = steady if steady.any() else ~steady
    zeros = [0] * len(series.number)
    columns = [series.total_ns, *(series.parts_ns.get(n, zeros) for n in names)]
    columns += [series.waits_ns.get(n, zeros) for n in stages]
    table: Floats = np.array(columns, dtype=np.float64).T[steady]
    return table


def _p_values(left: Floats, right: Floats) -> list[float | None]:
    """Two-sided p of each column's difference of means."""
    import numpy as np

    cuts = [_independent(left), _independent(right)]
    count, more = min(count for count, _ in cuts), max(more for _, more in cuts)
    if count < _FEWEST:
        return [None] * left.shape[1]
    a, b = _stretches(left, count), _stretches(right, count)
    if min(count, len(a), len(b)) < _FEWEST:
        return [None] * left.shape[1]
    both = np.concatenate([a, b])
    both -= both.mean(axis=0)
    seen = np.abs(b.mean(axis=0) - a.mean(axis=0)) / np.sqrt(more)
    random = np.random.default_rng(0)
    extreme = np.zeros(both.shape[1])
    done = 0
    while done < _PERMUTATIONS:
        rounds = min(1_000, _PERMUTATIONS - done)
        order = random.permuted(np.tile(np.arange(len(both)), (rounds, 1)), axis=1)
        chosen = np.zeros((rounds, len(both)))
        np.put_along_axis(chosen, order[:, : len(b)], 1.0, axis=1)
        # The columns sum to 0, so the mean of the rest follows from that of the chosen.
        mean = chosen @ both / len(b)
        extreme += (np.abs(mean * (1 + len(b) / len(a))) >= seen * (1 - 1e-9)).sum(axis=0)
        done += rounds
    return [float(p) for p in (1 + extreme) / (1 + _PERMUTATIONS)]


def _rho(steps: Floats) -> float:
    """Lag-1 autocorrelation of an AR(1) process that gives such steps; 0 where it may be chance."""
    import numpy as np

    n, found = len(steps), _resemblance(steps)
    if found * np.sqrt(n) <= _CHANCE:
        return 0.0
    # A short run's own mean follows its drift, so what is found is too low.
    return min(_ALIKE, found + (1 + 4 * found) / n)


def _worth(rho: float, n: int) -> float:
    """How many independent steps have a mean as sure as that of n such steps."""
    return n * (1 - rho) / (1 + rho)


def _independent(table: Floats) -> tuple[int, float]:
    """How many stretches to cut a run into, and by how much more than they show its mean varies (variances).

    0 stretches: the run is worth too few independent steps to be compared.
    """
    import numpy as np

    n, rho = len(table), _rho(table[:, 0])
    if _worth(rho, n) < _FEWEST:
        return 0, 1.0
    length, more = _apart(rho)
    count = max(_FEWEST, min(_STRETCHES, n // length))
    while count > _FEWEST and _resemblance(_stretches(table, count)[:, 0]) * np.sqrt(count) > _CHANCE + _LEFT:
        count = max(_FEWEST, count // 2)  # no AR(1) process: what comes and goes is longer
    return count, more


def _resemblance(steps: Floats) -> float:
    """Lag-1 autocorrelation."""
    away = steps - steps.mean()
    power = float(away @ away)
    return float(away[1:] @ away[:-1]) / power if power > 0 else 0.0


def _apart(rho: float) -> tuple[int, float]:
    """Steps in a stretch whose mean resembles its neighbour's by a quarter at most, where steps do by ρ; and the rest.

    Of an AR(1) process, from its autocovariances ρᵏ: the means of stretches of L resemble their neighbours' by
    ρ (1 - ρᴸ)² ÷ D, and the variance of a long run's mean is L (1 - ρ²) ÷ D times what they show, where
    D = L (1 - ρ²) - 2 ρ (1 - ρᴸ).
    """
    length = 1
    while True:
        rest = 1 - rho**length
        shown = length * (1 - rho**2) - 2 * rho * rest
        if rho * rest**2 <= _RESEMBLES * shown:
            return length, length * (1 - rho**2) / shown
        length += 1


def _stretches(table: Floats, count: int) -> Floats:
    """Means of consecutive rows, at most `count` of them, of nearly equal length."""
    import numpy as np

    bounds = np.linspace(0, len(table), min(len(table), count) + 1).astype(int)
    means: Floats = np.add.reduceat(table, bounds[:-1], axis=0) / np.diff(bounds)[:, None]
    return means


def _changes(names: list[str], before: Floats, after: Floats, p: list[float | None], *, parts: int) -> list[Change]:
    """The step's p stands alone; those of the parts and those of the wait's stages are corrected among themselves."""
    corrected = [p[0], *_holm(p[1 : 1 + parts]), *_holm(p[1 + parts :])]
    changes = []
    for name, old, new, chance in zip(names, before.tolist(), after.tolist(), corrected, strict=True):
        moved = new - old
        changes.append(
            Change(
                name=name,
                before=old,
                after=new,
                difference=moved,
                relative=moved / old if old else None,
                of_step=moved / float(before[0]) if before[0] else 0.0,
                p=chance,
                significant=chance is not None and chance < ALPHA and moved != 0,
            )
        )
    return changes


def _holm(p: list[float | None]) -> list[float | None]:
    """Holm's step-down correction (Holm 1979): the k-th smallest of m is multiplied by m - k + 1, kept in order."""
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    out, floor = list(p), 0.0
    for rank, (value, i) in enumerate(known):
        floor = max(floor, min(1.0, value * (len(known) - rank)))
        out[i] = floor
    return out


def _line(change: Change, name: str, width: int) -> str:
    chance = "-" if change.p is None else f"{change.p:.4f}"
    mark = " *" if change.significant else ""
    times = f"{ms(change.before):>12}{ms(change.after):>12}{change.difference / 1e6:>+10.3f} ms"
    return f"{name:{width}}{times}{change.of_step:>+10.1%}{chance:>9}{mark}"


def _sentence(step: Change, parts: list[Change], shorter: tuple[float, int]) -> str:
    """`shorter`: lag-1 autocorrelation and steps of the run that is worth fewer."""
    if step.p is None:
        rho, count = shorter
        why = "Too few steps to compare"
        if count >= _FEWEST:
            worth = f"{count:,} steps that resemble their neighbours (lag-1 autocorrelation {rho:.2f})"
            why += f", record longer runs ({worth} are worth {_worth(rho, count):.1f} independent ones)"
        return f"{why}: the step went from {ms(step.before)} to {ms(step.after)}."
    size = f"{ms(step.before)} → {ms(step.after)} ({step.of_step:+.1%}, p = {step.p:.4f})"
    if not step.significant:
        return f"No significant change of the step: {size}."
    word = "slower" if step.difference > 0 else "faster"
    moved = [c for c in parts if c.significant and c.difference * step.difference > 0][:2]
    why = "; ".join(f"{c.name} {c.difference / 1e6:+.3g} ms" for c in moved)
    return f"The step is {word}: {size}" + (f"; most of it in {why}." if why else ".")


def _differs(one: Summary, two: Summary) -> tuple[str, ...]:
    lines = []
    for a, b in ((one.environment, two.environment), (one.notes, two.notes)):
        names = [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]
        lines += [f"{name}: {a.get(name, 'not said')} → {b.get(name, 'not said')}" for name in names]
    if not (one.complete and two.complete):
        lines.append("a run did not end normally")
    return tuple(lines)
