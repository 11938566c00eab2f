"""categories, over the corpus: how often each label occurs → the vocabularies that the step is given."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.passes.statistics_pass import SketchCollector, StatisticsPass

if TYPE_CHECKING:
    import pyarrow as pa


@final
class LabelCollector(SketchCollector):
    """Counts of labels: a task holds those of its split, up to `categories.MOST` a column."""

    step = "categories"

    def begin(self, options: Any) -> None:
        """See `SketchCollector.begin`."""
        from datapipe.preprocess.sketches.counts import Counts
        from datapipe.steps.categories import MOST

        self._counts = {name: Counts(MOST) for name in options.counted}

    def measure(self, table: pa.Table) -> None:
        """See `SketchCollector.measure`."""
        from datapipe.steps.categories import labels

        for name, counts in self._counts.items():
            counts.add(labels(table, name))

    def columns(self) -> dict[str, Any]:
        """See `SketchCollector.columns`."""
        return {name: counts.as_dict() for name, counts in self._counts.items()}


@final
class CategoriesPass(StatisticsPass):
    """See the module."""

    step = "categories"
    collectors = MappingProxyType({"labels": LabelCollector})
    feeds = (("categories", "statistics"),)


PASS: Final = CategoriesPass()
