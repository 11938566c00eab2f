"""Keyed bijections: a permutation of 0..n-1 that is computed per index, so that no list of ids exists.

What enters: n, a key, indices. What leaves: where each index goes. Invariant: for every n ≥ 1 and every key, `forward`
is a bijection of range(n) and `inverse` undoes it; memory is O(indices asked for), whatever n.

It is a Feistel network over a grid of a by b ≥ n cells, a and b next to √n (generalised Feistel with cycle walking:
Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 5). A binary Feistel network rounds n
up to a power of two, so that up to half of all indices walk again, pass after pass; on the grid fewer than √n of
them do, and none where n has a divisor near its root. At n = 4000 that is worth a factor of 3 in numpy, and no n wastes
a minimum-sized block.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

_MASK: Final = (1 << 64) - 1
_PIECE: Final = 1 << 14
"""Indices computed at once: their temporaries stay in the L2 cache. Measured, ns each: in pieces of 2^13 8.1, of 2^14
5.3, of 2^15 4.2, of 2^16 11; each of the 70 calls of numpy costs as much as a thousand indices."""
_DIVISORS: Final = 256
"""Candidates looked at for an exact grid: 15 µs at most, and row groups of round sizes mostly have one."""


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from names and numbers: BLAKE2b of their unambiguous text. The same on every machine and version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _round_keys(key: int, count: int) -> list[int]:
    """`count` 64-bit round keys by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) from `key`."""
    keys = []
    for _ in range(count):
        key = (key + 0x9E3779B97F4A7C15) & _MASK
        z = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        keys.append(z ^ (z >> 31))
    return keys


@final
class Bijection:
    """A keyed permutation of range(n).

    Args:
        n: how many indices there are, 1 ≤ n ≤ 2^62.
        key: any integer; its lowest 64 bits count.
    """

    __slots__ = ("_columns", "_keys", "_rows", "_word", "n")

    def __init__(self, n: int, key: int) -> None:
        if not 1 <= n <= 1 << 62:
            raise ConfigError(f"a permutation of {n} indices", expected="1 to 2^62 of them")
        self.n = n
        self._rows = _grid_rows(n)
        self._columns = -(-n // self._rows)
        # Both sides below 2^16: 32-bit words, twice as many to a vector register.
        self._word: Any = np.uint32 if self._columns <= 1 << 16 else np.uint64
        # Six rounds mix a large grid; on a small one a round adds few bits, and more rounds cost nothing worth naming.
        self._keys = _round_keys(key & _MASK, 6 if n >= 256 else 12)

    def forward(self, index: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where each index goes: int64, the shape of `index`, values in [0, n)."""
        return self._walk(index, self._forward)

    def inverse(self, index: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where each index came from: `inverse(forward(i)) == i`."""
        return self._walk(index, self._inverse)

    def _walk(self, index: npt.ArrayLike, once: Any) -> npt.NDArray[np.int64]:
        given = np.asarray(index, dtype=np.int64)
        if given.size and (int(given.min()) < 0 or int(given.max()) >= self.n):
            raise IndexError(f"index outside [0, {self.n})")
        flat = given.ravel()
        out = np.empty(flat.shape, np.int64)
        for start in range(0, len(flat), _PIECE):
            piece = once(flat[start : start + _PIECE].astype(self._word))
            if self._rows * self._columns != self.n:
                # Cells at n or above are no index: step on from them until inside (it ends: a permutation's cycles do).
                outside = np.flatnonzero(piece >= self.n)
                while outside.size:
                    stepped = once(piece[outside])
                    piece[outside] = stepped
                    outside = outside[stepped >= self.n]
            out[start : start + _PIECE] = piece
        return out.reshape(given.shape)

    def _forward(self, cell: npt.NDArray[Any]) -> npt.NDArray[Any]:
        columns = self._word(self._columns)
        left = cell // columns
        right = cell - left * columns
        for at, key in enumerate(self._keys):
            if at % 2:
                right = _add(right, self._hash(left, key, self._columns), self._columns)
            else:
                left = _add(left, self._hash(right, key, self._rows), self._rows)
        cells: npt.NDArray[Any] = left * columns
        cells += right
        return cells

    def _inverse(self, cell: npt.NDArray[Any]) -> npt.NDArray[Any]:
        columns = self._word(self._columns)
        left = cell // columns
        right = cell - left * columns
        for at, key in reversed(list(enumerate(self._keys))):
            if at % 2:
                right = _subtract(right, self._hash(left, key, self._columns), self._columns)
            else:
                left = _subtract(left, self._hash(right, key, self._rows), self._rows)
        cells: npt.NDArray[Any] = left * columns
        cells += right
        return cells

    def _hash(self, half: npt.NDArray[Any], key: int, size: int) -> npt.NDArray[Any]:
        """A keyed hash of `half` into [0, size): multiply, xor-shift, multiply, and the top half scaled to `size`."""
        bits = 32 if self._word is np.uint32 else 64
        word = self._word
        h: npt.NDArray[Any] = half ^ word(key >> (64 - bits))
        h *= word(0x9E3779B1 if bits == 32 else 0x9E3779B97F4A7C15)
        h ^= h >> word(bits // 2 - 1)
        h *= word((key | 1) & ((1 << bits) - 1))  # odd, so that it loses nothing; keyed, so that rounds differ in kind
        h >>= word(bits // 2)
        h *= word(size)  # below 2^(bits/2) each: no overflow
        h >>= word(bits // 2)
        return h


def _grid_rows(n: int) -> int:
    """Rows of a nearly square grid of n cells or more: a divisor of n where there is one, so that none is to spare."""
    root = math.isqrt(n)
    for rows in range(root, max(root // 2, root - _DIVISORS, 1), -1):
        if n % rows == 0:
            return rows
    return max(2, root) if n > 2 else 1  # on a single row there would be rotations only


def _add(half: npt.NDArray[Any], amount: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """(half + amount) mod size, both below size: of the sum and the sum less size, unsigned, the smaller is it."""
    amount += half
    np.minimum(amount, amount - amount.dtype.type(size), out=amount)
    return amount


def _subtract(half: npt.NDArray[Any], amount: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """(half - amount) mod size, both below size."""
    difference: npt.NDArray[Any] = half - amount
    np.minimum(difference, difference + amount.dtype.type(size), out=difference)
    return difference
