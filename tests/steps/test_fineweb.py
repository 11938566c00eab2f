"""fineweb@datatrove: each rule at its threshold and beyond, and datatrove's filter written out."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, find_step, options_from
from datapipe.steps.characters import TERMINAL_PUNCTUATION
from datapipe.steps.english_words import split_chunk
from datapipe.steps.fineweb import SIGNALS, FineWebOptions, fineweb_reasons, fineweb_signals
from datapipe.steps.segmentation import Segmentation, segment
from tests.steps.one_text import column, reason_of

NAME = "fineweb@datatrove"


def reason(text, **options):
    return reason_of(NAME, text, options)


def line(i, end=""):
    return f"line number {i:04} has words enough to be long{end}"


def test_datatroves_defaults():
    """The defaults are datatrove 0.10's; no stop characters given are its 159."""
    assert dataclasses.asdict(FineWebOptions()) == {
        "line_punct_thr": 0.12,
        "line_punct_exclude_zero": False,
        "stop_chars": (),
        "short_line_thr": 0.67,
        "short_line_length": 30,
        "char_duplicates_ratio": 0.01,
        "new_line_ratio": 0.3,
    }
    assert len(TERMINAL_PUNCTUATION) == 159


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        (" \n\u3000\n", "empty"),
        (line(1, "."), None),
        # 3 of 25 lines end in a mark, then 2 of 25; a quotation mark is none, one of another script is
        ("\n".join([line(i, ".") for i in range(3)] + [line(i) for i in range(3, 25)]), None),
        ("\n".join([line(i, "。") for i in range(3)] + [line(i) for i in range(3, 25)]), None),
        ("\n".join([line(i, "?") for i in range(2)] + [line(i) for i in range(2, 25)]), "line_punct_ratio"),
        ("\n".join([line(i, '."') for i in range(25)]), "line_punct_ratio"),
        ("\n".join([line(i, ". ") for i in range(25)]), "line_punct_ratio"),
        # lines of at most 30 characters: 67 of 100, then 68; blank lines are none
        ("\n".join([f"{i:027} a." for i in range(67)] + [line(i, ".") for i in range(33)]), None),
        ("\n".join([f"{i:027} a." for i in range(68)] + [line(i, ".") for i in range(32)]), "short_line_ratio"),
        ("\n".join([f"{i:028} a." for i in range(68)] + [line(i, ".") for i in range(32)]), None),
        # repeated lines: 1 of 100 equal lines is .01 of the characters, and stays
        ("\n".join([line(i, ".") for i in range(99)] + [line(0, ".")]), None),
        ("\n".join([line(i, ".") for i in range(98)] + [line(0, ".")]), "char_dup_ratio"),
        # newlines per word: 3 in 10 words, then 4
        ("abcdefghi abcdefghi abcdefghi abcdefghi.\n\n\nabcdefghi abcdefghi abcdefghi abcdefghi end", None),
        ("abcdefghi abcdefghi abcdefghi abcdefghi.\n\n\n\nabcdefghi abcdefghi abcdefghi abcdefghi end", "list_ratio"),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """Each rule at its threshold and one step beyond it, counted by hand."""
    assert reason(text) == expected


def plain(text, words, options):
    """Datatrove's filter, for one text."""
    stops = options.stop_chars or tuple(TERMINAL_PUNCTUATION)
    lines = [each for each in text.split("\n") if each.strip() != ""]
    if not lines:
        return "empty"
    ratio = sum(each.endswith(stops) for each in lines) / len(lines)
    if ratio < options.line_punct_thr and not (ratio == 0 and options.line_punct_exclude_zero):
        return "line_punct_ratio"
    if sum(len(each) <= options.short_line_length for each in lines) / len(lines) > options.short_line_thr:
        return "short_line_ratio"
    seen, chars = set(), 0
    for each in lines:
        chars += len(each) if each in seen else 0
        seen.add(each)
    if chars / len(text.replace("\n", "")) > options.char_duplicates_ratio:
        return "char_dup_ratio"
    return "list_ratio" if text.count("\n") / len(words) > options.new_line_ratio else None


TEXTS = st.lists(
    st.lists(
        st.sampled_from(
            ["a", "word ", "end.", "ende。", "?", "\n", "\n\n", " \n", "\r", "\u2028", "é", "x" * 31, "end.\n"]
        ),
        max_size=25,
    ).map("".join),
    max_size=6,
)
VARIANTS = (
    FineWebOptions(),
    FineWebOptions(line_punct_exclude_zero=True, short_line_thr=0.9, char_duplicates_ratio=0.2),
    FineWebOptions(line_punct_thr=0.5, stop_chars=("a", "。"), short_line_length=3, new_line_ratio=1.0),
    FineWebOptions(line_punct_thr=0.0, short_line_thr=1.0, char_duplicates_ratio=1.0, new_line_ratio=0.0),
)


@given(TEXTS, st.sampled_from(VARIANTS))
@settings(deadline=None, max_examples=300)
def test_is_the_plain_reading(texts, options):
    """Columnar marks equal the filter's for any texts, with native words and with the same words as lists."""
    words = [[word for chunk in text.split() for word in split_chunk(chunk)] for text in texts]
    expected = [plain(text, each, options) for text, each in zip(texts, words, strict=True)]
    lists = pa.array(words, pa.large_list(pa.large_string()))
    for found in (segment(column(texts)), Segmentation.from_lists(column(texts), lists)):
        signals = fineweb_signals(found, options)
        assert tuple(signals.column_names) == SIGNALS
        assert fineweb_reasons(signals, options).to_pylist() == expected


@given(TEXTS, st.floats(0, 1), st.booleans(), st.floats(0, 1), st.floats(0, 2))
@settings(deadline=None)
def test_stored_signals_judge_alike(texts, punctuation, exclude, short, lists):
    """Judging stored signals under other thresholds equals running the step with them."""
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": column(texts)})
    stored = bind(NAME)(table, Keys()).select(list(SIGNALS))
    options = {
        "line_punct_thr": punctuation,
        "line_punct_exclude_zero": exclude,
        "short_line_thr": short,
        "char_duplicates_ratio": short / 2,
        "new_line_ratio": lists,
    }
    ran = bind(NAME, options)(table, Keys())
    marks = ran["drop_reason"].to_pylist() if "drop_reason" in ran.column_names else [None] * len(texts)
    assert find_step(NAME).judge(stored, options_from(find_step(NAME), options)).to_pylist() == marks


def test_bad_options():
    """A stop mark of two characters, a share below 0."""
    with pytest.raises(ConfigError, match="single characters"):
        options_from(find_step(NAME), {"stop_chars": ["..."]})
    with pytest.raises(ConfigError, match="short_line_thr"):
        options_from(find_step(NAME), {"short_line_thr": -1.0})
