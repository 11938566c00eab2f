"""Signals against thresholds: the first rule that a row breaks.

What enters: columns of counts and, rule by rule, a quotient of two of them and its threshold. What leaves: the reason
of each row. Invariant: a quotient is rounded as Python rounds `a / b` of whole numbers, so that a share written 0.8
equals 4 of 5 exactly; a quotient with nothing to divide by breaks no rule; a threshold that is 0 or None is no rule
(as datatrove has it: `if self.max_… and …`), unless the rule says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


@final
@dataclass(frozen=True)
class Rule:
    """`part` (divided by `whole`, where it is given) must not lie below ("<") or above (">") the threshold.

    `part` and `whole` are names of columns, or columns themselves. `unless` is a boolean column: rows that it exempts.
    """

    reason: str
    part: Any
    sign: Literal["<", ">"]
    threshold: float | None
    whole: Any = None
    zero_is_off: bool = True
    unless: Any = None


def first_broken(signals: pa.Table, rules: Iterable[Rule]) -> pa.Array:
    """The reason of the first rule that each row breaks: string[n], null where it breaks none.

    Args:
        signals: columns of whole numbers.
        rules: in the order in which they are tried.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    def numbers(what: Any) -> Any:
        return pc.cast(signals.column(what) if isinstance(what, str) else what, pa.float64()).to_numpy()

    reasons: list[str | None] = [None]
    found = np.zeros(signals.num_rows, np.int32)
    for rule in rules:
        if rule.threshold is None or (rule.zero_is_off and not rule.threshold):
            continue
        value = numbers(rule.part)
        if rule.whole is not None:
            whole = numbers(rule.whole)
            value = np.divide(value, whole, out=np.full(len(value), np.nan), where=whole > 0)
        # A comparison with nan is false: nothing to divide by breaks no rule.
        broken = value < rule.threshold if rule.sign == "<" else value > rule.threshold
        if rule.unless is not None:
            broken &= ~np.asarray(rule.unless)
        reasons.append(rule.reason)
        found[broken & (found == 0)] = len(reasons) - 1
    return pa.array(reasons, pa.string()).take(pa.array(found))
