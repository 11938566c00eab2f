"""What a user's code does to a batch, in a thread or in a worker process: the transform, and the collate function.

What enters: gathered rows (a table, or a dict of arrays and lists) and their keys. What leaves: the batch. Invariant:
it is the same object that runs in threads and that is pickled once for processes, so that batches are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, final

from datapipe.errors import ConfigError, LoaderError
from datapipe.loader.column_collate import ColumnCollate
from datapipe.loader.transform import given_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.transform import RowKeys, Transform

Job = Literal["table", "columns", "collate", "batch", "both"]
"""The transform of a table; of columns; collate; the transform of a batch; collate and one of the last two kinds."""


@final
class Finishing:
    """A transform and a collate function, each of which there may be.

    Args:
        collate: dict of numpy arrays and lists → batch; None: batches are Arrow tables. own: it is the user's.

    Attributes:
        own_collate: there is one of the user's. of_tables, of_columns, transforms_batches: which kind of transform
            there is. of_batches: whether any of the user's code takes what was gathered, or batches.

    Raises:
        ConfigError: a transform of columns, and there are none: batches are tables.
    """

    def __init__(
        self, transform: Transform | None, collate: Callable[[dict[str, Any]], Any] | None, *, own: bool
    ) -> None:
        self._transform = transform
        self.collate = collate
        self.own_collate = own
        self.of_tables = transform is not None and transform.takes == "table"
        self.transforms_batches = transform is not None and transform.takes == "batch"
        self.of_columns = transform is not None and transform.takes == "columns"
        self.of_batches = own or self.transforms_batches or self.of_columns
        if self.of_columns and collate is None:
            raise ConfigError(
                f'collate="arrow", and the transform {transform.name if transform else ""} takes columns',
                expected="batches of arrays or tensors",
                fix='collate="torch" or "numpy"',
            )

    def of_processes(self) -> Finishing:
        """The part of it that is done in worker processes: what they need not do they need not import."""
        return self if self.of_batches else Finishing(self._transform, None, own=False)

    def run(self, job: Job, value: Any, keys: RowKeys) -> tuple[Any, int]:
        """What comes out of one part of it, and 0.

        Raises:
            Exception: what it raised, with a note of the rows.
        """
        of_columns = self.of_columns and job in {"columns", "both"}
        if of_columns and self._transform is not None:
            value = self._transform(value, keys)
        if job in {"collate", "both"} and self.collate is not None:
            value = self.collated(value, keys)
        if job != "collate" and not self.of_columns and self._transform is not None:
            value = self._transform(value, keys)
        return value, 0

    def collated(self, value: dict[str, Any], keys: RowKeys) -> Any:
        """The batch, as the collate function makes it."""
        assert self.collate is not None
        try:
            if isinstance(self.collate, ColumnCollate):
                return self.collate(value, keys)
            return self.collate(value)
        except StopIteration as error:  # would end the epoch as if it were over
            fault = LoaderError("collate raised StopIteration", expected="a batch", fix="catch it inside collate")
            fault.add_note(given_rows(keys))
            raise fault from error
        except Exception as error:
            name = getattr(self.collate, "__qualname__", type(self.collate).__name__)
            error.add_note(f"in the collate function {name}, {given_rows(keys)}")
            raise
