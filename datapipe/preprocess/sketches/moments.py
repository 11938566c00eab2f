"""Counts, bounds, mean and variance of a column of numbers, in one reading and in parts.

What enters: arrays of float64, NaN for null. What leaves: `Moments`, JSON-able. Invariant: a part is computed in two
passes over its array, which is in memory anyway, and parts are joined by Chan's formula, so that no sum of squares is
ever formed: of 10^9 + {0, 1, 2} the variance is right to the last digits. The same parts joined in the same order give
the same bits.

Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", The American Statistician 37(3),
equations 2.1.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of an array, or of several.

    Attributes:
        count: values that are no NaN. missing: the others.
        low, high, mean: of the values; None where there is none. m2: the sum of (x - mean)^2.
    """

    count: int = 0
    missing: int = 0
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    m2: float = 0.0

    def merged(self, other: Moments) -> Moments:
        """These values and then the others'."""
        n = self.count + other.count
        missing = self.missing + other.missing
        if not self.count or not other.count:
            some = other if not self.count else self
            return Moments(
                count=n, missing=missing, low=some.low, high=some.high, mean=some.mean, m2=some.m2
            )  # fmt: skip
        assert self.mean is not None and other.mean is not None  # noqa: PT018
        assert self.low is not None and other.low is not None  # noqa: PT018
        assert self.high is not None and other.high is not None  # noqa: PT018
        # By shares, so that means near the largest float do not overflow.
        share = other.count / n
        delta = other.mean - self.mean
        mean = self.mean + delta * share if math.isfinite(delta) else self.mean * (1 - share) + other.mean * share
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Moments(
            count=n,
            missing=missing,
            low=low,
            high=high,
            # Rounding may carry a mean past its values by a bit; a constant column's mean is its constant.
            mean=min(max(mean, low), high),
            m2=_finite(self.m2 + other.m2 + delta * delta * (self.count * share)),
        )

    @property
    def std(self) -> float | None:
        """The standard deviation over n; 0 of a constant, None without values.

        Of values whose squares are beyond float64 it is half their range, which it cannot exceed (Popoviciu 1935).
        """
        if self.mean is None or self.low is None or self.high is None:
            return None
        if self.m2 == sys.float_info.max:
            return self.high / 2 - self.low / 2
        return 0.0 if self.low == self.high else math.sqrt(self.m2 / self.count)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def moments_of(values: npt.NDArray[np.float64]) -> Moments:
    """The moments of one array."""
    import numpy as np

    there = values[~np.isnan(values)]
    n = len(there)
    if not n:
        return Moments(missing=len(values))
    low, high = float(there.min()), float(there.max())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(there.mean())
        if not math.isfinite(mean):
            mean = float((there / n).sum())
        mean = min(max(mean, low), high)
        m2 = _finite(float(np.square(there - mean).sum()))
    return Moments(count=n, missing=len(values) - n, low=low, high=high, mean=mean, m2=m2)


def _finite(value: float) -> float:
    """JSON has no infinity: a spread beyond float64 is the largest there is."""
    return min(value, sys.float_info.max) if value == value else sys.float_info.max  # noqa: PLR0124  (NaN)
