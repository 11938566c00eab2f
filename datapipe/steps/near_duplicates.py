"""near_duplicates: the row-by-row half, MinHash bands and the set of shingles; who is near whom is for the corpus.

What enters: `text`. What leaves: the same, with the bands, the shingles, their number and the score of each document.
Invariant: all of them are functions of the text and the options alone, comparable with those of any other run of the
same `RULE`.

Words are lower-cased runs of letters, marks, digits and "_" after NFC; in scripts without spaces each character is a
word (`word_hashes`). Documents of fewer than five words are near duplicates only of documents of the same words, and a
document without words of none (`shingles`). Defaults after datatrove 0.10 (`pipeline/dedup/minhash.py`: word 5-grams,
14 bands of 8 rows), of which a pair of similarity 0.8 shares a band with a chance of 0.924; datatrove trusts bands,
here a pair is linked only if its Jaccard similarity is at least `threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps import min_hash, shingles, word_hashes
from datapipe.steps.columns import column, set_column, text_of
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

NEAR_DUPLICATE: Final = "near_duplicate"
BANDS: Final = "near_bands"
SHINGLES: Final = "near_shingles"
SIZE: Final = "near_size"
SCORE: Final = "near_score"
RULE: Final = f"{word_hashes.RULE}; {shingles.RULE}; {min_hash.RULE}"
"""What bands and sets must share to be compared. It changes whenever the same text may give others."""
HIGHEST: Final = "highest:"


@dataclass(frozen=True, kw_only=True)
class NearDuplicatesOptions:
    """Options of near_duplicates.

    Attributes:
        words: how many consecutive words a shingle has.
        bands, rows: of the signature; the chance that a pair of Jaccard similarity J is compared is 1-(1-J^rows)^bands.
        threshold: two documents are near duplicates if the Jaccard similarity of their shingles is at least this.
        verify: compare the shingles of each pair that shares a band. False: sharing a band is enough, which removes
            documents of similarity 0.5 too.
        sketch: of a document with more shingles, only so many with the least hashes are kept, 4 bytes each: the
            similarity of two documents is exact up to that size, beyond it an estimate with a standard error of
            sqrt(J(1-J)/sketch), 0.009 at J = 0.8 and 2,048.
        survivor: which of a cluster stays. "longest": the one with the most characters. "first": by its place in the
            input. "highest:COLUMN": the one with the greatest number in that column. Ties go to the first.
    """

    words: int = 5
    bands: int = 14
    rows: int = 8
    threshold: float = 0.8
    verify: bool = True
    sketch: int = 2048
    survivor: str = "longest"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("words", 1, 64), ("bands", 1, 256), ("rows", 1, 64), ("threshold", 0, 1), ("sketch", 64, 1 << 24)
        ):  # fmt: skip
            in_range(f"near_duplicates.{name}", getattr(self, name), low, high)
        if self.survivor not in ("longest", "first") and not self.column:
            raise ConfigError(
                f"near_duplicates.survivor = {self.survivor!r}",
                expected='"longest", "first" or "highest:COLUMN"',
                fix="write the column's name after highest:",
            )

    @property
    def column(self) -> str:
        """The column that `survivor` goes by; "" where it goes by none."""
        return self.survivor.removeprefix(HIGHEST) if self.survivor.startswith(HIGHEST) else ""


def near_duplicates(table: pa.Table, keys: Keys, *, options: NearDuplicatesOptions) -> pa.Table:
    """Sign each text.

    Args:
        table: `text: string`, and the column that `options.survivor` names.
        keys: not used.
        options: see NearDuplicatesOptions.

    Returns:
        The table with `near_bands: fixed_size_binary[8 * bands]` (uint64 hashes, little-endian), `near_shingles:
        list<uint32>` (ascending, at most `sketch`), `near_size: uint32` (how many there were) and `near_score: double`.
        No row is marked.

    Raises:
        ConfigError: the survivor's column is not there or holds no numbers.
    """
    import numpy as np
    import pyarrow as pa

    del keys
    text = text_of(table)
    hashes, offsets = shingles.shingle_sets(text, options.words)
    bands = min_hash.bands_of(hashes, offsets, options.bands, options.rows)
    sizes = np.diff(offsets)
    kept = np.minimum(sizes, options.sketch)
    if (kept < sizes).any():
        inside = np.arange(len(hashes)) - np.repeat(offsets[:-1], sizes) < np.repeat(kept, sizes)
        hashes = hashes[inside]
    ends = np.zeros(len(kept) + 1, np.int32)
    np.cumsum(kept, out=ends[1:])
    width = pa.binary(8 * options.bands)
    packed = pa.py_buffer(np.ascontiguousarray(bands.astype("<u8")))
    made: dict[str, Any] = {
        BANDS: pa.FixedSizeBinaryArray.from_buffers(width, len(sizes), [None, packed]),
        SHINGLES: pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(hashes, pa.uint32())),
        SIZE: pa.array(np.minimum(sizes, 0xFFFFFFFF).astype(np.uint32)),
        SCORE: pa.array(_scores(table, text, options), pa.float64()),
    }
    for name, values in made.items():
        table = set_column(table, name, values)
    return table


def _scores(table: pa.Table, text: pa.ChunkedArray, options: NearDuplicatesOptions) -> Any:
    """What the survivor is chosen by, the greatest stays; a null or NaN in the user's column is below any number."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if options.column:
        values = column(table, options.column, pa.float64()).to_numpy().astype(np.float64)
        return np.where(np.isnan(values), -np.inf, values)
    if options.survivor == "longest":
        return pc.utf8_length(text).to_numpy().astype(np.float64)
    return np.zeros(table.num_rows)


def resolve(spec: StepSpec, options: NearDuplicatesOptions) -> StepSpec:
    """The spec with the column that the survivor is chosen by."""
    return replace(spec, needs=(*spec.needs, options.column)) if options.column else spec


def build(options: NearDuplicatesOptions) -> Step:
    """The step with its options bound."""
    return partial(near_duplicates, options=options)


SPEC: Final = StepSpec(
    name="near_duplicates",
    version=1,
    kind="global",
    options=NearDuplicatesOptions,
    build=build,
    summary="MinHash over word 5-grams, candidates verified; of near duplicates one is kept",
    reasons=(NEAR_DUPLICATE,),
    needs=("text",),
    gives=(BANDS, SHINGLES, SIZE, SCORE),
    resolve=resolve,
)
