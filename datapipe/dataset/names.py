"""A column that is not there: its name and those that are enter, the error leaves, with the nearest."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from datapipe.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence


def no_such_column(name: str, names: Sequence[str]) -> SchemaError:
    """The error to raise."""
    near = difflib.get_close_matches(name, names, n=1)
    return SchemaError(
        f"there is no column {name!r}",
        expected=", ".join(names),
        fix=f"did you mean {near[0]!r}?" if near else None,
    )
