"""Patterns: `*`, `?`, `[…]` within a part of a path, `**` over any number of parts.

What enters: a pattern. What leaves: the folder it starts from, and a test for paths below that. A pattern that matches
a folder matches all that is in it, as in a shell whose result is given to a command that walks folders.
"""

from __future__ import annotations

import re
from typing import Final

_MAGIC: Final = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Whether the text holds `*`, `?` or `[`."""
    return _MAGIC.search(text) is not None


def fixed_part(pattern: str) -> tuple[str, str]:
    """(the folder in front of the first part with a wildcard, the rest): "a/b/*.txt" → ("a/b", "*.txt")."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ""), "/".join(parts[first:])


def matcher(pattern: str) -> re.Pattern[str]:
    """Matches the paths that `pattern` names, and those below them. A leading dot must be named, as in a shell."""
    out = ""
    parts = [part for part in pattern.split("/") if part]
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            out += r"(?:(?!\.)[^/]+/)*" if not last else r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+"
        else:
            out += _part(part) + ("" if last else "/")
    return re.compile(out + r"(?:/.*)?\Z", re.DOTALL)


def part_matcher(part: str) -> re.Pattern[str]:
    """Matches the names that one part of a pattern names."""
    return re.compile(_part(part) + r"\Z", re.DOTALL)


def _part(part: str) -> str:
    out = "" if part.startswith(".") else r"(?!\.)"
    i = 0
    while i < len(part):
        char = part[i]
        i += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (end := part.find("]", i + 1 + (part[i : i + 1] == "!"))) > 0:
            negated = part[i] == "!"
            body = re.escape(part[i + negated : end]).replace(r"\-", "-")
            out += f"(?!/)[{'^' if negated else ''}{body}]"
            i = end + 1
        else:
            out += re.escape(char)
    return out
