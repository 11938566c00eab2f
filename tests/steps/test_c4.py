"""c4@datatrove: golden texts, datatrove's filter written out, and judging again."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, find_step, options_from, run_steps
from datapipe.steps.c4 import SIGNALS, C4Options, c4_clean, c4_reasons
from datapipe.steps.c4_lines import POLICY, REMOVED
from datapipe.steps.segmentation import segment, segmented
from datapipe.steps.sentences import count_sentences, sentences
from tests.steps.one_text import column

NAME = "c4@datatrove"
FIVE = "This is one. This is two. This is three. This is four. This is five."


def ran(text, **options):
    """(reason, text that is left) of one document."""
    table = pa.table({"row_id": ["0"], "text": pa.array([text], pa.large_string())})
    result = run_steps(table, [bind(NAME, options)], Keys())
    marks = result.marked.to_pylist()
    return (marks[0]["reason"], None) if marks else (None, result.table["text"][0].as_py())


def test_datatroves_defaults():
    """The defaults are datatrove 0.10's; mC4's paragraphs are off, as it has them in a filter of their own."""
    assert dataclasses.asdict(C4Options()) == {
        "split_paragraph": True,
        "remove_citations": True,
        "filter_no_terminal_punct": True,
        "min_num_sentences": 5,
        "min_words_per_line": 3,
        "max_word_length": 1000,
        "filter_lorem_ipsum": True,
        "filter_javascript": True,
        "filter_curly_bracket": True,
        "filter_policy": True,
        "min_paragraphs": 0,
        "min_paragraph_length": 200,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("too_few_sentences", None)),
        (FIVE, (None, FIVE)),
        ("This is one. This is two. This is three. This is four.", ("too_few_sentences", None)),
        # lines: no mark at the end, an ellipsis, two words, a word of 1,001 characters
        (f"A title of it\n{FIVE}\n  And so on...\nTwo words.\nA long {'x' * 1001} word.\n", (None, FIVE)),
        (f"A long {'x' * 1000} word.\r\n{FIVE}", (None, f"A long {'x' * 1000} word.\n{FIVE}")),
        (f"{FIVE}\nHe said \"so it is\"\nIt is 'this'", (None, f"{FIVE}\nHe said \"so it is\"\nIt is 'this'")),
        # javascript, policies: lines; lorem ipsum, a curly bracket: documents, but only in lines that come so far
        (f"{FIVE}\nPlease enable JavaScript now.\nWe Use Cookies here.\nSee our Privacy Policy.", (None, FIVE)),
        (f"{FIVE}\nThen Lorem Ipsum dolor sit.", ("lorem_ipsum", None)),
        (f"{FIVE}\nThen {{ came in.", ("curly_bracket", None)),
        (f"{FIVE}\nlorem ipsum dolor sit\nint main {{", (None, FIVE)),
        (f"{FIVE}\nThis javascript has a {{ in it.", (None, FIVE)),
        # the line that comes first has the reason; in one line, lorem ipsum
        (f"One {{ came first.\nThen lorem ipsum came.\n{FIVE}", ("curly_bracket", None)),
        (f"Then lorem ipsum came.\nOne {{ came first.\n{FIVE}", ("lorem_ipsum", None)),
        (f"A lorem ipsum {{ came.\n{FIVE}", ("lorem_ipsum", None)),
        # citations
        (f"It is so[1] they say[12][citation needed].[]\n{FIVE}", (None, f"It is so they say.\n{FIVE}")),
        (f"It is a[b] [editor] x[1a].\n{FIVE}[edit]", (None, f"It is a[b] [editor] x[1a].\n{FIVE}")),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """What is left of a text, or the reason why nothing is, worked out by hand."""
    assert ran(text) == expected


def test_paragraphs():
    """mC4's filter: three lines of 200 characters, of the text as it comes in; its reason comes before the others."""
    long = "x" * 99 + " " + "y" * 99 + "."
    text = f"{long}\nshort\n{long}\n{long}"
    assert ran(text, min_paragraphs=3, min_num_sentences=-1)[0] is None
    assert ran(text, min_paragraphs=4)[0] == "c4_too_few_paragraphs"
    assert ran(text, min_paragraphs=3, min_paragraph_length=201)[0] == "c4_too_few_paragraphs"


def test_by_sentences():
    """With `split_paragraph` off the rules on lines look at sentences, which are joined by spaces."""
    text = "This one stays. Too short. This too\nhas a line in it. We use cookies here. The end of it"
    options = {"split_paragraph": False, "min_num_sentences": 2, "filter_no_terminal_punct": False}
    assert ran(text, **options) == (None, "This one stays. This too\nhas a line in it. The end of it")
    assert ran(text, **options | {"min_num_sentences": 4})[0] == "too_few_sentences"


def test_the_next_step_knows_the_words():
    """What is remembered of the cleaned text is what segmenting it would find."""
    texts = [f"{FIVE}\ntitle\nAs in [1] said. And (so) on.", "no", f"{FIVE}\n\n A  b c[2].", FIVE]
    table = pa.table({"row_id": list("abcd"), "text": column(texts)})
    cleaned = bind(NAME)(table, Keys())
    known = segmented(cleaned)
    fresh = segment(cleaned["text"])
    assert known.lists().to_pylist() == fresh.lists().to_pylist()
    assert known.chunks.starts.tolist() == fresh.chunks.starts.tolist()
    assert count_sentences(known).tolist() == count_sentences(fresh).tolist()


def plain(text, options):
    """Datatrove's filter, for one text: reason, text."""
    if options.split_paragraph:
        lines = text.splitlines()
    else:
        lines = sentences(segment(column([text]))).texts.to_pylist()
    total, kept = 0, []
    for line in lines:
        line = line.strip()
        words = line.split()
        if options.max_word_length != -1 and any(len(word) > options.max_word_length for word in words):
            continue
        if options.remove_citations:
            line = re.sub(r"\[\d*]|\[edit]|\[citation needed]", "", line)
        if options.filter_no_terminal_punct and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            continue
        if len(words) < options.min_words_per_line:
            continue
        lower = line.lower()
        if options.filter_lorem_ipsum and "lorem ipsum" in lower:
            return "lorem_ipsum", None
        if options.filter_javascript and "javascript" in lower:
            continue
        if options.filter_curly_bracket and "{" in line:
            return "curly_bracket", None
        if options.filter_policy and any(phrase in lower for phrase in POLICY):
            continue
        if options.min_num_sentences != -1:
            total += int(count_sentences(segment(column([line])))[0]) if options.split_paragraph else 1
        kept.append(line)
    if total < options.min_num_sentences:
        return "too_few_sentences", None
    return None, ("\n" if options.split_paragraph else " ").join(kept).strip()


TEXTS = st.lists(
    st.lists(
        st.sampled_from(
            (
                *("word", "a b c.", "End?", 'said "so"', "...", "x" * 6, "[1]", "[]", "[edit]", "{", "lorem ipsum"),
                *("JavaScript", "use cookies", "Privacy Policy", "\n", "\n", "\r\n", "\u2028", "\t", " \xa0", "é!"),
                *("[\u0661]", "\u212a", ".  "),
            )
        ),
        max_size=30,
    ).map(" ".join),
    max_size=5,
)
VARIANTS = (
    C4Options(min_num_sentences=2),
    C4Options(filter_no_terminal_punct=False, max_word_length=5),
    C4Options(min_words_per_line=-1, min_num_sentences=-1, filter_no_terminal_punct=False, remove_citations=False),
    C4Options(filter_lorem_ipsum=False, filter_curly_bracket=False, filter_javascript=False, min_num_sentences=1),
    C4Options(filter_policy=False, max_word_length=-1, min_num_sentences=0, min_words_per_line=0),
    C4Options(split_paragraph=False, min_num_sentences=2, filter_no_terminal_punct=False),
    C4Options(split_paragraph=False, min_words_per_line=-1, filter_lorem_ipsum=False, min_num_sentences=1),
)


@pytest.mark.parametrize("options", VARIANTS)
@given(TEXTS)
@settings(deadline=None, max_examples=120)
def test_is_the_plain_reading(options, texts):
    """Marks, and texts that stay, equal the filter's for any texts."""
    cleaned, signals, _ = c4_clean(segment(column(texts)), options)
    reasons = c4_reasons(signals, options).to_pylist()
    assert tuple(signals.column_names) == SIGNALS
    expected = [plain(text, options) for text in texts]
    assert reasons == [reason for reason, _ in expected]
    kept = [text for text, reason in zip(cleaned.to_pylist(), reasons, strict=True) if reason is None]
    assert kept == [text for reason, text in expected if reason is None]


@given(TEXTS)
@settings(deadline=None)
def test_sentences_may_be_given(texts):
    """Sentences counted by something else decide as they say."""
    always, never = (lambda lines, n=n: np.full(len(lines), n) for n in (100, 0))
    words = segment(column(texts))
    for count, few in ((always, False), (never, True)):
        _, signals, _ = c4_clean(words, C4Options(), count)
        left = signals["c4.lines"].to_numpy() - sum(signals[f"c4.removed_{name}"].to_numpy() for name in REMOVED)
        assert [n < 5 for n in signals["c4.sentences"].to_pylist()] == [few or not lines for lines in left.tolist()]


@given(TEXTS, st.integers(-1, 8), st.booleans(), st.booleans(), st.integers(0, 2))
@settings(deadline=None)
def test_stored_signals_judge_alike(texts, least, lorem, curly, paragraphs):
    """Judging stored signals under other document rules equals running the step with them, and the text is the same."""
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": column(texts)})
    first = bind(NAME, {"min_paragraph_length": 8})(table, Keys())
    options = {
        "min_num_sentences": least,
        "filter_lorem_ipsum": lorem,
        "filter_curly_bracket": curly,
        "min_paragraphs": paragraphs,
        "min_paragraph_length": 8,
    }
    second = bind(NAME, options)(table, Keys())
    marks = second["drop_reason"].to_pylist() if "drop_reason" in second.column_names else [None] * len(texts)
    judged = find_step(NAME).judge(first.select(list(SIGNALS)), options_from(find_step(NAME), options))
    assert judged.to_pylist() == marks
    assert first["text"].equals(second["text"])


def test_bad_options():
    """Numbers below -1, and a longest word of none."""
    for options in ({"min_num_sentences": -2}, {"max_word_length": 0}, {"min_paragraphs": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            options_from(find_step(NAME), options)
