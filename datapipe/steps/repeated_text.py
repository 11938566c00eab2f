"""Lines and paragraphs that the corpus has elsewhere too: what `repeated_lines` and `repeated_paragraphs` share.

A step of this kind runs twice. First without a list: it hashes each piece of each text for the pass, which finds the
hashes that occur more than once and where each occurs first. Then with that list: it takes out all but the first
occurrence. What enters: `text`. What leaves: first the same with the hashes, then the text without repeats, rows of
which too little is left marked.

Invariant: of equal pieces the first by (split, position, place in the text) stays, whatever the batches; a text with
nothing to take out stays as it is, byte for byte. Pieces are equal if they are the same characters after white space at
their ends is cut off (xxh3_128). Shorter ones than `shortest` are no repeats: "}" and blank lines stay.

CCNet does so with paragraphs (Wenzek et al. 2020, arXiv:1911.00359, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.columns import mark, row_ids, set_column, text_of, to_arrow, to_polars
from datapipe.steps.exact_duplicates import hash_texts
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

BETWEEN: Final = {"repeated_lines": "\n", "repeated_paragraphs": "\n\n"}
"""What parts the pieces of a text, by step."""


@dataclass(frozen=True, kw_only=True)
class RepeatedTextOptions:
    """Options of repeated_lines and repeated_paragraphs.

    Attributes:
        shortest: pieces of fewer characters, white space at the ends not counted, are left alone.
        min_chars: a text from which something was taken out and of which fewer characters are left is dropped.
        seen: the file of pieces that occur more than once. Leave it empty: the run makes it.
    """

    shortest: int = 20
    min_chars: int = 50
    seen: str = ""

    def __post_init__(self) -> None:
        in_range("shortest", self.shortest, 1)
        in_range("min_chars", self.min_chars, 0)


def seen_type() -> Any:
    """The type of a record of the list: a hash, the row (xxh3_64 of its id) and the number of its first piece."""
    import numpy as np

    return np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8"), ("number", "<u4")])


def columns_of(name: str) -> tuple[str, str]:
    """The columns that a step adds for its pass: hashes, and the number of each piece within its text."""
    return f"{name}_hashes", f"{name}_numbers"


def hash_pieces(table: pa.Table, keys: Keys, *, name: str, options: RepeatedTextOptions) -> pa.Table:
    """The first half.

    Args:
        table: `text: string`.
        keys: not used.
        name: the step. options: see RepeatedTextOptions.

    Returns:
        The table with `<name>_hashes: list<fixed_size_binary[16]>` and `<name>_numbers: list<uint32>`, an element for
        each piece that is long enough. No row is marked.
    """
    import pyarrow as pa

    del keys
    pieces = _Pieces(text_of(table), BETWEEN[name], options.shortest)
    ends = pa.array(pieces.chosen_ends, pa.int32())
    for column, values in zip(columns_of(name), (pieces.hashes, pa.array(pieces.numbers, pa.uint32())), strict=True):
        table = set_column(table, column, pa.ListArray.from_arrays(ends, values))
    return table


def remove_repeats(
    table: pa.Table, keys: Keys, *, name: str, options: RepeatedTextOptions, seen: npt.NDArray[np.void]
) -> pa.Table:
    """The second half.

    Args:
        table: `row_id: string`, `text: string`.
        keys: not used.
        name: the step. options: see RepeatedTextOptions.
        seen: records of `seen_type`, by (high, low).

    Returns:
        The table with the new `text`, and `<name>.removed: uint32`, how many pieces were taken out.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    del keys
    text = text_of(table)
    between = BETWEEN[name]
    pieces = _Pieces(text, between, options.shortest)
    owners = np.repeat(np.arange(len(text)), np.diff(pieces.chosen_ends))
    repeats = _repeats(pieces, row_hashes(row_ids(table).to_pylist())[owners], seen)
    removed = np.bincount(owners[repeats], minlength=len(text))
    changed = np.flatnonzero(removed)
    if len(changed):
        kept = pc.take(text, pa.array(changed)).to_pylist()
        gone = np.split(pieces.numbers[repeats], np.cumsum(removed[changed])[:-1])
        for place, numbers in enumerate(gone):
            out = set(numbers.tolist())
            parts = kept[place].split(between)
            kept[place] = between.join(part for number, part in enumerate(parts) if number not in out)
        new = pc.replace_with_mask(
            text.combine_chunks(), pa.array(removed > 0), pa.array(kept, pa.large_string())
        )  # fmt: skip
        table = set_column(table, "text", new)
        short = (pc.utf8_length(new).to_numpy(zero_copy_only=False) < options.min_chars) & (removed > 0)
        reason = pa.scalar(f"{name}_left_short", pa.string())
        table = mark(table, pc.if_else(pa.array(short), reason, pa.scalar(None, pa.string())))
    else:
        table = set_column(table, "text", text)
    return set_column(table, f"{name}.removed", pa.array(removed.astype(np.uint32)))


class _Pieces:
    """The pieces of texts that are long enough to be repeats."""

    def __init__(self, text: pa.ChunkedArray, between: str, shortest: int) -> None:
        import numpy as np
        import pyarrow as pa

        lists = to_arrow(to_polars(text).str.split(between)) if len(text) else pa.array([], pa.large_list(pa.string()))
        ends = lists.offsets.to_numpy()
        values = to_polars(pa.chunked_array([lists.values.slice(ends[0], ends[-1] - ends[0])])).str.strip_chars()
        chosen = np.flatnonzero(values.str.len_chars().to_numpy() >= shortest)
        ends = ends - ends[0]
        self.hashes = hash_texts(pa.chunked_array([to_arrow(values.gather(chosen)).cast(pa.large_string())]))
        self.chosen_ends = np.searchsorted(chosen, ends).astype(np.int32)
        starts = np.repeat(ends[:-1], np.diff(self.chosen_ends))
        self.numbers = (chosen - starts).astype(np.uint32)


def halves(hashes: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """High and low words of hashes fixed_size_binary[16]."""
    import numpy as np

    words = np.frombuffer(hashes.buffers()[1], ">u8").reshape(-1, 2)[hashes.offset : hashes.offset + len(hashes)]
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def row_hashes(ids: list[str]) -> npt.NDArray[np.uint64]:
    """xxh3_64 of each row id's UTF-8 bytes."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    return np.fromiter((xxh3_64_intdigest(each.encode()) for each in ids), np.uint64, len(ids))


def _repeats(pieces: _Pieces, rows: npt.NDArray[np.uint64], seen: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which pieces are in the list, and are not the first of their hash."""
    import numpy as np

    high, low = halves(pieces.hashes)
    repeats = np.zeros(len(high), bool)
    if not len(seen):
        return repeats
    at = np.searchsorted(seen["high"], high)
    # Two hashes may share their high half; three do not in any corpus.
    for further in (0, 1):
        place = np.minimum(at + further, len(seen) - 1)
        found = seen[place]
        same = (found["high"] == high) & (found["low"] == low)
        repeats |= same & ~((found["row"] == rows) & (found["number"] == pieces.numbers))
    return repeats


def resolve(spec: StepSpec, options: RepeatedTextOptions) -> StepSpec:
    """With the list at hand no other row is needed: a map step that counts what it takes out."""
    if not options.seen:
        return spec
    removed = (f"{spec.name}.removed",)
    return replace(spec, kind="map", needs=("row_id", "text"), gives=("text",), signals=removed, counters=removed)


def built(options: RepeatedTextOptions, name: str) -> Step:
    """The step with its options bound.

    Raises:
        ConfigError: the list cannot be read.
    """
    if not options.seen:
        return partial(hash_pieces, name=name, options=options)
    import numpy as np

    path = Path(options.seen)
    if not path.is_file() or path.stat().st_size % seen_type().itemsize:
        raise ConfigError(
            f"{name}.seen = {path.name!r}", expected="a list that a run has made", fix=f"leave {name}.seen empty"
        )
    # Mapped: what is looked at is in memory, not the list.
    seen = np.memmap(path, seen_type(), "r") if path.stat().st_size else np.zeros(0, seen_type())
    return partial(remove_repeats, name=name, options=options, seen=seen)


def spec_of(name: str, build: Callable[[Any], Step], summary: str) -> StepSpec:
    """The spec of a step of this kind."""
    return StepSpec(
        name=name,
        version=1,
        kind="global",
        options=RepeatedTextOptions,
        build=build,
        summary=summary,
        reasons=(f"{name}_left_short",),
        needs=("text",),
        gives=columns_of(name),
        resources=("seen",),
        resolve=resolve,
    )
