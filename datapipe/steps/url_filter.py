"""url_filter: rows whose URL is on the user's lists of domains, of URLs, or has a word of a list in it.

What enters: a column of URLs. What leaves: the same, blocked rows marked. Invariant: case, port, credentials, a final
dot and the way an international name is written do not tell two hosts apart; a listed domain stands for those below
it; a row without a URL stays.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit

from datapipe.steps.columns import column, mark, set_column
from datapipe.steps.step import DETAIL, StepSpec
from datapipe.steps.word_list import read_list

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

DOMAIN: Final = "url_blocked_domain"
URL: Final = "url_blocked_url"
WORD: Final = "url_blocked_word"
REASONS: Final = (DOMAIN, URL, WORD)

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WORDS: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class UrlFilterOptions:
    """Options of url_filter; each list is text files with one entry a line.

    Attributes:
        column: where the URL is; `input.columns` must read it.
        domains: hosts, with all below them: "example.com" blocks www.example.com.
        urls: the beginnings of URLs, without their scheme: "example.com/forum/" blocks what lies in it.
        words: whole words of the URL, as they stand between punctuation.
    """

    column: str = "url"
    domains: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@final
class UrlFilter:
    """The step: it holds the lists, read at the first table; a pickle of it holds the paths."""

    def __init__(self, options: UrlFilterOptions) -> None:
        self.options = options
        self._lists: tuple[frozenset[str], frozenset[str], frozenset[str]] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (UrlFilter, (self.options,))

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Mark what is on a list.

        Args:
            table: the URL's column: string.
            keys: not used.

        Returns:
            The table; blocked rows are marked "url_blocked_domain", "…_url" or "…_word", in this order, with the entry
            as detail.

        Raises:
            ConfigError: a file cannot be read, or holds no entry; the column is missing.
        """
        del keys
        import pyarrow as pa

        urls = column(table, self.options.column, pa.string()).to_pylist()
        found = [self._blocked(url) if url else None for url in urls]
        if not any(found):
            return table
        table = set_column(table, DETAIL, pa.array([each[1] if each else None for each in found], pa.string()))
        return mark(table, pa.array([each[0] if each else None for each in found], pa.string()))

    def _blocked(self, url: str) -> tuple[str, str] | None:
        domains, starts, words = self._read()
        host, rest = split_url(url)
        labels = host.split(".")
        for first in range(len(labels)):
            if (domain := ".".join(labels[first:])) in domains:
                return DOMAIN, domain
        whole = host + rest
        # Entries begin a URL and end where a part of it does: with the mark that ends the part, or without.
        marks = [place for place, character in enumerate(whole) if character in "/?&=#"]
        for end in (*(each for place in marks for each in (place, place + 1)), len(whole)):
            if whole[:end] in starts:
                return URL, whole[:end]
        if words:
            for word in _WORDS.findall(whole.lower()):
                if word in words:
                    return WORD, word
        return None

    def _read(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        if self._lists is None:
            options = self.options
            self._lists = (
                frozenset(split_url(each)[0] for each in read_list(options.domains, "url_filter.domains")),
                frozenset("".join(split_url(each)) for each in read_list(options.urls, "url_filter.urls")),
                frozenset(each.lower() for each in read_list(options.words, "url_filter.words")),
            )
        return self._lists


def split_url(url: str) -> tuple[str, str]:
    """(host, the rest) of a URL with or without its scheme: the host lower-case, in its ASCII form (IDNA), bare."""
    bare = url.strip()
    try:
        parts = urlsplit(bare if _SCHEME.match(bare) else f"//{bare.removeprefix('//')}")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        # Brackets that hold no address: such a URL has no host that a list could name.
        return "", bare
    try:
        host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        host = host.lower()
    rest = parts.path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
    return host, rest


def build(options: UrlFilterOptions) -> Step:
    """The step with its options bound."""
    return UrlFilter(options)


def _resolve(spec: StepSpec, options: UrlFilterOptions) -> StepSpec:
    return dataclasses.replace(spec, needs=(options.column,))


SPEC: Final = StepSpec(
    name="url_filter",
    version=1,
    kind="map",
    options=UrlFilterOptions,
    build=build,
    summary="rows whose URL is on your lists of domains, URLs or words",
    reasons=REASONS,
    needs=("url",),
    resources=("domains", "urls", "words"),
    resolve=_resolve,
)
