"""Two runs side by side: which parts of the step changed, by how much, and whether that is more than noise.

What enters: two profiles (summaries, folders or files). What leaves: a `Comparison`.
Invariant: the differences of the parts sum to the difference of the step; p-values come from the steps themselves.

Significance: a permutation test on the difference of means (Fisher 1935; Good, "Permutation Tests", ch. 3).
Neighbouring steps resemble each other, so what is permuted is means of stretches of consecutive steps, at most 100
a run and as long as it takes for neighbouring stretches of the step to resemble each other no more than chance lets
them (lag-1 autocorrelation at most 1.64/√n, the one-sided 5% bound of white noise: Bartlett 1946), not single steps.
9,999 permutations from a fixed seed; p = (1 + those at least as extreme) / 10,000, two-sided; parts are corrected for
their number by Holm's method.
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
"""Stretches a run must have for a p of 0.01 to be possible: with 5 and 5 there are only 252 orders."""


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
        sentence=_sentence(step, parts),
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

    count = min(_independent(left), _independent(right))
    a, b = _stretches(left, count), _stretches(right, count)
    if min(len(a), len(b)) < _FEWEST:
        return [None] * left.shape[1]
    both = np.concatenate([a, b])
    both -= both.mean(axis=0)
    seen = np.abs(b.mean(axis=0) - a.mean(axis=0))
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


def _independent(table: Floats) -> int:
    """How many stretches a run can be cut into before they resemble their neighbours; `_FEWEST` where even those do."""
    import numpy as np

    count = _STRETCHES
    while count > _FEWEST:
        step = _stretches(table, count)[:, 0]
        step = step - step.mean()
        power = float(step @ step)
        if len(step) < 2 or power == 0 or float(step[1:] @ step[:-1]) / power <= 1.64 / np.sqrt(len(step)):
            break
        count = max(_FEWEST, min(count, len(table)) // 2)
    return count


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


def _sentence(step: Change, parts: list[Change]) -> str:
    if step.p is None:
        return f"Too few steps to compare: the step went from {ms(step.before)} to {ms(step.after)}."
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
