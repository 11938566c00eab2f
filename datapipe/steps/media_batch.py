"""What `Images` and `Sounds` have in common: encoded files of a batch become arrays in one piece of memory.

What enters: the gathered columns of a batch, among them one of encoded files (binary, or Hugging Face's struct<bytes,
path>, which is gathered as two columns), and the loader's keys. What leaves: the same columns with arrays in the files'
place. Invariant: each row is what the offline steps make of it for the same seed, epoch and row id, however many
threads, processes or ranks there are; without a column `row_id` a row's number in the dataset takes its place.

A batch is written once, into memory that the loader recycles, and that is page-locked where batches go to a GPU.
Decoding and resampling hold no interpreter lock, so threads are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.steps.step import ROW_ID

if TYPE_CHECKING:
    from collections.abc import Mapping


def encoded_column(columns: dict[str, Any], column: str, media: str, transform: str) -> list[Any]:
    """The encoded pictures or sounds of a batch.

    Args:
        media, transform: what they are and who asks, for messages.

    Raises:
        ConfigError: there is no such column.
    """
    for name in (column, f"{column}.bytes"):
        if isinstance(columns.get(name), list):
            found: list[Any] = columns[name]
            return found
    raise ConfigError(
        f"there is no column {column!r} of encoded {media}; the batch has {', '.join(columns) or 'none'}",
        expected="binary, or a struct<bytes, path>",
        fix=f"{transform}(column=...), or open the dataset with that column",
    )


def with_arrays(columns: dict[str, Any], column: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a batch with `arrays` in the place of the encoded column."""
    made: dict[str, Any] = {}
    for name, value in columns.items():
        if name in {column, f"{column}.bytes"}:
            made |= arrays
        elif name != f"{column}.path":
            made[name] = value
    return made


def row_keys(columns: dict[str, Any], keys: Any) -> list[str]:
    """What each row's draws are keyed by: its `row_id` where the batch has that column, else its number."""
    ids = columns.get(ROW_ID)
    return [str(each) for each in (keys.rows.tolist() if ids is None else list(ids))]
