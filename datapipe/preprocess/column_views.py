"""What a column looks like: a histogram of numbers, the most frequent words, thumbnails, waveforms.

What enters: values of a column. What leaves: plain numbers and strings for a page. Invariant: a value that cannot be
shown is said so, and never ends the page; the same values give the same view.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import DatapipeError
from datapipe.preprocess.run_report import Bar, in_thousands

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pyarrow as pa

BINS: Final = 32
WORDS: Final = 12
"""Values that are named of a column of words."""
GROUPS: Final = 64
"""Row groups that histograms are made of."""
THUMB: Final = 144
"""Pixels: the height of a thumbnail, twice that of its place on the page."""
WAVE: Final = 240
"""Columns of a waveform."""
_HUGE: Final = 1e280
_NOT_TEXT: Final = "(not UTF-8)"


@final
@dataclass(frozen=True, kw_only=True)
class ColumnView:
    """One column.

    Attributes:
        facts: (what, how much). bars: of a histogram, in percent of the chart. ends: (least, greatest) value of its
            axis. words: (value, rows, percent of the most frequent). encrypted: whether it is.
    """

    name: str
    type: str
    facts: tuple[tuple[str, str], ...] = ()
    bars: tuple[Bar, ...] = ()
    ends: tuple[str, str] = ("", "")
    words: tuple[tuple[str, int, float], ...] = ()
    encrypted: bool = False


def view_of(name: str, values: pa.ChunkedArray, *, encrypted: bool = False) -> ColumnView:
    """A column from a sample of its values; numbers and lengths of lists as a histogram, words by frequency."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    nulls = (("null", f"{values.null_count / max(1, len(values)):.1%}"),) if values.null_count else ()
    there = values.drop_null()
    found: dict[str, Any] = {"name": name, "type": str(kind), "facts": nulls, "encrypted": encrypted}
    if not len(there):
        return ColumnView(**found)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(there).to_numpy()
        return ColumnView(**{**found, **_histogram(lengths, nulls, "elements a row")})
    if pa.types.is_boolean(kind):
        there = there.cast(pa.string())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return ColumnView(**{**found, **_histogram(there.cast(pa.float64(), safe=False).to_numpy(), nulls, "")})
    if pa.types.is_dictionary(there.type):
        there = there.cast(there.type.value_type)
    if pa.types.is_string(there.type) or pa.types.is_large_string(there.type):
        distinct = pc.count_distinct(there).as_py()
        facts = (*nulls, ("distinct", f"{distinct:,} of {len(there):,}"))
        if distinct * 2 > len(there) and distinct > WORDS:
            lengths = pc.utf8_length(there).to_numpy()
            return ColumnView(**{**found, **_histogram(lengths, facts, "characters a row")})
        counts = sorted(pc.value_counts(there).to_pylist(), key=lambda each: (-each["counts"], each["values"]))
        most = counts[0]["counts"]
        shown = tuple((c["values"][:80], c["counts"], round(100 * c["counts"] / most, 2)) for c in counts[:WORDS])
        return ColumnView(**{**found, "facts": facts, "words": shown})
    return ColumnView(**found)


def _histogram(values: npt.NDArray[Any], facts: tuple[tuple[str, str], ...], unit: str) -> dict[str, Any]:
    import numpy as np

    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) < len(values):
        facts = (*facts, ("not finite", f"{1 - len(finite) / len(values):.1%}"))
    if not len(finite):
        return {"facts": facts}
    # Scaled by a power of two nothing is rounded, and neither the range nor the sum leaves what a float holds.
    scale = 2.0**-64 if np.abs(finite).max() > _HUGE else 1.0
    finite = finite * scale
    low, high = float(finite.min()), float(finite.max())
    if unit:
        facts = ((unit, ""), *facts)
    if low == high:
        return {"facts": (*facts, ("always", _number(low / scale)))}
    middle = ("median", _number(float(np.median(finite)) / scale)), ("mean", _number(float(finite.mean()) / scale))
    facts = (*facts, *middle)
    whole = scale == 1 and bool((finite == np.floor(finite)).all()) and high - low < BINS
    # Whole numbers that are few have a bar each.
    edges = np.arange(low, high + 2) - 0.5 if whole else np.linspace(low, high, BINS + 1)
    counts = np.histogram(finite, edges)[0].tolist()
    edges = edges / scale
    most, width = max(counts), 100 / len(counts)
    bars = tuple(
        Bar(
            x=round(i * width + width * 0.06, 3),
            width=round(width * 0.88, 3),
            came=0.0,
            kept=round(80 * n / most, 3),
            label="",
            title=f"{_number(edges[i] + (0.5 if whole else 0))}"
            + ("" if whole else f" to {_number(edges[i + 1])}")
            + f": {n:,} rows",
        )
        for i, n in enumerate(counts)
    )
    return {"facts": facts, "bars": bars, "ends": (_number(low / scale), _number(high / scale))}


def legible(table: pa.Table) -> pa.Table:
    """A table whose texts are text: where one is not UTF-8 its odd bytes are �; within lists and structs all is."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        column = table.column(place)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            said: list[str | None] = [_NOT_TEXT] * len(column)
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                as_bytes = pa.binary() if pa.types.is_string(field.type) else pa.large_binary()
                raw = [value for chunk in column.chunks for value in chunk.view(as_bytes).to_pylist()]
                said = [None if value is None else value.decode("utf-8", "replace") for value in raw]
            table = table.set_column(place, field.name, pa.array(said, pa.large_string()))
    return table


def _number(value: float) -> str:
    return in_thousands(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:,.4g}"


def media_bytes(value: Any) -> bytes | None:
    """The encoded bytes of a picture or sound, as binary or as struct<bytes, path>; None where there are none."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def is_media(kind: pa.DataType) -> bool:
    """Whether a column's values may be encoded pictures or sounds."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and pa.types.is_binary(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """A thumbnail: a data URI, or why there is none."""

    uri: str = ""
    width: int = 0
    height: int = 0
    remark: str = ""


def thumbnail(data: bytes) -> Picture:
    """A small PNG or JPEG of a picture, decoded by the loader's own decoder at the least scale that is enough."""
    from datapipe.steps.image_decode import decode_image

    try:
        pixels = decode_image(data, (THUMB, THUMB))
        from PIL import Image

        image = Image.fromarray(pixels)
        size = f"{image.width} × {image.height}"
        image.thumbnail((THUMB * 4, THUMB))
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=80)
    except (DatapipeError, ImportError, OSError, ValueError, MemoryError) as error:
        return Picture(remark=getattr(error, "got", None) or type(error).__name__)
    uri = "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
    return Picture(uri=uri, width=image.width // 2, height=image.height // 2, remark=size)


@final
@dataclass(frozen=True, kw_only=True)
class Wave:
    """A waveform as an SVG path in a box of WAVE by 100, 50 being silence; or why there is none."""

    path: str = ""
    remark: str = ""


def waveform(data: bytes) -> Wave:
    """The envelope of a sound: of each of `WAVE` stretches the least and the greatest sample, channels together."""
    import numpy as np

    from datapipe.steps.audio_reading import AudioFault, read_sound

    try:
        sound = read_sound(data, whole=False)
    except (DatapipeError, AudioFault) as error:
        return Wave(remark=getattr(error, "got", None) or str(error))
    samples = np.asarray(sound.samples, np.float32)
    samples = samples.reshape(len(samples), -1)
    if not len(samples):
        return Wave(remark="no samples")
    edges = np.linspace(0, len(samples), min(WAVE, len(samples)) + 1).astype(np.int64)[:-1]
    high = np.maximum.reduceat(samples.max(axis=1), edges)
    low = np.minimum.reduceat(samples.min(axis=1), edges)
    step = WAVE / len(edges)
    top = [f"{i * step:.1f},{50 - 48 * min(1.0, float(v)):.1f}" for i, v in enumerate(high)]
    bottom = [f"{i * step:.1f},{50 - 48 * max(-1.0, float(v)):.1f}" for i, v in enumerate(low)]
    seconds = len(samples) / max(1, sound.rate)
    return Wave(
        path="M" + " ".join(top + bottom[::-1]) + "Z",
        remark=f"{seconds:.2f} s, {sound.rate:,} Hz, {samples.shape[1]} ch",
    )


def spaced(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spaced."""
    import numpy as np

    return sorted({int(n) for n in np.linspace(0, count - 1, min(most, count))}) if count else []


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one schema as one."""
    import pyarrow as pa

    return pa.concat_tables(tables)
