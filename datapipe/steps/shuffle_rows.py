"""shuffle: the corpus in a seeded random order, on disk. What it does and why is in `sort_rows`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.sort_rows import ShuffleOptions, unmoved
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from datapipe.steps.step import Step


def build(options: ShuffleOptions) -> Step:
    """The step with its options bound."""
    del options
    return unmoved


SPEC: Final = StepSpec(
    name="shuffle",
    version=1,
    kind="global",
    options=ShuffleOptions,
    build=build,
    summary="the corpus in a seeded random order, on disk",
    needs=("row_id",),
)
