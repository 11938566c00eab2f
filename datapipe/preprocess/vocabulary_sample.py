"""Raw inputs → a seeded sample of texts, part of it held out, to choose the size of a vocabulary by.

What enters: inputs as preprocess takes them. What leaves: texts to train on and to measure on. Each row has a key,
a hash of the seed and its id; the sample is the rows of the smallest keys, as many as hold the bytes asked for.
Invariant: the sample is a function of the rows, the seed and the bytes; neither splits nor the order of reading enter.
Memory is bounded by the bytes asked for and a batch. No held-out text is among those to train on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CorpusError
from datapipe.steps.options import in_range

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

STEPS: Final = ("decode", "html_to_text", "unicode")
"""What every text recipe begins with: rows become clean text."""
_LOW: Final = 16
"""Low bits of a key say who is held out, so that it is independent of the high bits, which say who is sampled."""


@final
@dataclass(frozen=True, kw_only=True)
class VocabularySample:
    """Texts: to train on, and held out; `documents` of the corpus were read, `unreadable` rows were not."""

    texts: list[str] = field(repr=False)
    held_out: list[str] = field(repr=False)
    documents: int
    unreadable: int


def draw_sample(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sample_bytes: int = 64 << 20,
    held_out: float = 0.1,
    seed: int = 0,
    text_column: str = "text",
    storage_options: Mapping[str, Any] | None = None,
) -> VocabularySample:
    """Read the inputs and keep a sample.

    Args:
        inputs: files, folders, patterns or URLs.
        sample_bytes: UTF-8 bytes of text in the sample, about, held-out texts included; 0 for all.
        held_out: share of the sample's documents that is held out, over 0 and under 1.
        seed: of the sample.
        text_column: the field that holds the document, in formats that have fields.
        storage_options: for URLs.

    Raises:
        ConfigError: an argument out of range.
        CorpusError: an input is not there, or there are fewer than two different documents with text.
    """
    in_range("sample_bytes", sample_bytes, 0)
    in_range("held_out", held_out, 0.001, 0.999)
    # (minus the key, row id, text): the largest key is the first to go.
    kept: list[tuple[int, str, str]] = []
    held = 0
    counts = {"documents": 0, "unreadable": 0}
    why: list[str] = []
    for table in _tables(inputs, text_column, storage_options, counts, why):
        for key, row_id, text in _cleaned(table, seed, -kept[0][0] if sample_bytes and held >= sample_bytes else None):
            heapq.heappush(kept, (-key, row_id, text))
            held += len(text.encode())
            while sample_bytes and held - len(kept[0][2].encode()) >= sample_bytes:
                held -= len(heapq.heappop(kept)[2].encode())
    rows = sorted(((-negative, row_id, text) for negative, row_id, text in kept), reverse=True)
    line = round(held_out * (1 << _LOW))
    apart = {text for key, _, text in rows if key & ((1 << _LOW) - 1) < line}
    texts = [text for _, _, text in rows if text not in apart]
    if not apart and len(texts) > 1:
        # Few documents: one is held out all the same.
        apart = {texts[0]}
        texts = [text for text in texts if text not in apart]
    if not texts or not apart:
        rows_not_read = "1 row" if counts["unreadable"] == 1 else f"{counts['unreadable']:,} rows"
        unread = f"; {rows_not_read} could not be read ({why[0]})" if why else ""
        n = len({*texts, *apart})
        raise CorpusError(
            ("1 document with text" if n == 1 else f"{n} documents with different text") + unread,
            expected="at least two, one to train on and one to measure on",
            fix="name the field that holds the text: --text-column NAME"
            if why and not counts["documents"]
            else "give more inputs, or hold out another share",
        )
    return VocabularySample(texts=texts, held_out=sorted(apart), **counts)


def _tables(
    inputs: Any, text_column: str, storage_options: Mapping[str, Any] | None, counts: dict[str, int], why: list[str]
) -> Iterator[pa.Table]:
    """Rows as they are read, and their numbers; `why` is given the reason of the first that could not be read."""
    from datapipe.corpus import ReadOptions, discover, plan_splits, read_piece

    found = discover(inputs, storage_options=storage_options)
    options = ReadOptions(text_column=text_column)
    for split in plan_splits(found.files, storage_options=storage_options):
        for piece in split.pieces:
            for batch in read_piece(piece, options=options, storage_options=storage_options):
                counts["documents"] += batch.table.num_rows
                counts["unreadable"] += len(batch.quarantined)
                if batch.quarantined and not why:
                    first = batch.quarantined[0]
                    why.append(f"{first.row_id}: {first.reason}" + (f", {first.detail}" if first.detail else ""))
                if batch.table.num_rows:
                    yield batch.table


def _cleaned(table: pa.Table, seed: int, below: int | None) -> Iterator[tuple[int, str, str]]:
    """(key, row id, text) of the rows that have text; only those of a key up to `below` are cleaned."""
    import numpy as np
    import pyarrow as pa

    from datapipe.steps import Keys, bind, run_steps
    from datapipe.steps.vocabulary import sample_keys

    keys = Keys(seed=seed)
    if below is not None:
        drawn = sample_keys(table["row_id"].to_pylist(), keys)
        table = table.filter(pa.array(drawn <= np.uint64(below)))
    clean = run_steps(table, [bind(name) for name in STEPS], keys).table
    ids = clean["row_id"].to_pylist()
    for key, row_id, text in zip(sample_keys(ids, keys).tolist(), ids, clean["text"].to_pylist(), strict=True):
        if text:
            yield key, row_id, text
