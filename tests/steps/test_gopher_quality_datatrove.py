"""gopher_quality@datatrove: each rule at its threshold and beyond, and datatrove's filter written out."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, find_step, options_from
from datapipe.steps.characters import PUNCTUATION_AND_CONTROLS
from datapipe.steps.english_words import split_chunk
from datapipe.steps.gopher_quality_datatrove import (
    REASONS,
    SIGNALS,
    STOP_WORDS,
    GopherQualityDatatroveOptions,
    gopher_reasons,
    gopher_signals,
)
from datapipe.steps.segmentation import Segmentation, segment
from tests.steps.one_text import column, reason_of, words

NAME = "gopher_quality@datatrove"
DEFAULTS = GopherQualityDatatroveOptions()


def reason(text, **options):
    return reason_of(NAME, text, options)


def test_datatroves_defaults():
    """The defaults are datatrove 0.10's, under its names."""
    assert dataclasses.asdict(DEFAULTS) == {
        "min_doc_words": 50,
        "max_doc_words": 100_000,
        "min_avg_word_length": 3.0,
        "max_avg_word_length": 10.0,
        "max_symbol_word_ratio": 0.1,
        "max_bullet_lines_ratio": 0.9,
        "max_ellipsis_lines_ratio": 0.3,
        "max_non_alpha_words_ratio": 0.8,
        "min_stop_words": 2,
        "stop_words": STOP_WORDS,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # words that are not punctuation: 49 | 50 … 100,000 | 100,001; a full stop is a word, but a symbol
        (words(49), "gopher_short_doc"),
        (words(49) + ".", "gopher_short_doc"),
        (words(50), None),
        (words(50) + ".", None),
        ("", "gopher_short_doc"),
        ("   \n ", "gopher_short_doc"),
        (words(100_000), None),
        (words(100_001), "gopher_long_doc"),
        (words(100_000) + ".", None),
        # mean length of those: 150 characters in 50 words, then 149
        (" ".join(["the", "of", "word"] + ["abc"] * 47), None),
        (" ".join(["the", "of"] + ["abc"] * 48), "gopher_below_avg_threshold"),
        (" ".join(["the", "of", "x" * 15] + ["x" * 10] * 46 + ["x" * 20]), None),
        (" ".join(["the", "of", "x" * 16] + ["x" * 10] * 46 + ["x" * 20]), "gopher_above_avg_threshold"),
        # "#" per word, and "#" is a word of its own: 10 in 100 words, then 11 in 101
        (words(90) + " #word" * 5 + " ##", None),
        (words(100, extra=["a#b#c"] * 5), None),
        (words(100, extra=["a#b#c"] * 5 + ["c#d"]), "gopher_too_many_hashes"),
        # ellipses: "..." and "…"; of four dots one is counted
        (words(100, extra=["a...b…c"] * 5), None),
        (words(70) + " word..." * 9, "gopher_too_many_ellipsis"),
        (words(70) + " word...." * 9, "gopher_too_many_ellipsis"),
        # bullet lines: 9 of 10, then 10 of 10
        ("\n".join(["- the of a word longer"] * 5 + ["  •with the of words too"] * 4 + [words(40)]), None),
        ("\n".join(["- the of a word longer"] * 5 + ["\t•with the of words too"] * 5), "gopher_too_many_bullets"),
        ("\n".join(["*x the of word word word word"] * 10), None),
        # lines that end in an ellipsis: 3 of 10, then 4 of 10
        ("\n".join(["the of " + "word " * 18 + "end…  "] * 2 + [words(20) + "..."] + [words(20)] * 7), None),
        ("\n".join([words(20) + "…"] * 4 + [words(20)] * 6), "gopher_too_many_end_ellipsis"),
        # words with a letter: 40 of 50, then 40 of 51 with the full stop
        (words(50, extra=["1234"] * 10), None),
        (words(50, extra=["1234"] * 10) + ".", "gopher_below_alpha_threshold"),
        # stop words: two different ones; punctuation is no part of a word, but case is
        ("the of " + "word " * 48, None),
        ("the, of. " + "word " * 48, None),
        ("the the " + "word " * 48, "gopher_enough_stop_words"),
        ("The of " + "word " * 48, "gopher_enough_stop_words"),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """Each rule at its threshold and one step beyond it, counted by hand."""
    assert reason(text) == expected


def test_first_broken_rule_is_the_reason():
    """A text that breaks several rules gets the first; switch it off, by 0 or null, and the next shows."""
    text = "# …\n" * 10
    switched_off: dict[str, object] = {}
    seen = []
    for name, off in (
        ("min_doc_words", 0),
        ("max_symbol_word_ratio", None),
        ("max_ellipsis_lines_ratio", 0),
        ("max_non_alpha_words_ratio", None),
        ("min_stop_words", None),
    ):
        seen.append(reason(text, **switched_off))
        switched_off[name] = off
    assert seen == [
        "gopher_short_doc",
        "gopher_too_many_hashes",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    ]
    assert [REASONS.index(each) for each in seen] == sorted(REASONS.index(each) for each in seen)
    assert reason(text, **switched_off) is None
    assert reason("", min_doc_words=0, min_stop_words=0) is None, "datatrove divides by zero here"


def test_signals_golden():
    """Every signal of one small text, counted by hand."""
    signals = gopher_signals(segment(column(["# The end of it...\n\n  - to be… \n• 3 -- #7\vwith 中文 x_1"])))
    assert {name.partition(".")[2]: value[0] for name, value in signals.to_pydict().items()} == {
        "words": 18,  # # The end of it ... | - to be … | • 3 -- # 7 | with 中文 x_1
        "solid_words": 12,  # not "#", "...", "-", "…", "--", "#"; "•" is no punctuation to datatrove
        "solid_chars": 26,
        "alpha_words": 9,
        "stop_words": 4,
        "hashes": 2,
        "ellipses": 2,
        "lines": 5,
        "bullet_lines": 2,
        "ellipsis_lines": 2,
    }


def plain(text, tokens, options):
    """Datatrove's filter, for one text."""
    solid = [w for w in tokens if any(c not in PUNCTUATION_AND_CONTROLS for c in w)]
    if len(solid) < options.min_doc_words:
        return "gopher_short_doc"
    mean = sum(map(len, solid)) / len(solid)
    if mean < options.min_avg_word_length:
        return "gopher_below_avg_threshold"
    if mean > options.max_avg_word_length:
        return "gopher_above_avg_threshold"
    if text.count("#") / len(tokens) > options.max_symbol_word_ratio:
        return "gopher_too_many_hashes"
    if (text.count("...") + text.count("…")) / len(tokens) > options.max_symbol_word_ratio:
        return "gopher_too_many_ellipsis"
    lines = text.splitlines()
    if sum(s.lstrip().startswith(("•", "-")) for s in lines) / len(lines) > options.max_bullet_lines_ratio:
        return "gopher_too_many_bullets"
    if sum(s.rstrip().endswith(("...", "…")) for s in lines) / len(lines) > options.max_ellipsis_lines_ratio:
        return "gopher_too_many_end_ellipsis"
    if sum(any(c.isalpha() for c in w) for w in tokens) / len(tokens) < options.max_non_alpha_words_ratio:
        return "gopher_below_alpha_threshold"
    if len(set(options.stop_words) & set(tokens)) < options.min_stop_words:
        return "gopher_enough_stop_words"
    return None


TEXTS = st.lists(
    st.lists(
        st.sampled_from(
            (
                *(*STOP_WORDS, "The", "with,", "#", "##a", "...", "…", "....", "•", "-", "12", "é", "中文", "word"),
                *("x" * 20, "\n", "\n\n", "\t", "\r\n", "\x0b", "\u2028", "\xa0", "- a", "• b", "end...\n", "end…  \n"),
            )
        ),
        max_size=25,
    ).map(" ".join),
    max_size=6,
)
OPTIONS = GopherQualityDatatroveOptions(min_doc_words=3, max_bullet_lines_ratio=0.3, max_ellipsis_lines_ratio=0.2)


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_is_the_plain_reading(texts):
    """Columnar marks equal the filter's for any texts, with native words and with the same words as lists."""
    split = [[word for chunk in text.split() for word in split_chunk(chunk)] for text in texts]
    expected = [plain(text, tokens, OPTIONS) for text, tokens in zip(texts, split, strict=True)]
    lists = pa.array(split, pa.large_list(pa.large_string()))
    for found in (segment(column(texts)), Segmentation.from_lists(column(texts), lists)):
        signals = gopher_signals(found)
        assert tuple(signals.column_names) == SIGNALS
        assert gopher_reasons(signals, OPTIONS).to_pylist() == expected


@given(TEXTS, st.integers(0, 30), st.floats(0, 1), st.integers(0, 4))
@settings(deadline=None)
def test_stored_signals_judge_alike(texts, min_words, ratio, stop_words):
    """Judging stored signals under other thresholds equals running the step with them."""
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": column(texts)})
    stored = bind(NAME)(table, Keys()).select(list(SIGNALS))
    options = {"min_doc_words": min_words, "max_symbol_word_ratio": ratio, "min_stop_words": stop_words}
    ran = bind(NAME, options)(table, Keys())
    marks = ran["drop_reason"].to_pylist() if "drop_reason" in ran.column_names else [None] * len(texts)
    assert find_step(NAME).judge(stored, options_from(find_step(NAME), options)).to_pylist() == marks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_doc_words": -1}, "min_doc_words = -1"),
        ({"min_doc_words": 10, "max_doc_words": 9}, "lies above max_doc_words"),
        ({"min_avg_word_length": 11.0}, "lies above max_avg_word_length"),
        ({"max_symbol_word_ratio": float("nan")}, "nan"),
        ({"min_words": 50}, "did you mean 'min_doc_words'"),
    ],
)
def test_bad_options(options, message):
    """Options of a wrong type, out of range or against each other say what is wrong."""
    with pytest.raises(ConfigError, match=message):
        options_from(find_step(NAME), options)
