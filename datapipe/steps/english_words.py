"""One run of characters without white space → the words that it is made of, as spaCy's blank English splits it.

What enters: a chunk of text between white space. What leaves: its words, in order; joined, they are the chunk.
Invariant: the words are those of spaCy 3.8's `Tokenizer` with the English defaults, which datatrove 0.10 splits with:
exceptions are looked up first; then prefixes and suffixes are taken off, one of each a turn, until an exception or
nothing to take off is left; what is left is a URL, or is divided at its infixes; in the end, neighbouring words that
make up an exception with punctuation in it (an emoticon) become that exception's words.

The rules are those of `spacy/tokenizer.pyx` and `lang/punctuation.py` (MIT licence), on indices instead of copies, so
that a chunk of a million brackets costs a million steps. Two differences, both out of the reach of ordinary text: what
is left of a chunk after its affixes is no URL if it is longer than `LONGEST_URL` characters (the pattern's cost grows
with the square of the length); and an emoticon is found within a chunk only, where spaCy lets one that is broken by a
space get in the way of its neighbour ("' ''").
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from datapipe.steps.characters import (
    ALPHA,
    ALPHA_LOWER,
    ALPHA_UPPER,
    CURRENCIES,
    ICONS,
    ICONS_CLASS,
    LONG_CURRENCIES,
    PUNCTUATION_MARKS,
    QUOTES,
    UNITS,
)
from datapipe.steps.word_exceptions import EXCEPTIONS, LONGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_URL: Final = 4096
_DIGITS: Final = frozenset("0123456789")
_PREFIXES: Final = frozenset("§%=—–") | PUNCTUATION_MARKS | QUOTES | CURRENCIES | ICONS
_SUFFIXES: Final = frozenset("—–") | PUNCTUATION_MARKS | QUOTES | ICONS
_GENITIVES: Final = frozenset(("'s", "'S", "’s", "’S"))
_AMOUNTS: Final = UNITS | CURRENCIES | frozenset(LONG_CURRENCIES)
_AMOUNT_ENDS: Final = frozenset(unit[-1] for unit in _AMOUNTS)
_LONGEST_AMOUNT: Final = max(map(len, _AMOUNTS))
_QUOTES_INSIDE: Final = re.escape("".join(sorted(QUOTES)))
_MARKS_INSIDE: Final = re.escape("".join(sorted(PUNCTUATION_MARKS)))


@functools.cache
def _full_stop_splits() -> re.Pattern[str]:
    """The character before a full stop that is a word of its own at the end (spaCy's class has these brackets too)."""
    return re.compile(f"[0-9{ALPHA_LOWER}%²\\-+{_MARKS_INSIDE}|(?:){_QUOTES_INSIDE}]")


@functools.cache
def _two_capitals() -> re.Pattern[str]:
    return re.compile(f"[{ALPHA_UPPER}]{{2}}")


@functools.cache
def _infixes() -> re.Pattern[str]:
    """What divides a word in its middle."""
    return re.compile(
        rf"\.\.+|…|[{ICONS_CLASS}]|(?<=[0-9])[+\-*^](?=[0-9-])"
        rf"|(?<=[{ALPHA_LOWER}{_QUOTES_INSIDE}])\.(?=[{ALPHA_UPPER}{_QUOTES_INSIDE}])"
        rf"|(?<=[{ALPHA}]),(?=[{ALPHA}])"
        rf"|(?<=[{ALPHA}0-9])(?:-|–|—|--|---|——|~)(?=[{ALPHA}])"
        rf"|(?<=[{ALPHA}0-9])[:<>=/](?=[{ALPHA}])"
    )


@functools.cache
def _url() -> re.Pattern[str]:
    """A URL, or a host name that ends in lower-case letters: Diego Perini's pattern (MIT licence), as spaCy has it."""
    name = "A-Za-z0-9\u00a1-\uffff"
    return re.compile(
        r"(?:(?:[\w+\-.]{2,})://)?(?:\S+(?::\S*)?@)?"
        r"(?:(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})"
        r"(?!172\.(?:1[6-9]|2\d|3[0-1])(?:\.\d{1,3}){2})"
        r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}"
        r"(?:\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4]))"
        rf"|(?:(?:[{name}][{name}_-]{{0,62}})?[{name}]\.)+(?:[{ALPHA_LOWER}]{{2,63}}))"
        r"(?::\d{2,5})?(?:[/?#]\S*)?$"
    )


def split_chunk(chunk: str) -> tuple[str, ...]:
    """The words of a chunk; `chunk` is not empty and has no white space."""
    found = EXCEPTIONS.get(chunk)
    if found is not None:
        return _with_emoticons(found)
    if chunk.isascii() and chunk.isalpha():
        return (chunk,)
    return _with_emoticons(tuple(_affixes_off(chunk, EXCEPTIONS)))


def _affixes_off(chunk: str, exceptions: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Prefixes, the words of what is left, suffixes."""
    start, end = 0, len(chunk)
    before: list[str] = []
    after: list[str] = []
    while start < end:
        if end - start <= LONGEST and chunk[start:end] in exceptions:
            break
        prefix = _prefix(chunk, start, end)
        rest = start + prefix
        if prefix and 0 < end - rest <= LONGEST and chunk[rest:end] in exceptions:
            before.append(chunk[start:rest])
            start = rest
            break
        suffix = _suffix(chunk, rest, end)
        if suffix and 0 < end - suffix - start <= LONGEST and chunk[start : end - suffix] in exceptions:
            after.append(chunk[end - suffix : end])
            end -= suffix
            break
        if prefix:
            before.append(chunk[start:rest])
            start = rest
        if suffix:
            after.append(chunk[end - suffix : end])
            end -= suffix
        if not prefix and not suffix:
            break
    if start < end:
        before += _middle(chunk[start:end], exceptions)
    return before + after[::-1]


def _prefix(chunk: str, start: int, end: int) -> int:
    """How many characters go off at the start: 0 for none."""
    first = chunk[start]
    if first in _PREFIXES:
        return 1
    if first == ".":
        stop = start
        while stop < end and chunk[stop] == ".":
            stop += 1
        return stop - start if stop - start > 1 else 0
    if first == "+":
        return 0 if start + 1 < end and chunk[start + 1] in _DIGITS else 1
    if first in "UCA":
        for currency in LONG_CURRENCIES:
            if chunk.startswith(currency, start, end):
                return len(currency)
    return 0


def _suffix(chunk: str, start: int, end: int) -> int:
    """How many characters go off at the end, of the rules that fit the one that takes most: 0 for none."""
    if start >= end:
        return 0
    last = chunk[end - 1]
    longest = 1 if last in _SUFFIXES else 0
    if last == "." and end - start > 1:
        if chunk[end - 2] == ".":
            stop = end
            while stop > start and chunk[stop - 1] == ".":
                stop -= 1
            return end - stop
        if _full_stop_splits().match(chunk[end - 2]) or (
            end - start > 2
            and (
                _two_capitals().match(chunk, end - 3, end - 1) or (chunk[end - 3] == "°" and chunk[end - 2] in "FfCcKk")
            )
        ):
            return 1
    if last in "sS" and end - start > 1 and chunk[end - 2 : end] in _GENITIVES:
        return 2
    if last == "…" and end - start > 1 and chunk[end - 2] == "…":
        return 2
    if last == "+" and end - start > 1 and chunk[end - 2] in _DIGITS:
        return 1
    if last in _AMOUNT_ENDS:
        for length in range(min(_LONGEST_AMOUNT, end - start - 1), 0, -1):
            if chunk[end - length - 1] in _DIGITS and chunk[end - length : end] in _AMOUNTS:
                return max(length, longest)
    return longest


def _middle(text: str, exceptions: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What is left between the affixes: an exception, a URL, or the pieces between infixes and the infixes."""
    found = exceptions.get(text)
    if found is not None:
        return list(found)
    if text.isalnum() and text.isascii():
        return [text]
    if "." in text and len(text) <= LONGEST_URL and _url().match(text):
        return [text]
    words = []
    start = 0
    for match in _infixes().finditer(text):
        if match.start() == 0:
            continue
        if match.start() != start:
            words.append(text[start : match.start()])
        words.append(match.group())
        start = match.end()
    if start < len(text):
        words.append(text[start:])
    return words


@functools.cache
def broken_exceptions() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Exceptions that the affixes would break, as the words they break into, by the first one; longest first."""
    broken: dict[str, list[tuple[str, ...]]] = {}
    for text in EXCEPTIONS:
        has_affix = _prefix(text, 0, len(text)) or _suffix(text, 0, len(text)) or _infixes().search(text)
        words = tuple(_affixes_off(text, {}))
        if has_affix and len(words) > 1:
            broken.setdefault(words[0], []).append(words)
    return {first: tuple(sorted(set(runs), key=len, reverse=True)) for first, runs in broken.items()}


def _with_emoticons(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words with every run of them that makes up an exception replaced by the exception's; longest, then first."""
    table = broken_exceptions()
    if len(words) < 2 or table.keys().isdisjoint(words):
        return words
    spans = [
        (-len(run), at, "".join(run))
        for at, word in enumerate(words)
        for run in table.get(word, ())
        if words[at : at + len(run)] == run
    ]
    taken: set[int] = set()
    chosen: dict[int, tuple[int, str]] = {}
    for size, at, text in sorted(spans):
        if at not in taken and at - size - 1 not in taken:
            chosen[at] = (-size, text)
        taken.update(range(at, at - size))
    result: list[str] = []
    at = 0
    while at < len(words):
        if at in chosen:
            size, text = chosen[at]
            result += EXCEPTIONS[text]
            at += size
        else:
            result.append(words[at])
            at += 1
    return tuple(result)
