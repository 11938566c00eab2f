"""language: a label and a score for every row; thresholds are judged from these alone."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.language import LANGUAGES, LanguageOptions, _identifier, _seen, judge

SENTENCES = {
    "en": "The committee will meet again on Thursday to discuss what should be done about the old bridge.",
    "de": "Der Ausschuss trifft sich am Donnerstag wieder, um über die alte Brücke zu sprechen.",
    "fr": "Le comité se réunira de nouveau jeudi pour discuter de ce qu'il faut faire du vieux pont.",
    "es": "El comité volverá a reunirse el jueves para decidir qué se debe hacer con el puente viejo.",
    "pl": "Komisja spotka się ponownie w czwartek, aby omówić, co należy zrobić ze starym mostem.",
    "ru": "Комитет снова соберётся в четверг, чтобы обсудить, что делать со старым мостом.",
    "zh": "委员会将于星期四再次开会，讨论应该如何处理这座旧桥的问题。",
    "ja": "委員会は木曜日に再び集まり、古い橋をどうするべきかについて話し合います。",
    "ko": "위원회는 목요일에 다시 모여 오래된 다리를 어떻게 할지 논의할 것입니다.",
    "el": "Η επιτροπή θα συνεδριάσει ξανά την Πέμπτη για να συζητήσει τι πρέπει να γίνει με την παλιά γέφυρα.",
}


def run(texts, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    return run_steps(table, [bind("language", options)], Keys())


def test_golden():
    """A sentence is enough for ten languages."""
    ran = run(list(SENTENCES.values()))
    assert ran.table["language"].to_pylist() == list(SENTENCES)
    assert ran.table.schema.field("language").type == pa.string()
    assert all(0.5 < score <= 1 for score in ran.signals["language.score"].to_pylist())


def test_no_letters():
    """Without a letter there is no language, and no certainty."""
    ran = run(["", "12 + 30 = 42", "…!?"])
    assert ran.table["language"].to_pylist() == ["und"] * 3
    assert ran.signals["language.score"].to_pylist() == [0.0] * 3


def test_keep_and_threshold():
    """Rows of other languages go, and unsure ones under a reason of their own, which comes first."""
    texts = [SENTENCES["en"], SENTENCES["de"], SENTENCES["fr"], "42"]
    ran = run(texts, keep=["en", "de"], min_score=0.1)
    assert ran.table["language"].to_pylist() == ["en", "de"]
    assert [(row["row_id"], row["reason"]) for row in ran.marked.to_pylist()] == [
        ("2", "language_not_kept"),
        ("3", "language_unsure"),
    ]
    assert run(texts).table.num_rows == 4
    assert run(["42"], keep=["en"]).marked["reason"].to_pylist() == ["language_not_kept"]


def test_a_score_on_the_threshold_stays():
    """Marked is what lies below."""
    stored = pa.table({"language": ["en", "en"], "language.score": [0.5, 0.4999]})
    assert judge(stored, LanguageOptions(min_score=0.5)).to_pylist() == [None, "language_unsure"]


def test_both_ends_are_seen():
    """Of a long text beginning and end are looked at, in characters; its middle is not."""
    column = _seen(pl.Series(["a" * 50 + "中" * 900 + "é" * 50, "b" * 100, "é" * 60]), 100)
    assert column.to_list() == ["a" * 50 + " " + "é" * 50, "b" * 100, "é" * 60]
    long = SENTENCES["en"] * 5 + SENTENCES["ru"] * 500 + SENTENCES["en"] * 6
    assert run([long], max_chars=400).table["language"].to_pylist() == ["en"]


@given(st.lists(st.text(max_size=60), max_size=8))
@settings(deadline=None)
def test_any_text(texts):
    """Any text has a known label and a score from 0 to 1."""
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    ran = run(texts)
    assert set(ran.table["language"].to_pylist()) <= LANGUAGES | {"und"}
    assert all(0 <= score <= 1 for score in ran.signals["language.score"].to_pylist())


def test_languages_are_the_models():
    """The codes that options know are those that the model gives."""
    assert set(_identifier().labels) == LANGUAGES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ["english"]}, "'english'"),
        ({"keep": ["EN"]}, "did you mean 'en'"),
        ({"min_score": 1.5}, "at most 1"),
        ({"max_chars": 5}, "at least 16"),
    ],
)
def test_bad_options(options, message):
    """Codes that no row could have, and thresholds out of range, are refused."""
    with pytest.raises(ConfigError, match=message):
        bind("language", options)
