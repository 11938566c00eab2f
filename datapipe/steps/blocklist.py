"""blocklist: rows that hold words or phrases of the user's lists.

What enters: `text`. What leaves: the same, rows with too many occurrences marked. Invariant: an occurrence counts where
it stands, of every entry, also where entries overlap; with `whole_words`, only between characters that are no letters,
digits or "_".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.steps.columns import mark, set_column, text_of
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec
from datapipe.steps.word_list import read_list

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

BLOCKED: Final = "blocked_words"
HITS: Final = "blocklist.hits"
WORDS: Final = "blocklist.words"


@dataclass(frozen=True, kw_only=True)
class BlocklistOptions:
    """Options of blocklist.

    Attributes:
        files: text files with one word or phrase a line; lines that begin with "# " are comments.
        ignore_case: compare lower-cased.
        whole_words: an entry must not be part of a longer word. Switch it off for scripts without spaces.
        max_hits: occurrences up to which a row stays.
        max_ratio: occurrences for each word (split on white space) up to which a row with more than `max_hits` stays
            all the same; 0: however long the text.
    """

    files: tuple[str, ...] = ()
    ignore_case: bool = True
    whole_words: bool = True
    max_hits: int = 0
    max_ratio: float = 0.0

    def __post_init__(self) -> None:
        in_range("blocklist.max_hits", self.max_hits, 0)
        in_range("blocklist.max_ratio", self.max_ratio, 0, 1)


def judge(signals: pa.Table, options: BlocklistOptions) -> pa.Array:
    """BLOCKED where a row has too many occurrences: string[n]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hits = pc.cast(signals.column(HITS), pa.float64())
    words = pc.cast(signals.column(WORDS), pa.float64())
    ratio = pc.divide(hits, pc.max_element_wise(words, 1.0))
    blocked = pc.and_(pc.greater(hits, options.max_hits), pc.greater(ratio, options.max_ratio))
    reasons = pc.if_else(blocked, pa.scalar(BLOCKED), pa.scalar(None, pa.string()))
    return reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons


@final
class Blocklist:
    """The step: it holds the automaton over the entries, built at the first table; a pickle of it holds the paths."""

    def __init__(self, options: BlocklistOptions) -> None:
        self.options = options
        self._built: tuple[Any, list[str]] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (Blocklist, (self.options,))

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Count and mark.

        Args:
            table: `text: string`.
            keys: not used.

        Returns:
            The table with the signals `blocklist.hits`, `blocklist.words: int64`; rows beyond the limits are marked
            "blocked_words", with the first entry found as detail.

        Raises:
            ConfigError: a file cannot be read, or holds no entry.
        """
        del keys
        import pyarrow as pa

        automaton, entries = self._automaton()
        texts = text_of(table).to_pylist()
        hits = [0] * len(texts)
        first: list[str | None] = [None] * len(texts)
        for row, text in enumerate(texts):
            if automaton is None:
                break
            where = text.lower() if self.options.ignore_case else text
            for entry, start, end in automaton.find_matches_as_indexes(where, overlapping=True):
                if self.options.whole_words and not _alone(where, start, end):
                    continue
                hits[row] += 1
                first[row] = first[row] or entries[entry]
        signals = pa.table(
            {HITS: pa.array(hits, pa.int64()), WORDS: pa.array([len(text.split()) for text in texts], pa.int64())}
        )
        reasons = judge(signals, self.options)
        for name in (HITS, WORDS):
            table = set_column(table, name, signals.column(name))
        if reasons.null_count < len(reasons):
            table = set_column(table, DETAIL, pa.array(first, pa.string()))
        return mark(table, reasons)

    def _automaton(self) -> tuple[Any, list[str]]:
        if self._built is None:
            entries = read_list(self.options.files, "blocklist.files")
            if self.options.ignore_case:
                entries = list(dict.fromkeys(entry.lower() for entry in entries))
            automaton = None
            if entries:
                import ahocorasick_rs

                automaton = ahocorasick_rs.AhoCorasick(entries)
            self._built = (automaton, entries)
        return self._built


def _alone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is no part of a longer word."""
    before = start == 0 or not _in_word(text[start - 1]) or not _in_word(text[start])
    return before and (end == len(text) or not _in_word(text[end]) or not _in_word(text[end - 1]))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def build(options: BlocklistOptions) -> Step:
    """The step with its options bound."""
    return Blocklist(options)


SPEC: Final = StepSpec(
    name="blocklist",
    version=1,
    kind="map",
    options=BlocklistOptions,
    build=build,
    summary="rows that hold words or phrases of your lists",
    reasons=(BLOCKED,),
    needs=("text",),
    signals=(HITS, WORDS),
    counters=(HITS,),
    judge=judge,
    measured_by=("files", "ignore_case", "whole_words"),
    resources=("files",),
)
