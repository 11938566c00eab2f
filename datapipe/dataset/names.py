"""The columns that are asked for: names enter; names leave, or an error that has the nearest to one that is none."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from datapipe.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


def no_such_column(name: str, names: Sequence[str], paths: Sequence[str] = ()) -> SchemaError:
    """The error to raise.

    Args:
        paths: of the dataset's files. Spark, Hive and Polars write a column that they partition by into the folders'
            names, `lang=en/part-0.parquet`, and not into the files: such a name is no column here.
    """
    folder = next((part for path in paths for part in path.split("/")[:-1] if part.startswith(f"{name}=")), None)
    near = difflib.get_close_matches(name, names, n=1)
    fix = f"did you mean {near[0]!r}?" if near else None
    if folder is not None:
        fix = (
            f"it is in the names of folders ({folder}/), which are no columns: open each folder, and datapipe.mix"
            f" them with source={name!r}; or write the column into the files"
        )
    return SchemaError(f"there is no column {name!r}", expected=", ".join(names), fix=fix)


def checked_columns(schema: pa.Schema, columns: Sequence[str] | None, paths: Sequence[str] = ()) -> list[str]:
    """The names asked for; None: all there are.

    Raises:
        SchemaError: there is no such column, or two of the name. ConfigError: none is asked for, or one twice.
    """
    if columns is None:
        return [_one(name, schema) for name in schema.names]
    if isinstance(columns, str):
        raise ConfigError(f"columns={columns!r}", expected="a list of names", fix=f"columns=[{columns!r}]")
    for name in columns:
        if name not in schema.names:
            raise no_such_column(name, schema.names, paths)
    if not columns or len(set(columns)) != len(columns):
        raise ConfigError(f"columns={list(columns)!r}", expected="at least one name, each once")
    return [_one(name, schema) for name in columns]


def _one(name: str, schema: pa.Schema) -> str:
    if schema.get_field_index(name) < 0:  # said of two as of none
        raise SchemaError(
            f"{schema.names.count(name)} columns are called {name!r}",
            expected="one of each name that is read",
            fix="name the columns that are wanted (columns=[…]), or write the files anew with names of their own",
        )
    return name
