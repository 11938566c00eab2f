"""Bytes that are nearly valid: an input and a generator enter, another input leaves.

Byte by byte (`plain_mutation`), by the leaves of a JSON tree (`json_mutation`), by the lines of a text, or within a
container whose checksums are made right again (`within`). Invariant: the same generator gives the same input.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NUMBERS: Final = (
    0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 53) + 1, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63), 1 << 64, 10**30,
)  # fmt: skip
"""Where counters, lengths and offsets go wrong."""

HOSTILE: Final = (
    None, True, False, "", " ", "\0", "\x1b]8;;http://x\x07", "\u202e", "\ud800", "../../etc/passwd", "/etc/passwd",
    "file:///etc/passwd", "C:\\x", "a" * 3000, "NaN", "<script>alert(1)</script>", [], {}, [[]], {"": {}}, 0.5, -0.0,
    1e308, float("inf"), float("nan"), [1, "1", None], {"__class__": "os.system"},
)  # fmt: skip
"""Values that no field is meant to have."""

TOKENS: Final = (
    b"\0", b"\0" * 64, b"\xff" * 8, b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\r\n", b'"', b"'", b"\\", b"{",
    b"[", b"]", b",", b":", b"\\ud800", b"\\u0000", b"null", b"NaN", b"1e999", b"-", b"&#xD800;", b"<!--",
    b"<![CDATA[", b"</", b"!!python/object/apply:os.system [ls]", b"&a [*a]", b"<<: *a", b"? ", b"%YAML 1.1\n---",
    b"[" * 3000, b'{"a":' * 1500, b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80", b"\xe2\x80\xae", b"PAR1", b"ARROW1",
    b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"9" * 400,
)  # fmt: skip


def plain_mutation(data: bytes, chance: random.Random) -> bytes:
    """One to six edits of bytes, more often near the ends, where formats keep their tables."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        _edit(found, chance)
    return bytes(found)


def _place(size: int, chance: random.Random) -> int:
    where = chance.random()
    if size == 0:
        return 0
    if where < 0.15:
        return chance.randrange(min(size, 64))
    if where < 0.5:  # footers, tables of contents
        return size - 1 - chance.randrange(min(size, 1024))
    return chance.randrange(size)


def _edit(data: bytearray, chance: random.Random) -> None:
    kind = chance.randrange(9)
    at = _place(len(data), chance)
    if not data or kind == 0:
        data[at:at] = chance.choice(TOKENS)
    elif kind in {1, 2}:
        data[at] = data[at] ^ (1 << chance.randrange(8)) if kind == 1 else chance.randrange(256)
    elif kind in {3, 4}:
        width = chance.choice((1, 2, 4, 8))
        number = chance.choice(NUMBERS) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
    elif kind == 5:
        del data[at : at + chance.choice((1, 2, 8, 64, 1024))]
    elif kind == 6:
        data[at:at] = data[at : at + chance.choice((1, 8, 64, 1024))] * chance.choice((1, 2, 20))
    elif kind == 7:
        other = _place(len(data), chance)
        part = data[other : other + chance.choice((4, 16, 256))]
        data[at : at + len(part)] = part
    else:
        del data[at if chance.random() < 0.7 else 0 :]


def json_mutation(data: bytes, chance: random.Random) -> bytes:
    """A tree with one to three of its values replaced, removed, repeated or put deeper; a text if it is no JSON."""
    if chance.random() < 0.25:
        return plain_mutation(data, chance)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return plain_mutation(data, chance)
    for _ in range(chance.choice((1, 1, 2, 3))):
        tree = mutated_tree(tree, chance)
    try:
        text = json.dumps(tree)
    except (ValueError, RecursionError):
        return plain_mutation(data, chance)
    if chance.random() < 0.1 and text.startswith("{") and len(text) > 2:  # a key that is given twice
        text = text[:-1] + "," + text[1:]
    return text.encode("utf-8", "surrogatepass")


def mutated_tree(tree: Any, chance: random.Random) -> Any:
    """The tree with one value changed, in place where it can be."""
    if not isinstance(tree, (dict, list)) or not tree or chance.random() < 0.02:
        return _hostile(tree, chance)
    inner: Any = tree
    while True:
        key = chance.choice(list(inner)) if isinstance(inner, dict) else chance.randrange(len(inner))
        child = inner[key]
        if isinstance(child, (dict, list)) and child and chance.random() < 0.85:
            inner = child
            continue
        break
    kind = chance.randrange(10)
    if kind == 0:
        del inner[key]
    elif kind == 1 and isinstance(inner, list):
        inner *= chance.choice((2, 50))
    elif kind == 1:
        inner[chance.choice(("", "extra", "\ud800", "a" * 300))] = child
    elif kind == 2:
        for _ in range(chance.choice((1, 30, 900))):
            child = [child] if chance.random() < 0.5 else {"a": child}
        inner[key] = child
    else:
        inner[key] = _hostile(child, chance)
    return tree


def _hostile(value: Any, chance: random.Random) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.6:
        return chance.choice((value + 1, value - 1, -value, *NUMBERS))
    if isinstance(value, str) and value and chance.random() < 0.4:
        return plain_mutation(value.encode("utf-8", "surrogatepass"), chance).decode("utf-8", "replace")
    return chance.choice((*HOSTILE, *NUMBERS))


def lines_mutation(data: bytes, chance: random.Random) -> bytes:
    """A line removed, repeated, moved, indented or edited."""
    lines = data.split(b"\n")
    if chance.random() < 0.4 or len(lines) < 2:
        return plain_mutation(data, chance)
    for _ in range(chance.choice((1, 2, 4))):
        at = chance.randrange(len(lines))
        kind = chance.randrange(5)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines[at:at] = [lines[at]] * chance.choice((1, 3, 300))
        elif kind == 2:
            lines.insert(chance.randrange(len(lines)), lines.pop(at))
        elif kind == 3:
            lines[at] = chance.choice((b" ", b"    ", b"\t", b"- ")) + lines[at]
        else:
            lines[at] = plain_mutation(lines[at], chance)
        if not lines:
            break
    return b"\n".join(lines)


def within(
    unpack: Callable[[bytes], bytes],
    pack: Callable[[bytes], bytes],
    inner: Callable[[bytes, random.Random], bytes] = plain_mutation,
    share: float = 0.5,
) -> Callable[[bytes, random.Random], bytes]:
    """Mutations of what a container holds, packed again with right checksums, beside those of the container."""

    def mutate(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < share:
            try:
                return pack(inner(unpack(data), chance))
            except Exception:
                pass
        return plain_mutation(data, chance)

    return mutate
