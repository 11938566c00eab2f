"""exact_duplicates: the row-by-row half, a hash of each text; which of the equal ones survives is for the whole corpus.

What enters: `text`, or the columns of a table. What leaves: the same and `content_hash: fixed_size_binary[16]`.
Invariant: two texts have the same hash if they are equal after `normalise`, and for all practical purposes only then
(xxh3_128: a corpus of 10^10 documents meets one collision with probability 10^-19). Two records have the same hash if
the columns named are equal, each as text (bytes as bytes); null is equal to null, and to nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.columns import column, set_column, text_of, to_arrow, to_polars
from datapipe.steps.step import ROW_ID, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

DUPLICATE: Final = "duplicate"
CONTENT_HASH: Final = "content_hash"


@dataclass(frozen=True, kw_only=True)
class ExactDuplicatesOptions:
    """Options of exact_duplicates.

    Attributes:
        columns: which columns are compared; ("*",): all but the row's id. (): the text.
        normalise: what counts as equal. "none": the same characters. "whitespace": the same but for the amount and kind
            of white space. "casefold": the same but for that and for case (Unicode case folding).
    """

    columns: tuple[str, ...] = ()
    normalise: Literal["none", "whitespace", "casefold"] = "none"

    def __post_init__(self) -> None:
        if "*" in self.columns and len(self.columns) > 1:
            raise ConfigError(
                f"exact_duplicates.columns = {list(self.columns)}", expected='names, or "*" alone', fix="remove one"
            )


def exact_duplicates(table: pa.Table, keys: Keys, *, options: ExactDuplicatesOptions) -> pa.Table:
    """Hash each text.

    Args:
        table: `text: string`, or the columns that the options name.
        keys: not used.
        options: see ExactDuplicatesOptions.

    Returns:
        The table with `content_hash: fixed_size_binary[16]`. No row is marked: the reason "duplicate" is given by
        whoever sees all hashes.
    """
    del keys
    if options.columns:
        return set_column(table, CONTENT_HASH, hash_records(table, options.columns, options.normalise))
    return set_column(table, CONTENT_HASH, hash_texts(text_of(table), options.normalise))


def hash_records(
    table: pa.Table, columns: tuple[str, ...], normalise: Literal["none", "whitespace", "casefold"] = "none"
) -> pa.Array:
    """xxh3_128 of the hashes of each row's values, each as text: fixed_size_binary[16].

    Raises:
        ConfigError: a column is not there, or has a type that does not cast to text.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from xxhash import xxh3_128_digest

    if columns == ("*",):
        columns = tuple(sorted(name for name in table.column_names if name != ROW_ID and not name.startswith("__")))
    n = table.num_rows
    # Of each value 17 bytes: whether it is there, and its hash. So no two rows of values have the same bytes.
    cells = np.zeros((n, len(columns), 17), np.uint8)
    for place, name in enumerate(columns):
        values = table.column(name) if name in table.column_names else None
        if values is not None and pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        source = table if values is None else pa.table({name: values})
        # Bytes (pictures, sounds) are no text, and are compared as they are.
        kind = pa.large_binary() if values is not None and _is_bytes(values.type) else pa.large_string()
        text = column(source, name, kind)
        there = text.is_valid().to_numpy()
        hashes = hash_texts(pc.fill_null(text, pa.scalar(b"" if _is_bytes(kind) else "", kind)), normalise)
        cells[:, place, 0] = there
        cells[:, place, 1:] = np.frombuffer(hashes.buffers()[1], np.uint8).reshape(n, 16) * there[:, None]
    size = 17 * len(columns)
    view = memoryview(cells.tobytes())
    digests = b"".join(xxh3_128_digest(view[row * size : (row + 1) * size]) for row in range(n))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(digests)])


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind))


def hash_texts(
    text: pa.ChunkedArray, normalise: Literal["none", "whitespace", "casefold"] = "none"
) -> pa.Array:  # fmt: skip
    """xxh3_128 of each text's UTF-8, normalised (bytes: as they are): fixed_size_binary[16], big-endian digests."""
    import numpy as np
    import pyarrow as pa
    from xxhash import xxh3_128_digest

    if _is_bytes(text.type):
        normalise = "none"
    if normalise != "none":
        series = to_polars(text).str.replace_all(r"\s+", " ").str.strip_chars()
        text = pa.chunked_array([to_arrow(series).cast(pa.large_string())])
    if normalise == "casefold":
        folded = [value.casefold() for value in text.to_pylist()]
        text = pa.chunked_array([pa.array(folded, pa.large_string())])
    digests = bytearray()
    for chunk in text.chunks:
        # The bytes are hashed where they lie in Arrow's buffers: no Python string is made.
        _, offsets_buffer, data = chunk.buffers()
        if not len(chunk):
            continue
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        view = memoryview(data if data is not None else b"")
        start = offsets[0]
        for end in offsets[1:]:
            digests += xxh3_128_digest(view[start:end])
            start = end
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(text), [None, pa.py_buffer(bytes(digests))]
    )  # fmt: skip


def resolve(spec: StepSpec, options: ExactDuplicatesOptions) -> StepSpec:
    """With columns named, they are needed and not the text."""
    if not options.columns:
        return spec
    return replace(spec, needs=() if options.columns == ("*",) else options.columns)


def build(options: ExactDuplicatesOptions) -> Step:
    """The step with its options bound."""
    return partial(exact_duplicates, options=options)


SPEC: Final = StepSpec(
    name="exact_duplicates",
    version=1,
    kind="global",
    options=ExactDuplicatesOptions,
    build=build,
    summary="a 128-bit hash of each text; of equal texts one is kept",
    reasons=(DUPLICATE,),
    needs=("text",),
    gives=(CONTENT_HASH,),
    resolve=resolve,
)
