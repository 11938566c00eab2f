"""normalise, over the corpus: moments and quantiles of its columns → the file that the step is given."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.passes.statistics_pass import SketchCollector, StatisticsPass

if TYPE_CHECKING:
    import pyarrow as pa


@final
class NumberCollector(SketchCollector):
    """Sketches of numbers."""

    step = "normalise"

    def begin(self, options: Any) -> None:
        """See `SketchCollector.begin`."""
        from datapipe.preprocess.sketches.number_column import NumberColumn

        self._columns = {name: NumberColumn(scaling) for name, scaling in options.columns.items()}

    def measure(self, table: pa.Table) -> None:
        """See `SketchCollector.measure`."""
        from datapipe.steps.normalise import numbers

        for name, column in self._columns.items():
            column.add(numbers(table, name, column.scaling))

    def columns(self) -> dict[str, Any]:
        """See `SketchCollector.columns`."""
        return {name: column.as_dict() for name, column in self._columns.items()}


@final
class NormalisePass(StatisticsPass):
    """See the module."""

    step = "normalise"
    collectors = MappingProxyType({"numbers": NumberCollector})
    feeds = (("normalise", "statistics"),)


PASS: Final = NormalisePass()
