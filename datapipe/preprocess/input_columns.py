"""Whether the columns that a recipe carries along have one type in all of the input.

What enters: source files. What leaves: nothing, or a SchemaError. Invariant: shards of different schemas are found out
by the footers of the input, before any work, not by the shards, after all of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from datapipe.corpus.reasons import MISSING_ID, MISSING_TEXT, NO_TEXT_COLUMN
from datapipe.errors import ConfigError, SchemaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from datapipe.corpus import SourceFile
    from datapipe.preprocess.recipe import Recipe

_COLUMNAR: Final = ("parquet", "arrow")
_WITH_HEADER: Final = ("csv", "tsv")
_WITH_FIELDS: Final = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")
_AT_ONCE: Final = 16
"""Footers fetched side by side: of a remote input each is a request or two."""


def check_input_columns(files: Sequence[SourceFile], recipe: Recipe, storage_options: Mapping[str, Any] | None) -> None:
    """Compare the types of `input.columns` in all files: formats without types give large_string.

    Raises:
        ConfigError: no file has it, and all are of formats that name their columns once.
        SchemaError: a column has two types, or some columnar files have it and others lack it.
    """
    names = recipe.input.columns
    if not names or "*" in names:
        return
    _check_headers(files, recipe, storage_options)
    if not any(file.format in _COLUMNAR for file in files):
        return
    found: dict[str, dict[str, str]] = {name: {} for name in names}  # column → type → the first file that has it
    columnar = [file for file in files if file.format in _COLUMNAR]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        schemas = pool.map(lambda file: _schema(file, storage_options), columnar)
        for file, schema in zip(columnar, schemas, strict=True):
            if schema is None:
                continue
            for name in names:
                kind = str(schema.field(name).type) if schema.names.count(name) == 1 else "not there"
                found[name].setdefault(kind, file.name)
    plain = next((file for file in files if file.format not in _COLUMNAR), None)
    for name, kinds in found.items():
        if plain is None and kinds.keys() == {"not there"}:
            raise _nowhere(name, kinds["not there"])
        if plain is not None:
            kinds.setdefault("large_string", plain.name)
        if len(kinds) > 1:
            (kind, one), (other, another) = list(kinds.items())[:2]
            raise SchemaError(
                f"the column {name!r} is {kind} in {one}, and {other} in {another}",
                expected="one type in all of the input",
                fix=f"convert the files, preprocess them apart, or leave {name} out of input.columns",
            )


def _check_headers(
    files: Sequence[SourceFile], recipe: Recipe, storage_options: Mapping[str, Any] | None
) -> None:  # fmt: skip
    """Of CSV and TSV alone, so few files that each can be looked at: a column that no first line names.

    What a later record of JSON lines may have is found out when all were read (`warnings_of_run`).
    """
    from datapipe.corpus import read_piece
    from datapipe.corpus.piece import Piece

    if len(files) > _AT_ONCE or any(file.format not in _WITH_HEADER for file in files):
        return
    options = replace(recipe.input.read_options(), max_batch_bytes=1)  # a row is enough
    seen: set[str] = set()
    for file in files:
        try:
            batch = next(read_piece(Piece(file=file), options=options, storage_options=storage_options))
        except (StopIteration, StorageError):
            return
        if not batch.table.num_rows:
            return
        # A field that is empty is "", one that the header does not name is null.
        seen.update(n for n in batch.table.column_names if batch.table.column(n).null_count < batch.table.num_rows)
    for name in recipe.input.columns:
        if name not in seen:
            raise _nowhere(name, files[0].name)


def _nowhere(name: str, file: str) -> ConfigError:
    return ConfigError(
        f"input.columns names {name!r}, which no file has, {file} among them",
        expected="columns of the input",
        fix=f"correct the name, or leave {name} out",
    )


def check_named_fields(
    files: Sequence[SourceFile], recipe: Recipe, storage_options: Mapping[str, Any] | None
) -> None:  # fmt: skip
    """Look for `input.text_column` and `input.id_column` in the first rows of a file of each format that has fields.

    Raises:
        ConfigError: not one of those rows has it.
    """
    from datapipe.corpus import read_piece
    from datapipe.corpus.piece import Piece

    first = {file.format: file for file in reversed(files) if file.format in _WITH_FIELDS}
    if (recipe.input.text_column is None and recipe.input.id_column is None) or not first:
        return
    missing: list[tuple[str, str]] = []
    for file in first.values():
        try:
            batch = next(
                read_piece(Piece(file=file), options=recipe.input.read_options(), storage_options=storage_options)
            )
        except (StopIteration, StorageError):
            return
        reasons = {row.reason for row in batch.quarantined}
        if batch.table.num_rows or not reasons or not reasons <= {MISSING_TEXT, NO_TEXT_COLUMN, MISSING_ID}:
            return
        shown = f"{file.name} ({batch.quarantined[0].excerpt[:80] or batch.quarantined[0].detail})"
        missing.append(("id" if reasons == {MISSING_ID} else "text", shown))
    what, where = missing[0]
    raise ConfigError(
        f"no row has the field {getattr(recipe.input, f'{what}_column')!r}: {where}",
        expected="the field that holds the text" if what == "text" else "the field that names each row",
        fix=f"--set input.{what}_column=NAME",
    )


def _schema(file: SourceFile, storage_options: Mapping[str, Any] | None) -> pa.Schema | None:
    """The file's schema; None where it cannot be read: its reader will say why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.storage import open_store

    try:
        with open_store(file.root, storage_options=storage_options).open(file.path) as source:
            if file.format == "parquet":
                return pq.read_schema(source)
            whole = source.read(6) == b"ARROW1"
            source.seek(0)
            return (pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)).schema
    except (pa.ArrowException, StorageError, OSError, ValueError):
        return None
