"""Edits of one text, each taking its chances from one generator: words, case, letters, phrases.

What enters: a text, a rate, a generator of numbers in [0, 1). What leaves: the text edited, and how many edits it took.
Invariant: the result is a function of the text, the rate, the tables and the numbers; at rate 0 it is the text.

The edits of words are those of EDA (Wei & Zou 2019, arXiv:1901.11196, section 2): of l words, max(1, ⌊rate · l⌋) are
replaced, inserted or swapped, as its code has it, and each is deleted with probability rate. Other than there, case,
punctuation and white space stay where they stand, and of a word that comes several times each place is drawn by itself.

A word is a run of characters between white space with a letter, digit or "_" in it; what is looked up and swapped is
the word without the punctuation around it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from datapipe.steps.augment_text_tables import Templates, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Draw = Callable[[], float]
    Synonyms = Mapping[str, Sequence[str]]

_T = TypeVar("_T")

_SPACE: Final = re.compile(r"(\s+)")
_CORE: Final = re.compile(r"\w(?:.*\w)?", re.DOTALL)

_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """The letters beside each on an American keyboard: each row lies half a key to the right of the one above."""
    found = {}
    for row, keys in enumerate(_ROWS):
        for place, key in enumerate(keys):
            near = [(row, place - 1), (row, place + 1), (row - 1, place), (row - 1, place + 1)]
            near += [(row + 1, place - 1), (row + 1, place)]
            found[key] = "".join(_ROWS[r][p] for r, p in near if 0 <= r < len(_ROWS) and 0 <= p < len(_ROWS[r]))
    return found


NEIGHBOURS: Final = _neighbours()


def replace_synonyms(text: str, rate: float, draw: Draw, synonyms: Synonyms) -> tuple[str, int]:
    """Words that have synonyms become one of them, in the case they stand in."""
    pieces = _SPACE.split(text)
    words = _words(pieces)
    known = [place for place in words if _core(pieces[place]).lower() in synonyms]
    chosen = _chosen(known, _number(rate, len(words)), draw)
    for place in chosen:
        before, core, after = _around(pieces[place])
        choices = synonyms[core.lower()]
        pieces[place] = f"{before}{_cased(_one(choices, draw), core)}{after}"
    return "".join(pieces), len(chosen)


def insert_synonyms(text: str, rate: float, draw: Draw, synonyms: Synonyms) -> tuple[str, int]:
    """Synonyms of words of the text are put before words drawn by chance, or at the end."""
    pieces = _SPACE.split(text)
    words = _words(pieces)
    known = [place for place in words if _core(pieces[place]).lower() in synonyms]
    if not known:
        return text, 0
    number = _number(rate, len(words))
    added: dict[int, list[str]] = {}
    for _ in range(number):
        word = _one(synonyms[_core(pieces[_one(known, draw)]).lower()], draw)
        added.setdefault(int(draw() * (len(words) + 1)), []).append(word)
    for gap, new in added.items():
        if gap < len(words):
            pieces[words[gap]] = " ".join([*new, pieces[words[gap]]])
        else:
            pieces[words[-1]] = " ".join([pieces[words[-1]], *new])
    return "".join(pieces), number


def swap_words(text: str, rate: float, draw: Draw) -> tuple[str, int]:
    """Two words change places, so many times."""
    pieces = _SPACE.split(text)
    words = _words(pieces)
    if len(words) < 2:
        return text, 0
    number = _number(rate, len(words))
    for _ in range(number):
        first = int(draw() * len(words))
        second = int(draw() * (len(words) - 1))
        # Another than the first, each with the same chance.
        second += second >= first
        one, other = _around(pieces[words[first]]), _around(pieces[words[second]])
        pieces[words[first]] = one[0] + other[1] + one[2]
        pieces[words[second]] = other[0] + one[1] + other[2]
    return "".join(pieces), number


def delete_words(text: str, rate: float, draw: Draw) -> tuple[str, int]:
    """Each word goes with probability `rate`, with the white space after it; if all went, one drawn by chance stays."""
    pieces = _SPACE.split(text)
    words = _words(pieces)
    gone = [place for place in words if draw() < rate]
    if len(gone) == len(words) and words:
        gone.remove(_one(words, draw))
    for place in gone:
        pieces[place] = ""
        if place + 1 < len(pieces):
            pieces[place + 1] = ""
    return "".join(pieces), len(gone)


def change_case(text: str, rate: float, draw: Draw) -> tuple[str, int]:
    """Each word comes, with probability `rate`, in lower, upper, title or the other case; those that change count."""
    pieces = _SPACE.split(text)
    changed = 0
    for place in _words(pieces):
        if draw() < rate:
            word = pieces[place]
            pieces[place] = _one((str.lower, str.upper, str.capitalize, str.swapcase), draw)(word)
            changed += pieces[place] != word
    return "".join(pieces), changed


def mistype(text: str, rate: float, draw: Draw) -> tuple[str, int]:
    """Each letter of the keyboard is, with probability `rate`, hit beside, left out, hit twice or too late."""
    letters = list(text)
    changed = 0
    for place, letter in enumerate(text):
        beside = NEIGHBOURS.get(letter.lower())
        if beside is None or draw() >= rate:
            continue
        changed += 1
        kind = int(draw() * 4)
        if kind == 0:
            near = _one(beside, draw)
            letters[place] = near.upper() if letter.isupper() else near
        elif kind == 1:
            letters[place] = ""
        elif kind == 2 or place + 1 == len(text):
            letters[place] += letter
        else:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters), changed


def rephrase(text: str, rate: float, draw: Draw, templates: Templates) -> tuple[str, int]:
    """Each phrase that a template fits becomes, with probability `rate`, one of its targets."""
    changed = 0

    def target(match: re.Match[str]) -> str:
        nonlocal changed
        if draw() >= rate:
            return match.group()
        changed += 1
        number = next(n for n in range(len(templates.templates)) if match.group(f"t{n}") is not None)
        template = templates.templates[number]
        values = {slot: match.group(f"t{number}_{slot}") for slot in template.slots}
        new = filled(_one(template.targets, draw), values)
        return new[:1].upper() + new[1:] if match.group()[0].isupper() else new

    return templates.expression.sub(target, text), changed


def _words(pieces: list[str]) -> list[int]:
    """The places of the words in a text split by white space."""
    return [place for place in range(0, len(pieces), 2) if _CORE.search(pieces[place])]


def _number(rate: float, words: int) -> int:
    return max(1, int(rate * words)) if rate > 0 and words else 0


def _core(word: str) -> str:
    return _around(word)[1]


def _around(word: str) -> tuple[str, str, str]:
    """A word's punctuation before, the word itself, its punctuation after."""
    found = _CORE.search(word)
    assert found is not None
    return word[: found.start()], found.group(), word[found.end() :]


def _cased(word: str, like: str) -> str:
    """A word in the case of another: UPPER, Capital or as it is."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _one(choices: Sequence[_T], draw: Draw) -> _T:
    """One of them, each with the same chance."""
    return choices[int(draw() * len(choices))]


def _chosen(places: list[int], number: int, draw: Draw) -> list[int]:
    """So many different places, or all if there are fewer (the first steps of Fisher and Yates' shuffle)."""
    number = min(number, len(places))
    for at in range(number):
        other = at + int(draw() * (len(places) - at))
        places[at], places[other] = places[other], places[at]
    return places[:number]
