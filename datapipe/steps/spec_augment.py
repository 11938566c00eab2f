"""spec_augment: stretches of time and bands of frequency of a spectrogram, masked by chance.

What enters: `row_id`, `mel`. What leaves: the same rows, `mel` masked. Invariant: what is masked is a function of the
row id, the length of its spectrogram, the options and (seed, epoch): the same offline and online, in batches of any
size.

Park et al. 2019, "SpecAugment", arXiv:1904.08779, section 2, without the time warp ("not a major factor": section 5).
The defaults are their policy LD: two bands of up to 27 filters, two stretches of up to 100 frames. A mask's width is
uniform from 0 to its limit, and its place among those where it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.steps.columns import row_ids, set_column
from datapipe.steps.draws import uniform
from datapipe.steps.log_mel import MEL
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


@dataclass(frozen=True, kw_only=True)
class SpecAugmentOptions:
    """Options of spec_augment.

    Attributes:
        bands: how many bands of frequency are masked.
        band_width: filters that one masks at most (F).
        stretches: how many stretches of time are masked.
        stretch_width: frames that one masks at most (T).
        stretch_share: the same as a share of the row's frames, where that is less (p).
        fill: what a masked value becomes: the mean of the row's spectrogram, or 0.
    """

    bands: int = 2
    band_width: int = 27
    stretches: int = 2
    stretch_width: int = 100
    stretch_share: float = 1.0
    fill: Literal["mean", "zero"] = "mean"

    def __post_init__(self) -> None:
        for name in ("bands", "stretches"):
            in_range(f"spec_augment.{name}", getattr(self, name), 0, 100)
        for name in ("band_width", "stretch_width"):
            in_range(f"spec_augment.{name}", getattr(self, name), 0)
        in_range("spec_augment.stretch_share", self.stretch_share, 0, 1)


def spec_augment(table: pa.Table, keys: Keys, *, options: SpecAugmentOptions) -> pa.Table:
    """Mask.

    Args:
        table: `row_id: string, mel: list<fixed_size_list<float>[n_mels]>`.
        keys: seed and epoch.
        options: see SpecAugmentOptions.

    Returns:
        The table with `mel` masked, as large_list<fixed_size_list<float>[n_mels]>.

    Raises:
        ConfigError: there is no such column, or its type is another.
    """
    import numpy as np
    import pyarrow as pa

    values, offsets, valid = _spectrograms(table)
    n_mels = values.shape[1]
    masks = Masks(row_ids(table).to_pylist(), np.diff(offsets), n_mels, keys, options)
    for row, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        masks.lay(row, values[start:end])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), n_mels)
    missing = None if all(valid) else pa.array([not each for each in valid])
    return set_column(table, MEL, pa.LargeListArray.from_arrays(pa.array(offsets), frames, mask=missing))


@final
class Masks:
    """What is masked of each row of a batch.

    Args:
        lengths: int64[n], frames of each row.
    """

    def __init__(
        self, ids: Sequence[str], lengths: npt.NDArray[np.int64], n_mels: int, keys: Keys, options: SpecAugmentOptions
    ) -> None:
        import numpy as np

        self._options = options
        size = np.full(len(ids), n_mels)
        longest = np.minimum(options.stretch_width, (options.stretch_share * lengths).astype(np.int64))
        self._bands = [
            _places(ids, keys, f"spec_augment.band.{number}", np.minimum(options.band_width, size), size)
            for number in range(options.bands)
        ]
        self._stretches = [
            _places(ids, keys, f"spec_augment.stretch.{number}", longest, lengths)
            for number in range(options.stretches)
        ]

    def lay(self, row: int, spectrogram: npt.NDArray[np.float32]) -> None:
        """Mask row number `row`, float32[frames, n_mels], in its place."""
        import numpy as np

        fill = np.float32(0)
        if self._options.fill == "mean" and len(spectrogram):
            fill = np.float32(spectrogram.mean(dtype=np.float64))
        for first, width in self._bands:
            spectrogram[:, first[row] : first[row] + width[row]] = fill
        for first, width in self._stretches:
            spectrogram[first[row] : first[row] + width[row]] = fill


def _places(
    ids: Sequence[str], keys: Keys, name: str, limit: npt.NDArray[np.int64], size: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First index and width of one mask of each row: width uniform in 0 … limit, place where it fits."""
    import numpy as np

    width = (uniform(ids, keys, f"{name}.width") * (limit + 1)).astype(np.int64)
    first = (uniform(ids, keys, f"{name}.place") * (size - width + 1)).astype(np.int64)
    return first, width


def _spectrograms(table: pa.Table) -> tuple[Any, Any, list[bool]]:
    """All frames as one array [frames, n_mels] that may be written to, offsets of the rows, and which are there."""
    import numpy as np
    import pyarrow as pa

    if MEL not in table.column_names:
        raise ConfigError(
            f"there is no column {MEL!r}; the table has {', '.join(table.column_names) or 'none'}",
            expected="spectrograms",
            fix="put the step log_mel before spec_augment",
        )
    column = table.column(MEL)
    kind = column.type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if inner is None or not pa.types.is_fixed_size_list(inner) or inner.value_type != pa.float32():
        raise ConfigError(
            f"column {MEL!r} has type {kind}", expected="list<fixed_size_list<float>>, as log_mel gives it"
        )
    parts = [np.zeros(0, np.float32)]
    lengths = [np.zeros(1, np.int64)]
    for chunk in column.chunks:
        flat = chunk.flatten().flatten()
        parts.append(flat.to_numpy(zero_copy_only=False))
        counts = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        lengths.append(counts.astype(np.int64))
    values = np.concatenate(parts).reshape(-1, inner.list_size)  # a copy: the table that came in stays as it is
    return values, np.cumsum(np.concatenate(lengths)), column.is_valid().to_pylist()


def build(options: SpecAugmentOptions) -> Step:
    """The step with its options bound."""
    return partial(spec_augment, options=options)


SPEC: Final = StepSpec(
    name="spec_augment",
    version=1,
    kind="map",
    options=SpecAugmentOptions,
    build=build,
    summary="bands of frequency and stretches of time of a spectrogram masked by chance (SpecAugment)",
    needs=("row_id", MEL),
    gives=(MEL,),
)
