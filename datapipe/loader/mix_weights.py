"""The weights of a mix: what the user wrote becomes a table of (step, shares), exact and with a name.

What enters: names, and weights: a mapping; a table of (step, mapping); or a function step → mapping. What leaves:
`Weights`. Invariant: shares of a step sum to 1, exactly; the table is all that the order depends on, so that its digest
tells any change of it.

A function is asked at fixed steps (every `EVERY` of them to begin with, later at distances that grow by 1/256), twice
at the first ones, and its answer holds up to the next: thus it is a table like any other, complete from the start.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

EVERY: Final = 100
"""Steps between two askings of a function: a ramp over 1000 steps has ten stairs, a run of a million is asked 2,500
times more."""
_LINEAR: Final = 2048
_COARSER: Final = 256
_LAST: Final = 1 << 40
"""Steps; no run has as many."""
_ASKED_TWICE: Final = 4


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Shares of named sources.

    Attributes:
        names: of the sources. steps: where each row of `rows` begins to hold, ascending from 0.
        rows: per step, one share per name; they sum to 1.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    rows: tuple[tuple[Fraction, ...], ...]

    @property
    def digest(self) -> str:
        """The name of the whole table."""
        lines = (f"{step}:{','.join(map(str, row))}" for step, row in zip(self.steps, self.rows, strict=True))
        text = "\n".join(["weights-1", *map(repr, self.names), *lines])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def at(self, step: int) -> dict[str, float]:
        """The shares that hold at a step."""
        row = max(i for i, start in enumerate(self.steps) if start <= step)
        return {name: float(share) for name, share in zip(self.names, self.rows[row], strict=True)}

    def scaled(self, factors: Sequence[Fraction]) -> Weights:
        """Each share times its source's factor, made to sum to 1 again."""
        rows = tuple(_shares([w * f for w, f in zip(row, factors, strict=True)]) for row in self.rows)
        return Weights(names=self.names, steps=self.steps, rows=rows)

    def within(self, inner: Mapping[str, Weights]) -> Weights:
        """The shares of the sources of mixes in this one: "web" of the mix "text" is "text/web" here."""
        steps = sorted({*self.steps, *(step for each in inner.values() for step in each.steps)})
        names: list[str] = []
        for name in self.names:
            names += [f"{name}/{each}" for each in inner[name].names] if name in inner else [name]
        rows = []
        for step in steps:
            row: list[Fraction] = []
            for name, share in zip(self.names, _row(self, step), strict=True):
                row += [share * each for each in _row(inner[name], step)] if name in inner else [share]
            rows.append(tuple(row))
        order = sorted(range(len(names)), key=names.__getitem__)
        return Weights(
            names=tuple(names[i] for i in order),
            steps=tuple(steps),
            rows=tuple(tuple(row[i] for i in order) for row in rows),
        )


def _row(weights: Weights, step: int) -> tuple[Fraction, ...]:
    return weights.rows[max(i for i, start in enumerate(weights.steps) if start <= step)]


def read_weights(names: Sequence[str], weights: Any) -> Weights:
    """The table of what the user wrote.

    Raises:
        ConfigError: a name is unknown or missing, a weight is no number from 0, all are 0, the table has no step 0 or
            does not ascend, or the function answers differently when it is asked again.
    """
    if callable(weights):
        table = list(_asked(names, weights))
    elif hasattr(weights, "items"):
        table = [(0, _checked(names, weights, "weights"))]
    else:
        table = _table(names, weights)
    kept = [row for i, row in enumerate(table) if not i or row[1] != table[i - 1][1]]
    return Weights(names=tuple(names), steps=tuple(s for s, _ in kept), rows=tuple(row for _, row in kept))


def _table(names: Sequence[str], weights: Any) -> list[tuple[int, tuple[Fraction, ...]]]:
    law = "a mapping of source to weight, a table [(step, mapping), …], or a function step → mapping"
    try:
        pairs = [(step, row) for step, row in weights]
    except (TypeError, ValueError):
        raise ConfigError(f"weights={weights!r}", expected=law) from None
    steps = [step for step, _ in pairs]
    whole = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
    if not whole or not steps or steps[0] != 0 or any(a >= b for a, b in itertools.pairwise(steps)):
        raise ConfigError(f"weights at steps {steps}", expected="whole numbers that ascend from 0")
    for _, row in pairs:
        if not hasattr(row, "items"):
            raise ConfigError(f"weights={weights!r}", expected=law)
    return [(step, _checked(names, row, f"weights at step {step}")) for step, row in pairs]


def _asked(
    names: Sequence[str], function: Callable[[int], Mapping[str, Any]]
) -> Iterator[tuple[int, tuple[Fraction, ...]]]:
    step = number = 0
    while step <= _LAST:
        answer = function(step)
        what = f"the weights function, asked for step {step},"
        if not hasattr(answer, "items"):
            raise ConfigError(f"{what} gives {answer!r}", expected="a mapping of source to weight")
        row = _checked(names, answer, what)
        if number < _ASKED_TWICE and _checked(names, function(step), what) != row:
            raise ConfigError(
                f"{what} gives other weights each time",
                expected="a pure function of the step",
                fix="take nothing random, timed or counted into it",
            )
        yield step, row
        step += EVERY if number < _LINEAR else max(EVERY, step // _COARSER)
        number += 1


def _checked(names: Sequence[str], weights: Mapping[str, Any], what: str) -> tuple[Fraction, ...]:
    for name in weights:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            raise ConfigError(
                f"{what} name {name!r}, which is no source",
                expected=", ".join(map(repr, names)),
                fix=f"did you mean {near[0]!r}?" if near else None,
            )
    missing = [name for name in names if name not in weights]
    if missing:
        raise ConfigError(
            f"{what} say nothing of {missing[0]!r}", expected="one for each source", fix="0 leaves it out"
        )
    values = [exact_weight(weights[name], f"{what}: {name!r}") for name in names]
    if not any(values):
        raise ConfigError(f"{what} are all 0", expected="at least one above 0")
    return _shares(values)


def exact_weight(value: Any, what: str) -> Fraction:
    """A weight as written: 0.7 is 7/10, not the binary number next to it.

    Raises:
        ConfigError: it is no finite number from 0; `what` it is.
    """
    number = Fraction(-1)
    if not isinstance(value, bool | str | bytes):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = Fraction(value if isinstance(value, int | Fraction) else repr(float(value)))
    if number < 0:
        raise ConfigError(f"{what} is {value!r}", expected="a finite number from 0")
    return number


def _shares(values: Sequence[Fraction]) -> tuple[Fraction, ...]:
    total = sum(values)
    return tuple(value / total for value in values)
