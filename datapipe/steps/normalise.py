"""normalise: columns of numbers on a common scale, by statistics of the whole corpus.

What enters: columns of numbers, and what was measured of them (a global pass measures them in one reading). What
leaves: the same columns as float32. Without statistics the table passes as it is: that is the half which runs while the
pass collects. Invariant: a value is scaled by itself and the statistics alone, in float64, by numpy and Arrow on one
thread: offline and online, in batches of any size, the same value gives the same bits (log1p is the C library's,
through Arrow: numpy's own may differ from one processor to the next).

In this order: what is not finite becomes null; clip to given bounds; fill; clip to quantiles; log1p; scale.

    zscore  (x - mean) / std            of all values, std over n (as scikit-learn's StandardScaler)
    minmax  (x - min) / (max - min)     0 … 1; of the clipped values where they are clipped to quantiles
    robust  (x - median) / (q75 - q25)  (as scikit-learn's RobustScaler)

A column that is constant has no scale: its values become 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.columns import set_column
from datapipe.steps.options import in_range
from datapipe.steps.scaled import scaled
from datapipe.steps.step import StepSpec
from datapipe.steps.table_statistics import read_statistics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


_LARGE: Final = 1e307


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a column is normalised.

    Attributes:
        scale: "zscore", "minmax", "robust", or "none".
        log: take log1p before scaling; at -1 and below there is none: such values become null, filled or not.
        low, high: values beyond are set to them, before anything is measured.
        clip: two shares, (0.01, 0.99): values beyond these quantiles are set to them. Mean and std are of the values
            as they were before.
        fill: what null becomes: "mean", "median", "mode" (the most frequent value, of equally frequent ones the least),
            "constant", or "none": it stays null. A column without any value stays null but for "constant".
        constant: for fill "constant", a value before log and scale.
    """

    SHORT: ClassVar[str] = "scale"

    scale: Literal["zscore", "minmax", "robust", "none"] = "zscore"
    log: bool = False
    low: float | None = None
    high: float | None = None
    clip: tuple[float, ...] = ()
    fill: Literal["none", "mean", "median", "mode", "constant"] = "none"
    constant: float = 0.0

    def __post_init__(self) -> None:
        for name in ("low", "high", "constant"):
            in_range(f"normalise: {name}", getattr(self, name))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(f"normalise: low {self.low} above high {self.high}", expected="low ≤ high")
        if self.clip and not (len(self.clip) == 2 and 0 <= self.clip[0] < self.clip[1] <= 1):
            raise ConfigError(
                f"normalise: clip = {list(self.clip)}", expected="two shares from 0 to 1, the lower one first"
            )


@dataclass(frozen=True, kw_only=True)
class NormaliseOptions:
    """Options of normalise.

    Attributes:
        columns: by name, a scale or a mapping of how the column is normalised.
        dtype: of the columns that leave. What is beyond float32 (unscaled, above 3.4e38) becomes infinite there.
        suffix: is put behind a column's name, and the column itself stays as it is; "": it is replaced.
        apply: "offline": the columns are stored scaled. "online": they are stored as they are, and what was measured is
            in the manifest, for `datapipe.encode` to apply as they are read.
        measure: of which rows the statistics are, by column the value that they have: {split: train} measures the
            train part alone. Empty: of all.
        statistics: a file with the statistics of an earlier run, to be applied as they are; "": this run measures them.
    """

    columns: ByName[Scaling] = ByName()  # noqa: RUF009  (immutable)
    dtype: Literal["float32", "float64"] = "float32"
    suffix: str = ""
    apply: Literal["offline", "online"] = "offline"
    measure: ByName[str] = ByName()  # noqa: RUF009  (immutable)
    statistics: str = ""


def normalise(
    table: pa.Table, keys: Keys, *, options: NormaliseOptions, statistics: dict[str, dict[str, Any]] | None
) -> pa.Table:
    """Scale the columns.

    Args:
        table: columns of integers, floats, decimals or truth values.
        keys: not used.
        options: see NormaliseOptions.
        statistics: by column; None: the table passes as it is.

    Returns:
        The table with float columns; null where a value is none.

    Raises:
        ConfigError: a column holds no numbers.
    """
    del keys
    import pyarrow as pa

    if statistics is None or options.apply == "online":
        return table
    for name, scaling in options.columns.items():
        array = scaled(table.column(name), scaling, statistics[name], options.dtype)
        if array is None:
            values = scale(numbers(table, name, scaling), scaling, statistics[name])
            array = pa.array(values, pa.float64(), from_pandas=True).cast(getattr(pa, options.dtype)(), safe=False)
        table = set_column(table, name + options.suffix, array)
    return table


def numbers(table: pa.Table, name: str, scaling: Scaling) -> npt.NDArray[np.float64]:
    """Column `name` as it is measured: float64[n], clipped to the given bounds, NaN where it is null or not finite.

    Raises:
        ConfigError: it holds no numbers.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.column(name)
    kind = values.type
    if not (pa.types.is_null(kind) or any(test(kind) for test in _numeric())):
        raise ConfigError(
            f"normalise: column {name!r} has type {kind}",
            expected="integers, floats, decimals or truth values",
            fix=f"put the step schema before it, with {name}: float32",
        )
    wide = values.cast(pa.int8()) if pa.types.is_boolean(kind) else values
    wide = wide.cast(pa.float64(), safe=False)
    found = np.array(pc.fill_null(wide, float("nan")).to_numpy(), np.float64)
    found[~np.isfinite(found)] = np.nan
    if scaling.low is not None or scaling.high is not None:
        # Arguments in this order: NaN stays NaN.
        found = np.clip(found, scaling.low, scaling.high)
    return found


def scale(values: npt.NDArray[np.float64], scaling: Scaling, found: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Values (from `numbers`) by what was measured of their column: float64[n], NaN where there is none."""
    import numpy as np

    empty = not found["count"]
    fill = scaling.constant if scaling.fill == "constant" else found.get(scaling.fill)
    if scaling.fill != "none" and fill is not None:
        values = np.where(np.isnan(values), float(fill), values)
    if empty:
        # There is nothing to scale by: a constant fill, or nothing at all.
        return np.where(np.isnan(values), values, 0.0 if scaling.scale != "none" else values)
    low, high = found["min"], found["max"]
    if scaling.clip:
        low, high = found["clip"]
        values = np.clip(values, low, high)
    if scaling.log:
        values = log1p(values)
        if found["log"] is None:
            return values  # no value has a logarithm
        # A bound without a logarithm bounds nothing: the least value that has one is the lower end.
        edges = log1p(np.array([low, high])).tolist()
        low, high = (found["log"][end] if np.isnan(e) else e for end, e in zip(("min", "max"), edges, strict=True))
    measured = found["log"] if scaling.log else found
    # A difference of values near the end of float64 would overflow; a quarter of each is exact.
    shrink = 0.25 if max(abs(low), abs(high)) > _LARGE else 1.0
    values, low, high = values * shrink, low * shrink, high * shrink
    if scaling.scale == "zscore":
        centre, width = measured["mean"] * shrink, measured["std"] * shrink
    elif scaling.scale == "minmax":
        centre, width = float(low), float(high) - float(low)
    elif scaling.scale == "robust":
        quartiles = np.array([found["q25"], found["median"], found["q75"]])
        q25, centre, q75 = (log1p(quartiles) if scaling.log else quartiles * shrink).tolist()
        width = q75 - q25
    else:
        return values / shrink
    if not (np.isfinite(width) and width > 0):
        # A constant; or quartiles without a logarithm, which give no scale either.
        return np.where(np.isnan(values), values, 0.0)
    return np.asarray((values - centre) / width)


def log1p(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(1 + x), NaN at -1 and below: float64[n]."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    safe = np.where(values > -1, values, np.nan)
    return np.asarray(pc.log1p(pa.array(safe)).to_numpy(zero_copy_only=False))


def _numeric() -> tuple[Any, ...]:
    import pyarrow as pa

    return (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)


def resolve(spec: StepSpec, options: NormaliseOptions) -> StepSpec:
    """The columns named are needed and given; with statistics at hand, no other row or column is: a map step."""
    names = tuple(options.columns)
    gives = tuple(name + options.suffix for name in names) if options.apply == "offline" else ()
    needs = (*names, *(() if options.statistics or not names else options.measure))
    return replace(spec, needs=needs, gives=gives, kind="map" if options.statistics or not names else "global")


def build(options: NormaliseOptions) -> Step:
    """The step with its options bound.

    Raises:
        ConfigError: the statistics cannot be read, or lack a column.
    """
    found = None
    if options.statistics:
        found = read_statistics("normalise", options.statistics, tuple(options.columns))
    return partial(normalise, options=options, statistics=found)


SPEC: Final = StepSpec(
    name="normalise",
    version=1,
    kind="global",
    options=NormaliseOptions,
    build=build,
    summary="columns of numbers on a common scale, by statistics of all rows",
    resources=("statistics",),
    resolve=resolve,
)
