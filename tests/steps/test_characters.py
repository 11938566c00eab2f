"""Character classes: those of spaCy 3.8.18 and datatrove 0.10.0, by their sizes and digests."""

from __future__ import annotations

import hashlib
import re
import sys

import pytest

from datapipe.steps import characters

# Sizes and the first half of the SHA-256 of the sorted members, written down from the two packages.
DIGESTS = {
    "ALPHA": (105724, "c83939e29852f6af"),
    "ALPHA_LOWER": (105177, "38ff702693e21081"),
    "ALPHA_UPPER": (104939, "822ec03207201a60"),
    "ICONS": (5984, "101f8b6293bd8be0"),
    "SENTENCE_ENDS": (128, "d798d7bea611896b"),
    "TERMINAL_PUNCTUATION": (159, "223fdebf0f768738"),
    "PUNCTUATION_AND_CONTROLS": (281, "add6d54a8847e51e"),
}
EVERY = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]


@pytest.mark.parametrize("name", list(DIGESTS))
def test_members(name):
    """Each class has exactly the members it has there."""
    value = getattr(characters, name)
    if isinstance(value, str):
        matches = re.compile(f"[{value}]").match
        members = "".join(filter(matches, EVERY))
    else:
        members = "".join(sorted(value))
    assert (len(members), hashlib.sha256(members.encode()).hexdigest()[:16]) == DIGESTS[name]


def test_units():
    """All 103 units, the one that runs two scripts together among them."""
    digest = hashlib.sha256(" ".join(sorted(characters.UNITS)).encode()).hexdigest()[:16]
    assert (len(characters.UNITS), digest) == (103, "670d009c7f3e1c26")


def test_points_are_the_classes():
    """The ranges of code points hold what the classes match."""
    for name, spans in (
        ("ALPHA", characters.ALPHA_POINTS),
        ("ALPHA_LOWER", characters.LOWER_POINTS),
        ("ALPHA_UPPER", characters.UPPER_POINTS),
    ):
        assert len({point for span in spans for point in span}) == DIGESTS[name][0]


def test_white_space_is_pythons():
    """White space and line ends are what `isspace` and `splitlines` say."""
    assert {c for c in EVERY if c.isspace()} == characters.WHITE_SPACE
    assert {c for c in EVERY if len(f"a{c}b".splitlines()) > 1} == characters.LINE_ENDS
