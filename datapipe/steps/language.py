"""language: which language a text is written in, how sure that is, and whether it is one that is wanted.

`text` enters unchanged and leaves with a column `language` (an ISO 639 code) and the signal "language.score". Rows that
are not sure enough, or of a language that is not kept, are marked. Invariant: the marks are a function of the language,
its score and the thresholds alone, so that stored ones can be judged again.

The classifier is py3langid (BSD; naive Bayes over byte n-grams, 140 languages; after langid.py, Lui and Baldwin 2012,
ACL system demonstrations); its model lies in its wheel, nothing is downloaded. It is shown at most `max_chars`
characters of a text: half of them from its beginning, half from its end. Beginnings alone are often headings, dates and
names in another language. A text without a letter is of no language: "und", score 0. What other classifiers and other
samples of the text would give is in benchmarks/LOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.columns import mark, set_column, text_of, to_arrow, to_polars
from datapipe.steps.options import in_range, nearest
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

LANGUAGE: Final = "language"
SCORE: Final = "language.score"
UNSURE: Final = "language_unsure"
NOT_KEPT: Final = "language_not_kept"
UNDETERMINED: Final = "und"

_CODES: Final = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr "
    "fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko "
    "ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru "
    "rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo "
    "yue zh zu zxx"
)
LANGUAGES: Final = frozenset(_CODES.split())
"""What the model tells apart: ISO 639-1 codes, 639-3 where there is none; "zxx" is no language (code, numbers)."""


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """Options of language.

    Attributes:
        keep: codes of the languages that stay; none: all stay.
        min_score: rows with a lower score are dropped as "language_unsure". The score is the model's probability of the
            language, between 0 and 1, calibrated by the length of what it saw; 0 keeps all.
        max_chars: characters of a text that are looked at.
    """

    keep: tuple[str, ...] = ()
    min_score: float = 0.0
    max_chars: int = 1000

    def __post_init__(self) -> None:
        in_range("language.min_score", self.min_score, 0, 1)
        in_range("language.max_chars", self.max_chars, 16)
        for code in self.keep:
            if code not in LANGUAGES:
                raise ConfigError(
                    f"language.keep holds {code!r}",
                    expected="codes as en, de, zh (ISO 639-1)",
                    fix=nearest(code, LANGUAGES) or f"one of {', '.join(sorted(LANGUAGES))}",
                )


def language(table: pa.Table, keys: Keys, *, options: LanguageOptions) -> pa.Table:
    """Classify, and mark what is not wanted.

    Args:
        table: `text: string`.
        keys: not used.
        options: see LanguageOptions.

    Returns:
        The table with `language: string` (a column of that name is replaced) and the signal "language.score"
        (float64, four decimals); marked drop are "language_unsure" and, of the others, "language_not_kept".
    """
    del keys
    import pyarrow as pa

    seen = _seen(to_polars(text_of(table)), options.max_chars)
    codes, scores = classified(seen.to_list())
    table = set_column(table, LANGUAGE, pa.array(codes, pa.string()))
    table = set_column(table, SCORE, pa.array(scores, pa.float64()))
    return mark(table, judge(table, options))


def _seen(text: pl.Series, max_chars: int) -> pl.Series:
    """The part of each text that is looked at; null where that part has no letter."""
    import polars as pl

    half = max_chars // 2
    column = pl.col("text")
    # A text of few bytes has few characters; only the others need their ends.
    part = (
        pl.when(column.str.len_bytes() <= max_chars)
        .then(column)
        .otherwise(
            pl.when(column.str.len_chars() <= max_chars)
            .then(column)
            .otherwise(column.str.head(half) + " " + column.str.tail(half))
        )
    )
    part = pl.when(part.str.contains(r"\p{L}")).then(part)
    return text.alias("text").to_frame().select(part).to_series()


def classified(texts: list[str | None]) -> tuple[list[str], list[float]]:
    """Language and score of each text, "und" and 0 of null."""
    classify = _identifier().classify
    found = [(UNDETERMINED, 0.0) if text is None else classify(text) for text in texts]
    # Four decimals: the last bits of a float32 product depend on the processor.
    return [code for code, _ in found], [round(score, 4) for _, score in found]


@cache
def _identifier() -> Any:
    """The classifier, once per process; it holds no state between texts."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def judge(signals: pa.Table, options: LanguageOptions) -> pa.Array:
    """What the step marks, from stored languages and scores: string[n], null where a row stays."""
    import polars as pl
    import pyarrow as pa

    frame = pl.from_arrow(signals.select([LANGUAGE, SCORE]))
    assert isinstance(frame, pl.DataFrame)
    unsure = pl.col(SCORE) < options.min_score
    unkept = ~pl.col(LANGUAGE).is_in(list(options.keep)) if options.keep else pl.lit(False)
    reason = pl.when(unsure).then(pl.lit(UNSURE)).when(unkept).then(pl.lit(NOT_KEPT))
    return to_arrow(frame.select(reason.alias("reason")).to_series()).cast(pa.string())


def build(options: LanguageOptions) -> Step:
    """The step with its options bound."""
    return partial(language, options=options)


SPEC: Final = StepSpec(
    name="language",
    version=1,
    kind="map",
    options=LanguageOptions,
    build=build,
    summary="language of a text and how sure it is (py3langid); keep-list and threshold",
    reasons=(UNSURE, NOT_KEPT),
    needs=("text",),
    gives=(LANGUAGE,),
    signals=(SCORE,),
    judge=judge,
    measured_by=("max_chars",),
)
