"""Each edit keeps what it promises to keep: words, white space, punctuation, letters, counts."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.steps.augment_text_edits import (
    NEIGHBOURS,
    change_case,
    delete_words,
    insert_synonyms,
    mistype,
    replace_synonyms,
    swap_words,
)

SYNONYMS = {"a": ("AA", "aa bb"), "big": ("large",)}
TEXTS = st.text(st.sampled_from("aAbig ,.\n中\t'\""), max_size=50)
RATES = st.sampled_from([0.05, 0.1, 0.5, 1.0])
SEEDS = st.integers(0, 2**64)


def cores(text):
    return [word.strip(",.'\"") for word in text.split() if word.strip(",.'\"")]


@given(TEXTS, RATES, SEEDS)
def test_swaps_permute_the_words(text, rate, seed):
    """The same words as often, the same white space between them; max(1, ⌊rate · words⌋) swaps."""
    result, swaps = swap_words(text, rate, random.Random(seed).random)
    assert Counter(cores(result)) == Counter(cores(text))
    assert [c for c in result if c.isspace()] == [c for c in text if c.isspace()]
    words = len(cores(text))
    assert swaps == (max(1, int(rate * words)) if words > 1 else 0)


@given(TEXTS, RATES, SEEDS)
def test_deletions_leave_a_part(text, rate, seed):
    """What is left is a part of the words in their order, as many fewer as is said, and never none of some."""
    result, gone = delete_words(text, rate, random.Random(seed).random)
    rest = iter(text.split())
    assert all(word in rest for word in result.split())
    assert len(result.split()) == len(text.split()) - gone
    assert bool(cores(result)) == bool(cores(text))


@given(TEXTS, RATES, SEEDS)
def test_insertions_leave_the_text_in(text, rate, seed):
    """The words of the text are all there in their order; nothing comes in where no word has a synonym."""
    result, number = insert_synonyms(text, rate, random.Random(seed).random, SYNONYMS)
    rest = iter(result.split())
    assert all(word in rest for word in text.split())
    assert number <= len(result.split()) - len(text.split()) <= 2 * number
    if not any(word.lower() in SYNONYMS for word in cores(text)):
        assert (result, number) == (text, 0)


@given(TEXTS, RATES, SEEDS)
def test_synonyms_stand_where_the_word_stood(text, rate, seed):
    """White space and other words stay; no more words change than the rate says, and each that does had a synonym."""
    one = {"a": ("z",), "big": ("large",)}
    result, number = replace_synonyms(text, rate, random.Random(seed).random, one)
    pairs = list(zip(text.split(), result.split(), strict=True))
    changed = [old for old, new in pairs if old != new]
    assert len(changed) == number <= max(1, int(rate * len(cores(text))))
    assert [c for c in result if c.isspace()] == [c for c in text if c.isspace()]
    assert all(any(word in old.lower() for word in one) for old in changed)


@given(TEXTS, RATES, SEEDS)
def test_case_keeps_the_letters(text, rate, seed):
    """Lower-cased, the text is what it was."""
    result, _ = change_case(text, rate, random.Random(seed).random)
    assert result.lower() == text.lower()


@given(TEXTS, SEEDS)
def test_typos_leave_other_letters(text, seed):
    """What is no letter from a to z is there in its number; a text without such letters is as it was."""
    result, changed = mistype(text, 0.5, random.Random(seed).random)
    if not set(text.lower()) & set(NEIGHBOURS):
        assert (result, changed) == (text, 0)
    assert abs(len(result) - len(text)) <= changed


@pytest.mark.parametrize(
    ("word", "like"), [("large", "big"), ("Large", "Big"), ("LARGE", "BIG"), ("large", "bIG")]
)  # fmt: skip
def test_case_follows_the_word(word, like):
    """A synonym comes in the case of the word it replaces, punctuation around it stays."""
    assert replace_synonyms(f'"{like}",', 0.1, lambda: 0.0, SYNONYMS) == (f'"{word}",', 1)


def test_neighbours():
    """Keys beside each other on the keyboard, both ways."""
    assert sorted(NEIGHBOURS["s"]) == sorted("awedxz")
    assert sorted(NEIGHBOURS["q"]) == sorted("wa")
    assert sorted(NEIGHBOURS["m"]) == sorted("njk")
    assert len(NEIGHBOURS) == 26
    assert all(key in NEIGHBOURS[other] for key, near in NEIGHBOURS.items() for other in near)


def test_chances_are_even():
    """Every pair of words is swapped as often as any other."""
    draw = random.Random(1).random
    seen = Counter(swap_words("a b c d", 0.1, draw)[0] for _ in range(6000))
    assert len(seen) == 6
    assert all(850 < n < 1150 for n in seen.values())
