"""Steps as a loader's transform: what preprocessing runs ahead of time, run as batches are read.

What enters: a table with `row_id`, from the loader. What leaves: the table that `run_steps` would give.
Invariant: the same rows as offline, for the same keys, however the rows are batched (map steps alone are taken).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from datapipe.errors import ConfigError
from datapipe.steps.running import run_steps
from datapipe.steps.step import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.steps.registry import BoundStep


@final
class StepsTransform:
    """A callable table → table over map steps; picklable, and safe to share by threads.

    Rows that a step drops or quarantines are left out of the result. `DataLoader` refuses such a batch with a
    LoaderError, as every rank needs the same number of batches: steps that mark rows belong into preprocessing, where
    a ledger counts them. Called by itself it returns the rows that are left.
    """

    def __init__(self, steps: Sequence[BoundStep], keys: Keys) -> None:
        self.steps = tuple(steps)
        self.keys = keys
        for step in self.steps:
            if step.spec.kind != "map":
                raise ConfigError(
                    f"step {step.name!r} is of kind {step.spec.kind!r}",
                    expected="map steps: a batch holds neither all rows of the corpus nor whole shards",
                    fix=f"run {step.name!r} in preprocessing",
                )

    def __call__(self, table: pa.Table, keys: Keys | None = None) -> pa.Table:
        """Run the steps; `keys` (a loader passes its seed and epoch) takes the place of those bound.

        Raises:
            ConfigError, StepError: as `run_steps`.
        """
        return run_steps(table, self.steps, keys or self.keys).table


def steps_transform(steps: Sequence[BoundStep], keys: Keys | None = None) -> StepsTransform:
    """The transform that runs `steps` (from `bind`) with `keys`.

    Raises:
        ConfigError: a step is not of kind map.
    """
    return StepsTransform(steps, keys or Keys())
