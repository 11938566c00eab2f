"""pii: personal data and secrets in the text become typed placeholders.

What enters: `text`. What leaves: the text with `<EMAIL_1>`, `<PHONE_1>`, … in place of what was found, and how many
there were of each type. Invariant: within a document one value has one placeholder, numbered by first occurrence, so
that who wrote to whom can still be read; a redacted text is left as it is.

What is found, and how surely, is said in `pii_patterns`.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.columns import TEXT, set_column, text_of, to_polars
from datapipe.steps.options import nearest
from datapipe.steps.pii_patterns import FINDERS, SUSPECT
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

TYPES: Final = ("email", "ip", "phone", "card", "iban", "api_key", "private_key")
SIGNALS: Final = tuple(f"pii.{name}" for name in TYPES)


@dataclass(frozen=True, kw_only=True)
class PiiOptions:
    """Options of pii.

    Attributes:
        types: what to look for: email, ip (public IPv4 and IPv6), phone, card (payment cards), iban, api_key,
            private_key.
        placeholder: what takes its place; {TYPE} is the type in capitals, {n} its number within the document.
        phone_region: ISO 3166 code of the country whose own way of writing numbers is known as well ("US"); "" for
            numbers with a country code alone.
    """

    types: tuple[str, ...] = TYPES
    placeholder: str = "<{TYPE}_{n}>"
    phone_region: str = "US"

    def __post_init__(self) -> None:
        for name in self.types:
            if name not in TYPES:
                raise ConfigError(
                    f"pii.types holds {name!r}", expected=f"some of {', '.join(TYPES)}", fix=nearest(name, TYPES)
                )
        try:
            shown = self.placeholder.format(TYPE="EMAIL", n=1)
        except (KeyError, IndexError, ValueError, AttributeError):
            shown = ""
        if not shown or "@" in shown:
            raise ConfigError(
                f"pii.placeholder = {self.placeholder!r}",
                expected="a text with {TYPE} and {n} in it, or without",
                fix="write <{TYPE}_{n}>",
            )


def pii(table: pa.Table, keys: Keys, *, options: PiiOptions) -> pa.Table:
    """Redact.

    Args:
        table: `text: string`.
        keys: not used.
        options: see PiiOptions.

    Returns:
        The table with `text` redacted, and for each type the signal `pii.<type>: int32`, occurrences in the row.
    """
    del keys
    import numpy as np
    import pyarrow as pa

    texts = text_of(table)
    counts = {name: np.zeros(table.num_rows, np.int32) for name in TYPES}
    series = to_polars(texts)
    suspects: dict[int, list[str]] = {}
    for name in FINDERS:
        if name in options.types and table.num_rows:
            for row in series.str.contains(SUSPECT[name]).arg_true().to_list():
                suspects.setdefault(row, []).append(name)
    if suspects:
        values: list[Any] = texts.to_pylist()
        for row, names in suspects.items():
            values[row], found = redacted(values[row], names, options)
            for name, n in found.items():
                counts[name][row] = n
        texts = pa.chunked_array([pa.array(values, pa.large_string())])
    table = set_column(table, TEXT, texts)
    for name in TYPES:
        table = set_column(table, f"pii.{name}", pa.array(counts[name]))
    return table


def redacted(text: str, types: Sequence[str], options: PiiOptions) -> tuple[str, dict[str, int]]:
    """One text with placeholders, and how many of each type.

    Args:
        types: finders to run, those with a better right to a contested place first.
    """
    claims = []
    for rank, name in enumerate(types):
        claims += [(found.start, found.end, rank, found.value) for found in FINDERS[name](text, options.phone_region)]
    if not claims:
        return text, {}
    taken: list[tuple[int, int, int, str]] = []
    # By right first: a key is a key also where digits of it would pass for a phone number.
    for claim in sorted(claims, key=lambda each: (each[2], each[0], -each[1])):
        place = bisect.bisect_left(taken, claim)
        before_is_clear = place == 0 or taken[place - 1][1] <= claim[0]
        if before_is_clear and (place == len(taken) or claim[1] <= taken[place][0]):
            taken.insert(place, claim)
    numbers: dict[tuple[int, str], int] = {}
    next_number: dict[int, int] = {}
    counts: dict[str, int] = {}
    parts = []
    at = 0
    for start, end, rank, value in taken:
        if (rank, value) not in numbers:
            next_number[rank] = numbers[rank, value] = next_number.get(rank, 0) + 1
        name = types[rank]
        counts[name] = counts.get(name, 0) + 1
        parts += [text[at:start], options.placeholder.format(TYPE=name.upper(), n=numbers[rank, value])]
        at = end
    return "".join([*parts, text[at:]]), counts


def build(options: PiiOptions) -> Step:
    """The step with its options bound."""
    return partial(pii, options=options)


SPEC: Final = StepSpec(
    name="pii",
    version=1,
    kind="map",
    options=PiiOptions,
    build=build,
    summary="personal data and secrets → typed placeholders, counted by type",
    needs=("text",),
    gives=("text",),
    signals=SIGNALS,
    counters=SIGNALS,
)
