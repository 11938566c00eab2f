"""gopher_repetition@datatrove: golden texts for each rule, and datatrove's filter written out."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, find_step, options_from
from datapipe.steps.english_words import split_chunk
from datapipe.steps.gopher_repetition import (
    REASONS,
    SIGNALS,
    GopherRepetitionOptions,
    repetition_reasons,
    repetition_signals,
)
from datapipe.steps.segmentation import Segmentation, segment
from tests.steps.one_text import column, reason_of

NAME = "gopher_repetition@datatrove"


def reason(text, **options):
    return reason_of(NAME, text, options)


def different(n, start=0):
    """Make n words that are all different, of six letters."""
    return " ".join(f"w{i:05}" for i in range(start, start + n))


def test_datatroves_defaults():
    """The defaults are table A1 of the Gopher paper."""
    assert dataclasses.asdict(GopherRepetitionOptions()) == {
        "dup_line_frac": 0.3,
        "dup_para_frac": 0.3,
        "dup_line_char_frac": 0.2,
        "dup_para_char_frac": 0.2,
        "top_2_gram": 0.2,
        "top_3_gram": 0.18,
        "top_4_gram": 0.16,
        "dup_5_gram": 0.15,
        "dup_6_gram": 0.14,
        "dup_7_gram": 0.13,
        "dup_8_gram": 0.12,
        "dup_9_gram": 0.11,
        "dup_10_gram": 0.10,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("\n\n", "dup_line_frac"),  # two empty lines beside the newlines, one of them a repetition
        (different(300), None),
        # 3 of 10 paragraphs are repeated, then 4 of 11
        ("\n\n".join([*(different(9, i * 9) for i in range(7)), *["x"] * 4]), None),
        ("\n\n".join([*(different(9, i * 9) for i in range(6)), *["x"] * 5]), "dup_para_frac"),
        ("\n\n".join([different(20), different(30, 50), different(30, 50), different(60, 100)]), "dup_para_char_frac"),
        # the same with single newlines: lines, not paragraphs
        ("\n".join([*(different(9, i * 9) for i in range(6)), *["x"] * 5]), "dup_line_frac"),
        ("\n".join([different(20), different(30, 50), different(30, 50), different(60, 100)]), "dup_line_char_frac"),
        # the pair "ab cd" (5 characters) 10 times in 250 characters is .2, in 249 more
        (" ".join(f"ab cd {i:018}" for i in range(10)) + "x", None),
        (" ".join(f"ab cd {i:018}" for i in range(10)), "top_2_gram"),
        (" ".join([different(10), *(f"lorem ipsum dolor {different(6, 100 * i)}" for i in range(1, 7))]), "top_3_gram"),
        (" ".join([different(60), "a b c d e f g", different(50, 100), "a b c d e f g"]), None),
        (" ".join([different(15), different(40, 100), different(15)]), "duplicated_5_n_grams"),
        (" ".join([different(12), different(40, 100), different(12)]), "duplicated_6_n_grams"),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """Texts that break one rule, or none, and what datatrove says of them."""
    assert reason(text) == expected == plain(text, split(text), GopherRepetitionOptions())


def test_each_n_gram_rule_has_its_turn():
    """A text that repeats a long stretch breaks every duplicate rule: switched off one by one, the next shows."""
    text = " ".join([different(30), different(40, 100), different(30)])
    switched_off: dict[str, object] = {}
    seen = []
    for n in range(5, 11):
        seen.append(reason(text, **switched_off))
        switched_off[f"dup_{n}_gram"] = None
    assert seen == [f"duplicated_{n}_n_grams" for n in range(5, 11)]
    assert reason(text, **switched_off) is None
    assert set(seen) < set(REASONS)


def split(text):
    return [word for chunk in text.split() for word in split_chunk(chunk)]


def repeated(pieces):
    seen, count, chars = set(), 0, 0
    for piece in pieces:
        if piece in seen:
            count, chars = count + 1, chars + len(piece)
        seen.add(piece)
    return count, chars


def plain(text, words, options):
    """Datatrove's filter, for one text; an empty one passes."""
    if not text:
        return None
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    for pieces, name in ((paragraphs, "para"), (lines, "line")):
        count, chars = repeated(pieces)
        if count / len(pieces) > getattr(options, f"dup_{name}_frac"):
            return f"dup_{name}_frac"
        if chars / len(text) > getattr(options, f"dup_{name}_char_frac"):
            return f"dup_{name}_char_frac"
    for n in (2, 3, 4):
        grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
        if grams:
            gram, count = grams.most_common(1)[0]
            if len(gram) * count / len(text) > getattr(options, f"top_{n}_gram"):
                return f"top_{n}_gram"
    for n in range(5, 11):
        seen, chars, i = set(), 0, 0
        while i < len(words) - n + 1:
            gram = "".join(words[i : i + n])
            if gram in seen:
                chars, i = chars + len(gram), i + n
            else:
                seen.add(gram)
                i += 1
        if chars / len(text) > getattr(options, f"dup_{n}_gram"):
            return f"duplicated_{n}_n_grams"
    return None


TEXTS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(["a", "bb", "ccc.", "d,e", "é", "\n", "\n\n", "\n \n"]), max_size=40).map(" ".join),
        st.lists(st.sampled_from(["one two\n", "three four five\n", "\n", "six. seven", "\n\n\n", " \n"])).map("".join),
        st.lists(st.integers(0, 400), max_size=90).map(lambda ns: " ".join(f"w{n}" for n in ns)),
    ),
    max_size=6,
)
LOOSE = GopherRepetitionOptions(
    dup_para_frac=1.0, dup_para_char_frac=1.0, dup_line_frac=1.0, dup_line_char_frac=1.0,
    top_2_gram=0.6, top_3_gram=0.5, top_4_gram=0.45,
)  # fmt: skip


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_is_the_plain_reading(texts):
    """Columnar marks equal the filter's for any texts, with native words and with the same words as lists."""
    lists = pa.array([split(text) for text in texts], pa.large_list(pa.large_string()))
    for found in (segment(column(texts)), Segmentation.from_lists(column(texts), lists)):
        signals = repetition_signals(found)
        assert tuple(signals.column_names) == SIGNALS
        for options in (GopherRepetitionOptions(), LOOSE):
            expected = [plain(text, split(text), options) for text in texts]
            assert repetition_reasons(signals, options).to_pylist() == expected


@given(TEXTS, st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_stored_signals_judge_alike(texts, lines, top, duplicate):
    """Judging stored signals under other thresholds equals running the step with them."""
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": column(texts)})
    stored = bind(NAME)(table, Keys()).select(list(SIGNALS))
    options = {"dup_line_frac": lines, "dup_para_frac": None, "top_3_gram": top, "dup_7_gram": duplicate}
    ran = bind(NAME, options)(table, Keys())
    marks = ran["drop_reason"].to_pylist() if "drop_reason" in ran.column_names else [None] * len(texts)
    assert find_step(NAME).judge(stored, options_from(find_step(NAME), options)).to_pylist() == marks


def test_bad_options():
    """A share below 0, and the name of an option that datatrove writes otherwise."""
    with pytest.raises(ConfigError, match="dup_line_frac"):
        options_from(find_step(NAME), {"dup_line_frac": -0.1})
    with pytest.raises(ConfigError, match="did you mean"):
        options_from(find_step(NAME), {"dup_5_grams": 0.1})
