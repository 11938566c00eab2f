"""What a missing number becomes: the `nulls=` of a loader.

What enters: what the user wrote. What leaves: for each column, a refusal, a value to fill in, or a mask to add.
Invariant: unless somebody asked for it, a null never becomes a number.

    "refuse"  a null stops the loader, with the column's name (the default)
    "mask"    a boolean column <name>_valid beside it, of the values' shape; the missing values themselves are 0
    "nan"     NaN, in columns that are delivered as floats; others refuse
    a number  that number, which every column of numbers must be able to hold
    a mapping of column → one of these; columns that it leaves out refuse

Within a variable-length list this goes for its elements; a missing list becomes an empty one, but where it is refused.
Strings, binary and Python objects need none of it: there a null is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_WORDS: Final = ("refuse", "mask", "nan")


@dataclass(frozen=True, kw_only=True)
class NullChoice:
    """What becomes of one column's nulls: `fill` stands for them (None: they are refused); `mask`: a mask is added."""

    fill: float | None = None
    mask: bool = False


@final
class NullPolicy:
    """`nulls=`, checked.

    Attributes:
        named: what was said of single columns.
    """

    def __init__(self, nulls: Any) -> None:
        self.named: dict[str, Any] = {}
        self._of_all: Any = "refuse"
        if hasattr(nulls, "items"):
            self.named = dict(nulls)
        else:
            self._of_all = nulls
        for value in (*self.named.values(), self._of_all):
            number = isinstance(value, (int, float, np.number, np.bool_))
            if not number and not (isinstance(value, str) and value in _WORDS):
                raise ConfigError(
                    f"nulls={nulls!r}",
                    expected='"refuse", "mask", "nan", a number, or a mapping of column to one of them',
                )

    @property
    def refuses_all(self) -> bool:
        """Nothing else was asked for."""
        return all(isinstance(v, str) and v == "refuse" for v in (self._of_all, *self.named.values()))

    def among(self, names: AbstractSet[str]) -> Any:
        """The same for those of the named columns that are here, as `nulls=` takes it."""
        return {name: value for name, value in self.named.items() if name in names} if self.named else self._of_all

    def refuse_for(self, name: str, reason: str) -> None:
        """A column that has no use for it: naming it is a mistake."""
        if self.named.get(name, "refuse") != "refuse":
            raise ConfigError(f"nulls[{name!r}]={self.named[name]!r}", expected=f"nothing: {reason}")

    def choice(self, name: str, out: np.dtype[Any]) -> NullChoice:
        """What becomes of the nulls of a column of numbers that is delivered as `out`.

        Raises:
            ConfigError: the value asked for does not fit the column.
        """
        value = self.named.get(name, "refuse" if self.named else self._of_all)
        if isinstance(value, str) and value == "refuse":
            return NullChoice()
        if isinstance(value, str) and value == "mask":
            return NullChoice(fill=0, mask=True)
        if isinstance(value, str) or (isinstance(value, float) and math.isnan(value)):
            if out.kind == "f":
                return NullChoice(fill=math.nan)
            if name in self.named:
                raise ConfigError(
                    f"nulls[{name!r}]={value!r}, and the column comes as {out}",
                    expected="a column of floats",
                    fix=f'dtypes={{"{name}": "float64"}}, or nulls={{"{name}": "mask"}}',
                )
            return NullChoice()
        number = value.item() if hasattr(value, "item") else value
        if not _fits(number, out):
            raise ConfigError(
                f"nulls={value!r} for column {name!r}, which comes as {out}",
                expected=f"a value that {out} can hold",
                fix=f'nulls={{"{name}": "mask", …}}, or another value for each column',
            )
        return NullChoice(fill=number)


def _fits(number: float, out: np.dtype[Any]) -> bool:
    if out.kind == "b":
        return number in {0, 1}
    if out.kind == "f":
        return math.isinf(number) or abs(number) <= float(np.finfo(out).max)
    limits = np.iinfo(out)
    return float(number).is_integer() and int(limits.min) <= number <= int(limits.max)
