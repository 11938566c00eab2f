"""The user's tables for augmentation: synonyms of words, and templates of phrases with what they may become.

What enters: UTF-8 files, on each line a word or a template and, after tabs, one or more texts that may take its place;
blank lines and those that begin with "# " are none. What leaves: tables to look up. Invariant: what is found is kept in
the order of the file, so that a draw means the same on every machine.

In a template `{name}` stands for one to five words, the fewest that fit: "in order to {do}<TAB>to {do}". Where several
templates fit at one place, the one with the most words of its own is taken, and it backs off to those with fewer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOT: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Blanks and other characters are never both, and what was read as a word is not given back: no place is tried twice.
_WORDS: Final = r"[^\s]++(?:[ \t]++[^\s]++){0,4}?"


@final
@dataclass(frozen=True)
class Template:
    """What a phrase may become: texts in which `{name}` stands for what it stood for in the phrase."""

    targets: tuple[str, ...]
    slots: tuple[str, ...]


@final
@dataclass(frozen=True)
class Templates:
    """All templates as one expression: group `t<number>` is the template that fits, `t<number>_<slot>` its slots."""

    expression: re.Pattern[str]
    templates: tuple[Template, ...]


def read_synonyms(path: str) -> dict[str, tuple[str, ...]]:
    """Synonyms by word, lower-cased; a word on several lines has those of all.

    Raises:
        ConfigError: the file cannot be read, holds no word, or a line has no synonym.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, (word, *synonyms) in _lines(path, "augment_text.synonyms"):
        if len(word.split()) != 1:
            raise ConfigError(
                f"augment_text.synonyms: {PurePath(path).name} line {number}: {word!r} is no single word",
                expected="a word, a tab, its synonyms with tabs between",
                fix="write phrases as templates",
            )
        key = word.lower()
        found[key] = tuple(dict.fromkeys((*found.get(key, ()), *synonyms)))
    return found


def read_templates(path: str) -> Templates:
    """The templates of a file.

    Raises:
        ConfigError: the file cannot be read, holds no template, or a target has a slot that its template has not.
    """
    option = "augment_text.templates"
    read: list[tuple[str, Template]] = []
    for number, (source, *targets) in _lines(path, option):
        slots = _SLOT.findall(source)
        where = f"{option}: {PurePath(path).name} line {number}"
        if not _SLOT.sub(" ", source).split():
            raise ConfigError(f"{where}: {source!r} fits everything", expected="a word of its own beside the slots")
        if len(set(slots)) < len(slots):
            raise ConfigError(f"{where}: {source!r} has a slot twice", expected="each slot once")
        for target in targets:
            if unknown := set(_SLOT.findall(target)) - set(slots):
                raise ConfigError(
                    f"{where}: {target!r} has {{{min(unknown)}}}, and {source!r} has not",
                    expected=f"slots of the template: {', '.join(slots) or 'none'}",
                )
        read.append((source, Template(tuple(targets), tuple(slots))))
    # Stable: of two with as many words the first in the file.
    read.sort(key=lambda each: -len(_SLOT.sub(" ", each[0]).split()))
    parts = [f"(?P<t{number}>{_expression(source, number)})" for number, (source, _) in enumerate(read)]
    expression = re.compile(r"(?<![^\s(\"'])(?:" + "|".join(parts) + r")(?!\w)", re.IGNORECASE)
    return Templates(expression, tuple(template for _, template in read))


def filled(target: str, values: dict[str, str]) -> str:
    """A target with its slots filled."""
    return _SLOT.sub(lambda slot: values[slot.group(1)], target)


def _expression(source: str, number: int) -> str:
    words = []
    for word in source.split():
        parts, at = [], 0
        for slot in _SLOT.finditer(word):
            parts += [re.escape(word[at : slot.start()]), f"(?P<t{number}_{slot.group(1)}>{_WORDS})"]
            at = slot.end()
        words.append("".join([*parts, re.escape(word[at:])]))
    return r"\s++".join(words)


def _lines(path: str, option: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, its fields), two at least."""
    expected = "UTF-8 text, on each line a text, a tab, and what may take its place"
    name = PurePath(path).name
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}", expected=expected) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option}: {name} is not UTF-8 (byte {error.start})", expected=expected) from None
    none = True
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("# "):
            continue
        fields = [field.strip() for field in line.split("\t")]
        fields = [fields[0], *filter(None, fields[1:])]
        if len(fields) < 2 or not fields[0]:
            raise ConfigError(f"{option}: {name} line {number}: {line.strip()[:80]!r}", expected=expected)
        none = False
        yield number, fields
    if none:
        raise ConfigError(f"{option}: {name} holds no entry", expected=expected)
