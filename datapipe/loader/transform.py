"""The user's transform: what kind it is, and running it so that an error says which rows it was given.

What enters: a callable, and a table, columns or a batch. What leaves: what it returned, checked. Invariant: random
draws of a transform depend on (seed, epoch, row) alone, which it is given; never on thread, rank or time.

A transform is *table → table* if it has an attribute `takes = "table"` or its first parameter is annotated with an
Arrow table (as the steps' are); it then runs on Arrow rows before they become arrays. With `takes = "columns"` it is
*columns → columns*: it gets the dict of arrays and lists that collate is then given, and where it makes large arrays
it takes their memory from `keys.empty`, which is recycled, and page-locked where batches go to a GPU. Otherwise it is
*batch → batch*: it gets what collate made. With a second required parameter, or one named `keys`, it gets `RowKeys`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, final, get_args

import numpy as np

from datapipe.errors import ConfigError, LoaderError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_TABLE_NAMES: Final = {"Table", "pa.Table", "pyarrow.Table"}
_SHOWN: Final = 8
Kind = Literal["table", "columns", "batch"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RowKeys:
    """What random draws are keyed by.

    Attributes:
        seed, epoch: the loader's.
        rows: int64[B], the number of each row in the dataset (`Dataset.take` finds it again). A filter does not change
            them: they count all rows, so that a row's draws are the same in every filtered view of it.
        empty: (shape, dtype) → an array of that shape to write a batch's values into.
    """

    seed: int
    epoch: int
    rows: npt.NDArray[np.int64]
    empty: Callable[[tuple[int, ...], Any], npt.NDArray[Any]] = field(default=np.empty, repr=False)


@final
class Transform:
    """A callable whose kind is known."""

    def __init__(self, call: Callable[..., Any]) -> None:
        if not callable(call):
            raise ConfigError(
                f"transform={call!r}",
                expected="a callable: table → table, or batch → batch",
                fix="one function that calls each in turn" if isinstance(call, (list, tuple)) else None,
            )
        self._call = call
        self.name = getattr(call, "__qualname__", None) or type(call).__name__
        try:
            parameters = [
                p
                for p in inspect.signature(call).parameters.values()
                if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}
            ]
        except (TypeError, ValueError):  # a builtin that does not say
            parameters = []
        self.takes: Kind = _kind(call, parameters)
        second = parameters[1] if len(parameters) > 1 else None
        self.keyed = second is not None and (second.name == "keys" or second.default is second.empty)

    def __call__(self, value: Any, keys: RowKeys) -> Any:
        """Run it.

        Raises:
            LoaderError: it returned nothing, or a table of another number of rows.
            Exception: whatever it raised, with a note that names it and the rows.
        """
        try:
            result = self._call(value, keys) if self.keyed else self._call(value)
        except StopIteration as error:  # would end the epoch as if it were over
            raise _refused(self.name, keys, "raised StopIteration", f"a {self.takes}") from error
        except Exception as error:
            error.add_note(f"in the transform {self.name}, {given_rows(keys)}")
            raise
        if result is None:
            raise _refused(self.name, keys, "returned None", f"the {self.takes}, changed or not")
        if self.takes == "columns" and not isinstance(result, dict):
            raise _refused(self.name, keys, f"returned {type(result).__name__}", "a dict of name → array or list")
        if self.takes == "table":
            import pyarrow as pa

            if not isinstance(result, pa.Table):
                raise _refused(self.name, keys, f"returned {type(result).__name__}", "a pyarrow.Table")
            if result.num_rows != len(keys.rows):
                raise _refused(
                    self.name, keys, f"returned {result.num_rows} rows for {len(keys.rows)}", "as many rows as it got"
                )
        return result


def _kind(call: Callable[..., Any], parameters: list[inspect.Parameter]) -> Kind:
    takes: Kind | None = getattr(call, "takes", None)
    if takes is not None:
        if takes not in get_args(Kind):
            raise ConfigError(f"the transform's attribute takes={takes!r}", expected='"table", "columns" or "batch"')
        return takes
    if not parameters:
        return "batch"
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        of_tables = annotation.strip("'\"") in _TABLE_NAMES
    else:
        home = getattr(annotation, "__module__", "")
        of_tables = getattr(annotation, "__name__", None) == "Table" and home.startswith("pyarrow")
    return "table" if of_tables else "batch"


def given_rows(keys: RowKeys) -> str:
    """Which rows it was given, for an error's note."""
    shown = ", ".join(str(row) for row in keys.rows[:_SHOWN].tolist())
    more = f", … ({len(keys.rows)} in all)" if len(keys.rows) > _SHOWN else ""
    return f"given rows {shown}{more} of epoch {keys.epoch}"


def _refused(name: str, keys: RowKeys, got: str, expected: str) -> LoaderError:
    error = LoaderError(
        f"the transform {name} {got}",
        expected=expected,
        fix="return one row for each; filter in preprocessing, as every rank needs the same number of batches",
    )
    error.add_note(given_rows(keys))
    return error
