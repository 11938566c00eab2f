"""Bytes by name and range, wherever they lie. `open_store` is the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.storage.checksum import checksum_bytes, checksum_file
from datapipe.storage.local import LocalStore
from datapipe.storage.paths import split_url
from datapipe.storage.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "LocalStore", "Store", "checksum_bytes", "checksum_file", "open_store", "split_url"]


def open_store(url: str, *, storage_options: Mapping[str, Any] | None = None) -> Store:
    """The store at a local path, or at any fsspec URL."""
    if "://" not in url or url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    from datapipe.storage.remote import RemoteStore

    return RemoteStore(url, storage_options=storage_options)
