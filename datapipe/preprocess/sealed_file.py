"""Files of rows that lie between stages, encrypted: where a dataset has encrypted columns, no row rests in the open.

    8 bytes  "dpSEAL1", line feed
    frames   of FRAME bytes of plain text each (the last may be short), as AES-SIV gives them: 16 bytes more

What enters: bytes on their way to a file, a secret. What leaves: the same bytes, to who has the secret. Invariant: the
same bytes give the same file (AES-SIV is deterministic, RFC 5297), so that tasks that depend on it are known by its
checksum; a frame is bound to its number, and the last to being the last: none can be changed, moved or cut off.

The secret is that of a run, set for a block (`sealed`), in the process and thread that does the work.
"""

from __future__ import annotations

import contextlib
import hmac
import io
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from datapipe.errors import ConfigError, EncryptionError
from datapipe.sized_file import SizedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"dpSEAL1\n"
FRAME: Final = 1 << 18
_TAG: Final = 16
_secret: ContextVar[bytes | None] = ContextVar("datapipe_secret", default=None)


@contextlib.contextmanager
def sealed(secret: bytes | None) -> Iterator[None]:
    """Rows files that the block writes are encrypted under `secret`; None: they are not."""
    token = _secret.set(secret)
    try:
        yield
    finally:
        _secret.reset(token)


def is_sealing() -> bool:
    """Whether rows files are to be encrypted."""
    return _secret.get() is not None


def _cipher(secret: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV
    except ImportError:
        raise ConfigError(
            "encrypted columns need the package cryptography",
            expected="it installed wherever rows are read and written",
            fix="pip install 'datapipe-toolkit[encryption]'",
        ) from None
    return AESSIV(hmac.digest(secret, b"datapipe rows", "sha512"))


@final
class SealedSink(io.RawIOBase):
    """What is written goes encrypted to a local path; a frame is held."""

    def __init__(self, path: str) -> None:
        super().__init__()
        secret = _secret.get()
        assert secret is not None
        self._cipher = _cipher(secret)
        self._file = open(path, "wb")  # noqa: PTH123, SIM115  (closed with this)
        self._file.write(MAGIC)
        self._held = bytearray()
        self._number = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        view = memoryview(data).cast("B")
        self._held += view
        while len(self._held) > FRAME:  # the last frame is known when the file is closed
            self._frame(bytes(self._held[:FRAME]), last=False)
            del self._held[:FRAME]
        return view.nbytes

    def close(self) -> None:
        """End the file."""
        if not self.closed:
            try:
                self._frame(bytes(self._held), last=True)
            finally:
                self._file.close()
                super().close()

    def _frame(self, plain: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(plain, [_name(self._number, last=last)]) if plain else b"")
        self._number += 1


@final
class SealedSource(SizedFile):
    """The plain bytes of an encrypted file, at any place; a frame is held.

    Raises:
        EncryptionError: there is no secret, or another one, or the file was changed.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        secret = _secret.get()
        if secret is None:
            raise EncryptionError(f"{name} is encrypted, and no keys were given")
        self._cipher = _cipher(secret)
        self._file = file
        self._name = name
        stored = file.seek(0, io.SEEK_END) - len(MAGIC)
        self._frames = -(-stored // (FRAME + _TAG))
        super().__init__(stored - self._frames * _TAG)
        self._held: tuple[int, bytes] = (-1, b"")

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from the place on."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        parts = []
        while self._at < end:
            number, start = divmod(self._at, FRAME)
            part = self._plain(number)[start : start + end - self._at]
            if not part:
                break
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _plain(self, number: int) -> bytes:
        if self._held[0] != number:
            self._file.seek(len(MAGIC) + number * (FRAME + _TAG))
            data = self._file.read(FRAME + _TAG)
            try:
                plain = self._cipher.decrypt(data, [_name(number, last=number == self._frames - 1)])
            except Exception:
                raise EncryptionError(
                    f"{self._name} was written under another key, or changed since",
                    expected="the key that the run began with",
                    fix="give the same keys, or run again with --fresh",
                ) from None
            self._held = number, plain
        return self._held[1]


def _name(number: int, *, last: bool) -> bytes:
    return b"%d %d" % (number, last)
