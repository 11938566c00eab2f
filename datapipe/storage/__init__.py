"""Bytes by name and range: local files and any fsspec URL behind one contract, `Store`.

Importing this imports no fsspec; `open_store` does, for a URL with a scheme other than file://.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.storage.checksum import ALGORITHM, checksum_bytes, checksum_file
from datapipe.storage.masking import mask
from datapipe.storage.paths import local_root, scheme_of, split_query, split_url
from datapipe.storage.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALGORITHM",
    "Entry",
    "Store",
    "checksum_bytes",
    "checksum_file",
    "local_root",
    "mask",
    "open_store",
    "scheme_of",
    "split_query",
    "split_url",
]


def open_store(url: str, *, storage_options: Mapping[str, Any] | None = None) -> Store:
    """The store whose root is a folder, a bucket or a prefix in one.

    Args:
        url: a local path, or a URL that fsspec knows: s3://bucket/prefix, gs://…, https://…, memory://….
        storage_options: what the file system takes (key, secret, token, endpoint_url, …); local folders take
            `follow_symlinks` and leave the others alone, so that one mapping serves inputs and outputs.

    Raises:
        ConfigError: the scheme is not known, or its library is not installed. Nothing is connected to yet.
    """
    options = dict(storage_options or {})
    if scheme_of(url) is None:
        from datapipe.storage.local import LocalStore

        return LocalStore(url, follow_symlinks=bool(options.get("follow_symlinks", False)))
    from datapipe.storage.remote import RemoteStore

    options.pop("follow_symlinks", None)
    store = RemoteStore(url, storage_options=options)
    if scheme_of(url) == "http":
        from datapipe.storage.plain_http import warn_of_plain

        warn_of_plain(store.url)
    return store
