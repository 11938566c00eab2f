"""Times, sizes and counts in words. What enters: a number. What leaves: a text with its unit."""

from __future__ import annotations


def spoken(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1e3:.0f} kB" if count >= 1e3 else f"{count:.0f} B"


def counted(n: int, name: str) -> str:
    """`1 shard`, `2,000 shards`, `2 pieces of text`."""
    if n != 1:
        first, of, rest = name.partition(" of ")
        name = f"{first}{'es' if first.endswith('sh') else 's'}{of}{rest}"
    return f"{n:,} {name}"
