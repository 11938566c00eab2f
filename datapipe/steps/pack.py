"""pack: documents of any length become rows of `seq_len` tokens.

What enters: `row_id`, `tokens: list<integer>`. What leaves, as new rows: `row_id` (of the first document in the row),
`tokens: fixed_size_list<uint16|int32>[seq_len]`, `segment_ids: fixed_size_list<uint16|int32>[seq_len]`,
`n_tokens: int32` (padding not counted) and `n_documents: int32`.

Segment ids count the documents of a row from 1; 0 is padding, and padding comes last. Invariant: without padding, the
rows hold every token that came in, once; a piece of a document keeps the order of its tokens, and with "concat" the
rows read one after the other are the documents one after the other.

Best fit: Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830, section 3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.columns import row_ids
from datapipe.steps.options import in_range
from datapipe.steps.pack_plan import Layout, plan_best_fit, plan_concat
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


_GATHER_TOKENS: Final = 1 << 20
"""Tokens that best fit moves at a time; some 40 bytes for each."""


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Options of pack.

    Attributes:
        seq_len: tokens in a row.
        mode: "concat" lays the documents end to end and cuts every `seq_len` tokens: no padding but in the last row,
            and a document may span rows. "best_fit" keeps a document whole if it fits a row and pads what is left;
            only a longer one is cut.
        pad_id: the token that fills a row; its segment id is 0.
        window: documents that best_fit arranges together; more of them waste less padding and mix the order more.
    """

    seq_len: int = 2048
    mode: Literal["concat", "best_fit"] = "concat"
    pad_id: int = 0
    window: int = 8192

    def __post_init__(self) -> None:
        in_range("pack.seq_len", self.seq_len, 1, 1 << 20)
        in_range("pack.pad_id", self.pad_id, 0, (1 << 31) - 1)
        in_range("pack.window", self.window, 1)


def pack(table: pa.Table, keys: Keys, *, options: PackOptions) -> pa.Table:
    """Documents → rows.

    Args:
        table: `row_id: string`, `tokens`: a list of uint16, or of other integers from 0 to 2^31 - 1. Other columns
            are left out.
        keys: not used.
        options: see PackOptions.

    Returns:
        The rows; none for documents without tokens. Token type: uint16 if it came so (and `pad_id` fits), else int32.

    Raises:
        ConfigError: there are no tokens, or `pad_id` or a token does not fit the type.
    """
    del keys
    import numpy as np
    import pyarrow as pa

    values, lengths = _flat_tokens(table)
    dtype = np.uint16 if values.dtype == np.uint16 else np.int32
    if options.pad_id > np.iinfo(dtype).max:
        raise ConfigError(
            f"pack.pad_id = {options.pad_id} with tokens of {np.dtype(dtype)}",
            expected=f"at most {np.iinfo(dtype).max}",
            fix="set pack.pad_id to an id of the vocabulary",
        )
    if options.mode == "concat":
        layout = plan_concat(lengths, options.seq_len)
    else:
        layout = plan_best_fit(lengths, options.seq_len, options.window)
    tokens, segments = _fill(values.astype(dtype, copy=False), layout, options)
    ids = row_ids(table).take(pa.array(layout.first_document))
    return pa.table(
        {
            "row_id": ids,
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens), options.seq_len),
            "segment_ids": pa.FixedSizeListArray.from_arrays(pa.array(segments), options.seq_len),
            "n_tokens": pa.array(layout.row_tokens, pa.int32()),
            "n_documents": pa.array(layout.row_documents, pa.int32()),
        }
    )


def _flat_tokens(table: pa.Table) -> tuple[Any, Any]:
    """(tokens of all documents end to end, length of each: int64[n]); nulls are documents without tokens."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    fix = "put the step tokenize before pack"
    if "tokens" not in table.column_names:
        raise ConfigError(
            f"there is no column 'tokens'; the table has {', '.join(table.column_names)}",
            expected="a column tokens: list<integer>",
            fix=fix,
        )
    column = table.column("tokens")
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
        raise ConfigError(f"column 'tokens' has type {kind}", expected="a list of integers", fix=fix)
    values = pc.list_flatten(column)
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if values.null_count:
        raise ConfigError(f"{values.null_count} tokens are null", expected="integers", fix=fix)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    flat = values.to_numpy()
    if flat.dtype != np.uint16 and len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= 1 << 31):
        raise ConfigError(f"tokens from {flat.min()} to {flat.max()}", expected="0 to 2^31 - 1", fix=fix)
    return flat, lengths


def _fill(values: Any, layout: Layout, options: PackOptions) -> tuple[Any, Any]:
    """Tokens and segment ids of all rows end to end, as numpy arrays of rows * seq_len."""
    import numpy as np

    # A row of T tokens has at most T documents.
    segment_type = np.uint16 if options.seq_len < 1 << 16 else np.int32
    size = len(layout.row_tokens) * options.seq_len
    tokens = np.full(size, options.pad_id, values.dtype)
    segments = np.zeros(size, segment_type)
    segment = layout.segment.astype(segment_type)
    if layout.contiguous:
        tokens[: len(values)] = values
        segments[: len(values)] = np.repeat(segment, layout.length)
        return tokens, segments
    # Piece p copies values[source : source + length] to [target : target + length]: one gather for many of them. For
    # all of them at once the places alone, of 8 bytes, would take many times what the tokens take.
    parts = np.searchsorted(np.cumsum(layout.length), np.arange(0, layout.length.sum(), _GATHER_TOKENS))
    for first, last in itertools.pairwise([*np.unique(parts).tolist(), len(layout.length)]):
        length = layout.length[first:last]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        target = np.repeat(layout.target[first:last], length) + within
        tokens[target] = values[np.repeat(layout.source[first:last], length) + within]
        segments[target] = np.repeat(segment[first:last], length)
    return tokens, segments


def packed_counts(documents: pa.Table, rows: pa.Table) -> dict[str, int]:
    """What packing cost, for the report.

    Args:
        documents: what `pack` was given.
        rows: what it gave.

    Returns:
        "pack.padding_tokens" and "pack.row_tokens" (seq_len of every row): the first by the second is the waste;
        "pack.long_documents": documents of more than seq_len tokens, which no row can hold whole; "pack.cuts": how
        often a document goes on in another row.
    """
    import numpy as np

    seq_len = rows.schema.field("tokens").type.list_size
    _, lengths = _flat_tokens(documents)
    whole = rows.num_rows * seq_len
    parts = int(rows["n_documents"].to_numpy().sum(dtype=np.int64))
    return {
        "pack.cuts": parts - int((lengths > 0).sum()),
        "pack.long_documents": int((lengths > seq_len).sum()),
        "pack.padding_tokens": whole - int(rows["n_tokens"].to_numpy().sum(dtype=np.int64)),
        "pack.row_tokens": whole,
    }


def build(options: PackOptions) -> Step:
    """The step with its options bound."""
    return partial(pack, options=options)


SPEC: Final = StepSpec(
    name="pack",
    version=1,
    kind="reshape",
    options=PackOptions,
    build=build,
    summary="documents → rows of seq_len tokens with segment ids",
    needs=("row_id", "tokens"),
    gives=("row_id", "tokens", "segment_ids", "n_tokens", "n_documents"),
)
