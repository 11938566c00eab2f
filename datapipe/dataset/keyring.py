"""Keys of encrypted columns: where they come from, and what Parquet's modular encryption is given of them.

What enters: a callable that gives a master key by its name, a key management service's client, or the name of either,
"package.module:name" or "file.py:name". What leaves: encryption and decryption properties, one file's each, and secrets
of our own. Invariant: no key is written, logged, in a repr or in an error; a file's own keys are random, and stored
wrapped by a master key (RFC 3394 where a callable gives it, as the service does it else).

Parquet: https://github.com/apache/parquet-format/blob/master/Encryption.md. Master keys are of 16, 24 or 32 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, EncryptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.dataset.encryption import EncryptionSettings

_LENGTHS: Final = (16, 24, 32)
_SPOKEN: Final = (
    "ecryption",
    "annot decrypt",
    "encrypted metadata",
    "encrypted footer",
    "unwrap",
    "key material",
)
"""Words by which Arrow's errors of locked files are known: they have no type of their own."""


@final
class Keyring:
    """Master keys by name; safe to share by threads, picklable where its source is (a name always is).

    Args:
        source: `name -> bytes`; a `pyarrow.parquet.encryption.KmsClient`, or a class of one; or where either is found:
            "package.module:name", "file.py:name".
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._start()

    def _start(self) -> None:
        self._made: tuple[Any, Any] | None = None

    def __getstate__(self) -> Any:
        return self._source

    def __setstate__(self, state: Any) -> None:
        self._source = state
        self._start()

    def __repr__(self) -> str:
        return f"Keyring({self._source!r})" if isinstance(self._source, str) else "Keyring(…)"

    def decryption(self) -> Any:
        """What one file is read with: `FileDecryptionProperties`."""
        import pyarrow.parquet.encryption as pe

        # Within ten minutes Arrow asks a service once for a key, whatever the number of files (its cache_lifetime).
        return self._factory().file_decryption_properties(pe.KmsConnectionConfig())

    def encryption(self, settings: EncryptionSettings, leaves: list[str]) -> Any:
        """What one file is written with: `FileEncryptionProperties`.

        Args:
            leaves: the dotted paths of the encrypted columns' leaves, as Parquet names them.
        """
        import pyarrow.parquet.encryption as pe

        config = pe.EncryptionConfiguration(
            footer_key=settings.footer_key,
            column_keys={settings.column_key: leaves},
            plaintext_footer=settings.footer == "plain",
            double_wrapping=False,
            data_key_length_bits=256,
        )
        self.check(settings)
        return self._factory().file_encryption_properties(pe.KmsConnectionConfig(), config)

    def check(self, settings: EncryptionSettings) -> None:
        """Ask for both keys.

        Raises:
            EncryptionError: one is not to be had, or is no key.
        """
        client = self._client()
        for name in (settings.footer_key, settings.column_key):
            with _quiet(name):
                client.wrap_key(bytes(16), name)

    def secret(self, footer_key: str, wrapped: str | None) -> tuple[bytes, str | None]:
        """A secret of the dataset: 32 bytes that digests of its rows, and files between stages, are keyed by.

        A callable's key gives it, the same wherever the dataset is made. A service lets no key out: there it is random,
        and kept `wrapped`; (the secret, it wrapped, or None where the key gives it).
        """
        client = self._client()
        with _quiet(footer_key):
            if isinstance(client, _callable_client()):
                return hmac.digest(client.master(footer_key), b"datapipe content", "sha256"), None
            if wrapped is not None:
                return hashlib.sha256(_bytes(client.unwrap_key(wrapped, footer_key))).digest(), wrapped
            fresh = os.urandom(32)
            kept = client.wrap_key(fresh, footer_key)
            kept = kept.decode() if isinstance(kept, bytes) else str(kept)
            return hashlib.sha256(fresh).digest(), kept

    def _factory(self) -> Any:
        return self._parts()[0]

    def _client(self) -> Any:
        return self._parts()[1]

    def _parts(self) -> tuple[Any, Any]:
        if self._made is None:
            import pyarrow.parquet.encryption as pe

            source = _found(self._source) if isinstance(self._source, str) else self._source
            client = source
            if isinstance(source, type) and issubclass(source, pe.KmsClient):
                client = source(pe.KmsConnectionConfig())
            elif not isinstance(source, pe.KmsClient):
                if not callable(source):
                    raise ConfigError(
                        f"keys are {type(source).__name__}",
                        expected="a callable that gives a key by its name, or a pyarrow KmsClient",
                    )
                client = _callable_client()(source)
            self._made = pe.CryptoFactory(lambda _: client), client
        return self._made


def as_keyring(keys: Any) -> Keyring | None:
    """What a user gave as `keys`."""
    return keys if keys is None or isinstance(keys, Keyring) else Keyring(keys)


def is_locked(error: BaseException) -> bool:
    """Whether Arrow failed for want of the right key."""
    said = str(error)
    return isinstance(error, EncryptionError) or any(word in said for word in _SPOKEN)


def locked(what: str, keyring: Keyring | None, *, several: bool = False) -> EncryptionError:
    """The error of something that cannot be read for want of the right key; of the key it says nothing."""
    is_ = "are" if several else "is"
    if keyring is None:
        return EncryptionError(
            f"{what} {is_} encrypted, and no keys were given",
            expected="the keys it was written with",
            fix="open_dataset(url, keys=callable), or --keys module:callable; or read other columns",
        )
    return EncryptionError(
        f"{what} {is_} encrypted by other keys than those given, or its bytes were changed",
        expected="the keys it was written with",
        fix="check that the callable gives the key of that name; `datapipe verify` tells damage from a wrong key",
    )


_client_class: Any = None


def _callable_client() -> Any:
    """The class of clients over a callable: made late, as its base is Arrow's."""
    global _client_class  # noqa: PLW0603  (made once)
    if _client_class is not None:
        return _client_class
    import pyarrow.parquet.encryption as pe

    @final
    class CallableClient(pe.KmsClient):  # type: ignore[misc]  # Arrow has no types
        """Wraps files' keys by a master key that a callable gives (AES key wrap, RFC 3394)."""

        def __init__(self, source: Callable[[str], bytes]) -> None:
            super().__init__()
            self._source = source

        def master(self, name: str) -> bytes:
            """The master key of that name."""
            with _quiet(name):
                key = self._source(name)
            if not isinstance(key, bytes | bytearray) or len(key) not in _LENGTHS:
                got = f"{len(key)} bytes" if isinstance(key, bytes | bytearray) else type(key).__name__
                raise EncryptionError(f"the key {name!r} is {got}", expected="bytes, 16, 24 or 32 of them")
            return bytes(key)

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
            """See `KmsClient`."""
            wrapped = _keywrap().aes_key_wrap(self.master(master_key_identifier), bytes(key_bytes))
            return base64.b64encode(wrapped).decode()

        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            """See `KmsClient`."""
            master = self.master(master_key_identifier)
            try:
                data: bytes = _keywrap().aes_key_unwrap(master, base64.b64decode(wrapped_key))
            except Exception:
                raise EncryptionError(
                    f"key material is not wrapped by the key {master_key_identifier!r}: it is another one"
                ) from None
            return data

    _client_class = CallableClient
    return _client_class


def _keywrap() -> Any:
    try:
        from cryptography.hazmat.primitives import keywrap
    except ImportError:
        raise ConfigError(
            "keys from a callable need the package cryptography",
            expected="it installed, or a KmsClient that wraps keys itself",
            fix="pip install 'datapipe-toolkit[encryption]'",
        ) from None
    return keywrap


class _quiet:  # noqa: N801  (used like a function)
    """What fails in the block is said without its own words: they may hold a key."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is None or isinstance(error, (EncryptionError, ConfigError)) or not isinstance(error, Exception):
            return
        raise EncryptionError(
            f"the key {self._name!r} is not to be had ({type(error).__name__})",
            expected="a key by that name",
            fix="run the callable, or the service's client, by itself to see why",
        ) from None


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _found(name: str) -> Any:
    """The object that "module:name" or "file.py:name" means.

    Raises:
        ConfigError: there is none.
    """
    place, _, called = name.rpartition(":")
    fix = "name it as package.module:callable or path/to/file.py:callable"
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigError(f"there is no file {place}", expected="file.py:callable", fix=fix)
    if not place or not called:
        raise ConfigError(f"keys = {name!r}", expected="module:callable", fix=fix)
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(f"datapipe_keys_{Path(place).stem}", place)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        return getattr(module, called)
    except Exception as error:
        # What a module says as it fails may hold what it was to keep.
        raise ConfigError(
            f"keys = {name!r} cannot be loaded ({type(error).__name__})", expected="module:callable", fix=fix
        ) from None
