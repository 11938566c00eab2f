"""A small mapping from names to values, as an option of a step: the columns of a table, the rate of each language.

What enters: a mapping, or (name, value) pairs. What leaves: the same, immutable, hashable and in its order. Invariant:
two are equal only if their order is the same too, because columns and rules have one; so as plain data it is a list of
pairs, which no writer of JSON sorts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar, final

T = TypeVar("T", bound=Hashable)


@final
class ByName(Mapping[str, T]):
    """Values by name; hashable where they are."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, T] | Iterable[tuple[str, T]] = ()) -> None:
        """`items` in the order they are to have.

        Raises:
            ValueError: a name comes twice.
        """
        pairs = tuple(items.items() if isinstance(items, Mapping) else items)
        self._items: dict[str, T] = dict(pairs)
        if len(self._items) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} comes twice")

    def __getitem__(self, name: str) -> T:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByName) and tuple(self._items.items()) == tuple(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"ByName({self._items!r})"
