"""What a remote file system says of an object enters; its Entry leaves.

Invariant: a listing and a look at the object itself give the same etag for the same version of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from datapipe.storage.masking import mask
from datapipe.storage.store import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

# What tells one version of an object from the next, the strongest first.
_MARKS: Final = (
    "ETag", "etag", "md5Hash", "md5", "Content-MD5", "content_md5", "Digest", "generation", "VersionId", "blob_id",
    "checksum", "Last-Modified", "LastModified", "last_modified", "mtime", "updated", "modified", "created",
)  # fmt: skip

_PLACES: Final = ("endpoint_url", "account_name", "account_host", "endpoint", "host", "port")


def origin_of(url: str, options: Mapping[str, Any]) -> str:
    """What tells a root from every other: without its query (a signature changes), with the server that was named."""
    client = options.get("client_kwargs")
    places = [options.get(name) for name in _PLACES]
    places.append(client.get("endpoint_url") if isinstance(client, dict) else None)
    return "|".join([url.partition("?")[0], *(str(place) for place in places if place)])


def entry_of(path: str, info: Mapping[str, Any]) -> Entry | None:
    """The entry for fsspec's `info`; None if it lacks the size. Its etag is "" if nothing tells versions apart."""
    size = info.get("size")
    if not isinstance(size, int):
        return None
    mark = next((info[name] for name in _MARKS if info.get(name)), "")
    # A listing may give the seconds of the time that `info` gives as a datetime.
    seconds = mark.timestamp() if isinstance(mark, datetime) else mark
    text = f"{seconds:.6f}" if isinstance(seconds, float) else str(seconds).removeprefix("W/").strip('"')
    return Entry(path=path, size=size, etag=f"{size:x}-{text}" if text else "")


def mark_of(entry: Entry) -> str:
    """What the service called this version (`entry_of` put the size before it)."""
    return entry.etag.partition("-")[2]


def user_part(url: str) -> tuple[str, ...]:
    """The user name and password in a URL, which libraries may repeat without the '://' they are told by."""
    user, at, _ = url.partition("://")[2].rpartition("@")
    if not at or mask(url) == url:
        return ()
    return tuple(part for part in (user, user.partition(":")[2]) if len(part) >= 3)
