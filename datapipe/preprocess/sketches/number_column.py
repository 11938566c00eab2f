"""All that `normalise` wants to know of a column of numbers, in one reading and in parts.

What enters: arrays of float64, as `steps.normalise.numbers` gives them. What leaves: the sketch as plain values; at the
end the column's statistics. Invariant: parts merged in the same order give the same statistics, to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import PreprocessError
from datapipe.preprocess.sketches.counts import Counts, counts_from
from datapipe.preprocess.sketches.moments import Moments, moments_of
from datapipe.preprocess.sketches.quantiles import Quantiles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.normalise import Scaling

MOST_MODES: Final = 100_000
"""Different values among which the most frequent is looked for."""


@final
class NumberColumn:
    """The sketch of one column."""

    def __init__(self, scaling: Scaling, plain: dict[str, Any] | None = None) -> None:
        """`plain` from an earlier `as_dict`; else empty."""
        self.scaling = scaling
        plain = plain or {}
        self._moments = Moments(**plain.get("moments", {}))
        self._log = Moments(**plain.get("log", {}))
        self._quantiles = Quantiles(plain.get("quantiles"))
        counts = plain.get("counts")
        self._counts = Counts(MOST_MODES) if counts is None else counts_from(counts, MOST_MODES)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Take in an array, NaN for null."""
        import numpy as np
        import pyarrow as pa

        from datapipe.steps.normalise import log1p

        values = values + 0.0  # -0.0 and 0.0 are one value
        self._moments = self._moments.merged(moments_of(values))
        self._quantiles.add(values)
        if self.scaling.log:
            self._log = self._log.merged(moments_of(log1p(values)))
        if self.scaling.fill == "mode":
            self._counts.add(pa.array(values[~np.isnan(values)]))

    def merge(self, other: NumberColumn) -> None:
        """Take in what another has seen."""
        self._moments = self._moments.merged(other._moments)
        self._log = self._log.merged(other._log)
        self._quantiles.merge(other._quantiles)
        self._counts.merge(other._counts)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "moments": self._moments.as_dict(),
            "log": self._log.as_dict(),
            "quantiles": self._quantiles.text(),
            "counts": self._counts.as_dict(),
        }

    def statistics(self, name: str) -> dict[str, Any]:
        """What `normalise` is given: count, missing, min, max, mean, std, median, q25, q75, clip, mode, log.

        Raises:
            PreprocessError: the mode is asked for, and there are too many different values.
        """
        if self._counts.over:
            raise PreprocessError(
                f"column {name!r} has more than {MOST_MODES:,} different values",
                expected="fewer, to fill with the most frequent one",
                fix=f"fill with the median instead: normalise.columns.{name}.fill = median",
            )
        found, log, at = self._moments, self._log, self._quantiles.at
        ranked = sorted(self._counts.by_value.items(), key=lambda item: (-item[1], item[0]))
        return {
            "count": found.count,
            "missing": found.missing,
            "min": found.low,
            "max": found.high,
            "mean": found.mean,
            "std": found.std,
            "median": at(0.5),
            "q25": at(0.25),
            "q75": at(0.75),
            "clip": [at(share) for share in self.scaling.clip] if found.count and self.scaling.clip else None,
            "mode": ranked[0][0] if ranked else None,
            "log": (
                {"mean": log.mean, "std": log.std, "min": log.low, "max": log.high} if log.count else None
            ),
        }  # fmt: skip
