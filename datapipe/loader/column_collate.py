"""`collate={column: rule}`: columns of one batch that are finished each in its own way: pictures, texts, numbers.

What enters: a batch of numpy arrays and Python lists, and the rules by column. What leaves: a dict. Invariant: each
column is finished by its own rule, which sees that column alone and, if it asks for them, the keys of the rows; so what
it makes of a row may be drawn by chance and still depend on (seed, epoch, row) only.

A rule is a function of a column's values (an array [B, …], or a list of B texts, bytes or objects), or "torch" (an
array as a tensor), "numpy" (as it is), or "drop". What a function gives is delivered under the column's name; of a
dict, each entry under its own. Arrays that it gives come as the rule "*" says, which is that of columns without one.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, LoaderError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from datapipe.loader.transform import RowKeys

OTHERS: Final = "*"
DROP: Final = "drop"
_RULES: Final = ("torch", "numpy", DROP)


@final
class ColumnCollate:
    """A collate function made of one rule a column; picklable where its rules are.

    Args:
        rules: by column; "*": of the columns without one.
        finish: what becomes of arrays by the rule "torch": dict of arrays → dict of tensors; None: torch is not used.
        kept: what dropping all others does not drop: without its mask a row that fills up a batch passes for one.
    """

    def __init__(
        self,
        rules: Mapping[str, Any],
        finish: Callable[[dict[str, Any]], dict[str, Any]] | None,
        kept: Collection[str] = (),
    ) -> None:
        self._rules = {name: rule for name, rule in rules.items() if name != OTHERS}
        self._others: Any = rules.get(OTHERS, "torch" if finish is not None else "numpy")
        self._finish = finish
        self._kept = {name: "torch" if finish is not None else "numpy" for name in kept if self._others == DROP}
        self._keyed = {name for name, rule in self._rules.items() if callable(rule) and _takes_keys(rule)}

    def __call__(self, batch: dict[str, Any], keys: RowKeys | None = None) -> dict[str, Any]:
        """Finish a batch.

        Raises:
            LoaderError: a rule is of a column that the batch has not, gave nothing, or a name that is taken.
            Exception: what a rule raised, with a note of its column.
        """
        if missing := [name for name in self._rules if name not in batch]:
            raise LoaderError(
                f"collate has a rule for {missing[0]!r}, which the batch has not",
                expected=f"rules for {', '.join(batch)}",
                fix='correct the name; "*" is the rule of all others',
            )
        done: dict[str, Any] = {}
        came: dict[str, str] = {}
        for name, values in batch.items():
            rule = self._rules.get(name, self._kept.get(name, self._others))
            if isinstance(rule, str):
                if rule != DROP:
                    self._put(done, came, name, {name: self._finished(values, rule)})
                continue
            try:
                found = rule(values, keys=keys) if name in self._keyed else rule(values)
            except Exception as error:
                error.add_note(f"in the rule of column {name!r}")
                raise
            if found is None:
                raise LoaderError(f"the rule of column {name!r} returned None", expected="the column, finished")
            given = found if isinstance(found, dict) else {name: found}
            how = self._others if isinstance(self._others, str) and self._others != DROP else "numpy"
            self._put(done, came, name, {each: self._finished(value, how) for each, value in given.items()})
        return done

    def _finished(self, values: Any, rule: str) -> Any:
        if rule == "torch" and self._finish is not None:
            return self._finish({"": values})[""]
        return values

    @staticmethod
    def _put(done: dict[str, Any], came: dict[str, str], column: str, given: dict[str, Any]) -> None:
        for name, value in given.items():
            if name in done:
                raise LoaderError(
                    f"the rules of columns {came[name]!r} and {column!r} both give {name!r}",
                    expected="each name once",
                    fix="let one of them return a dict with other names",
                )
            done[name], came[name] = value, column


def _takes_keys(rule: Callable[..., Any]) -> bool:
    try:
        return "keys" in inspect.signature(rule).parameters
    except (TypeError, ValueError):  # a builtin that does not say
        return False


def column_collate(
    rules: Mapping[str, Any],
    finish: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]],
    kept: Collection[str] = (),
) -> ColumnCollate:
    """The collate function of these rules.

    Args:
        finish: gives what makes tensors; asked where a rule needs it. kept: see `ColumnCollate`.

    Raises:
        ConfigError: a rule is none.
    """
    for name, rule in rules.items():
        if not callable(rule) and not (isinstance(rule, str) and rule in _RULES):
            raise ConfigError(
                f"collate[{name!r}]={rule!r}",
                expected="a function of the column's values, " + ", ".join(repr(each) for each in _RULES),
            )
    if callable(rules.get(OTHERS)):
        raise ConfigError('collate["*"] is a function', expected='"torch", "numpy" or "drop"')
    if not isinstance(rules.get(OTHERS), str) or "torch" in rules.values():
        try:
            return ColumnCollate(rules, finish(), kept)
        except ConfigError:
            if "torch" in rules.values():
                raise
    return ColumnCollate(rules, None, kept)
