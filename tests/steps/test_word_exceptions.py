"""EXCEPTIONS: spaCy's table, by its size and by its digest."""

from __future__ import annotations

import hashlib
import json

from datapipe.steps.english_words import split_chunk
from datapipe.steps.word_exceptions import EXCEPTIONS, LONGEST


def test_exceptions_are_spacys():
    """All 1,347 of spaCy's exceptions but the four of white space are there, and each is split by its own table."""
    assert len(EXCEPTIONS) == 1343
    for text, words in EXCEPTIONS.items():
        assert "".join(words) == text
        assert "".join(split_chunk(text)) == text
    assert EXCEPTIONS["I'd've"] == ("I", "'d", "'ve")
    assert "its" not in EXCEPTIONS
    assert EXCEPTIONS["can’t"] == ("ca", "n’t")


def test_digest():
    """Every string and its words, as written down from spaCy 3.8.18, those of white space left out."""
    digest = hashlib.sha256(json.dumps(sorted(EXCEPTIONS.items()), ensure_ascii=False).encode()).hexdigest()
    assert digest == "f778cf8365a8625332d24a7533f7c35553ce7f495ae9a8ca35967ebe1d61744d"
    assert max(map(len, EXCEPTIONS)) == LONGEST
