"""Long documents in pieces: exactly the ids of the whole, or no cut at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from datapipe.steps.long_text import cuts_are_exact, pieces

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    # White space of every kind around letters, digits, marks and contractions: where a cut could go wrong.
    st.lists(
        st.sampled_from(
            [
                *(" ", " ", "\n", "\n", "  ", "\t", "\r\n", "\u00a0", "\u2003", "\x1c", "\x85", "\u200b", "\u180e"),
                *("a", "the", "7", "'s", "'re", "!", "...", "é", "中", "👩", "\u0301", "\0", "<|endoftext|>"),
            ]
        ),
        max_size=60,
    ).map("".join),
)


@given(text=TEXT, size=st.integers(1, 12))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_of_pieces_are_ids_of_the_whole(tokenizer_path, text, size):
    """Joined, the pieces are the text; encoded one by one, they give its ids."""
    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.encode_special_tokens = True
    parts = list(pieces(text, size))
    assert "".join(parts) == text
    assert all(len(part) >= size for part in parts[:-1])
    assert [number for part in parts for number in tokenizer.encode(part).ids] == tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("one two three", ["one two", " three"]),
        ("one  two\tthree", ["one  two\tthree"]),
        ("line.\nnext", ["line.", "\nnext"]),
        ("line\n\nnext", ["line\n\nnext"]),
        ("nowhitespaceatall", ["nowhitespaceatall"]),
    ],
)
def test_where_it_cuts(text, expected):
    """Before a single space or newline between two visible characters, once four characters are full."""
    assert list(pieces(text, 4)) == expected


def changed(path, **changes):
    data = json.loads(open(path, encoding="utf-8").read())  # noqa: PTH123, SIM115  (a test's file)
    data.update(changes)
    return Tokenizer.from_str(json.dumps(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}},
        {"normalizer": {"type": "Lowercase"}},
    ],
)
def test_other_tokenizers_are_not_cut(tokenizer_path, changes):
    """Only the one way of splitting for which the proof holds is cut."""
    assert cuts_are_exact(Tokenizer.from_file(tokenizer_path))
    assert not cuts_are_exact(changed(tokenizer_path, **changes))


WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
FIVES = {"type": "Split", "pattern": {"Regex": ".{1,5}"}, "behavior": "Isolated", "invert": False}


@given(text=TEXT, size=st.integers(1, 12))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_words_that_are_split_further(tokenizer_path, text, size):
    """A pattern after GPT-2's sees one word at a time: pieces still give the ids of the whole."""
    tokenizer = changed(tokenizer_path, pre_tokenizer={"type": "Sequence", "pretokenizers": [WORDS, FIVES]})
    tokenizer.encode_special_tokens = True
    assert cuts_are_exact(tokenizer)
    ids = [number for part in pieces(text, size) for number in tokenizer.encode(part).ids]
    assert ids == tokenizer.encode(text).ids


@pytest.mark.parametrize("first", [[FIVES, WORDS], [WORDS, {"type": "Metaspace", "replacement": "_"}], []])
def test_other_sequences_are_not_cut(tokenizer_path, first):
    """Anything before GPT-2's pattern, or after it that may see more than a word."""
    data = json.loads(Tokenizer.from_file(tokenizer_path).to_str())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": first}
    assert not cuts_are_exact(Tokenizer.from_str(json.dumps(data)))


def test_added_tokens_are_not_cut(tokenizer_path):
    """An added token that text may spell could lie across a cut."""
    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.add_tokens(["a b"])
    assert not cuts_are_exact(tokenizer)
