"""One request for one byte range: how S3, HTTP and the rest are asked, and how a body is taken in.

What enters: a file system of fsspec, a name, a range, the version it must have, an event to set once it is answered.
What leaves: an `Answer`, or the library's own exception. Invariants: an answer is as long as its range, of the version
asked for where the service says which; a body that stops coming, or trickles, is a time-out and not a wait without end.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import IntegrityError
from datapipe.storage.remote_entry import entry_of, mark_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from datapipe.storage.store import Entry

    Span = tuple[int, int | None]
    Request = Callable[[str, Span, Entry | None, asyncio.Event], Awaitable["Answer"]]

FIRST_BYTE_S: Final = 20.0
"""S3 answers 0.99 of requests within tenths of a second; beyond this nobody is working on it."""
WINDOW_S: Final = 10.0
LEAST_RATE: Final = 4 << 10
"""Bytes a second, over a window: 32 connections that share 1 Mbit/s have this each."""


_HTTP_MARKS: Final = ("ETag", "Content-MD5", "Digest", "Last-Modified")
"""The headers that fsspec's `info` of a URL tells versions by."""


class CutShortError(ConnectionError):
    """A body that ended before its range did, of an object that is long enough."""


class ShortError(Exception):
    """An object that ends at `had`, before the range [start, end) does."""

    def __init__(self, start: int, end: int, had: int) -> None:
        super().__init__(f"bytes [{start:,}, {end:,}) of an object that ends at {had:,}")
        self.start = start
        self.end = end
        self.had = had


class VersionError(IntegrityError):
    """The object is another than was asked for. Its name, which may hold a signature, is not in the message."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The bytes of a range in the pieces they came in, and what the service said of the object.

    `entry` is None where it did not say; `first_s` and `whole_s` are seconds until the first and the last byte.
    """

    chunks: list[bytes]
    entry: Entry | None
    first_s: float
    whole_s: float

    @property
    def size(self) -> int:
        """Bytes in all chunks."""
        return sum(map(len, self.chunks))


async def ask_s3(fs: Any, where: str, span: Span, pinned: Entry | None, begun: asyncio.Event) -> Answer:
    """GetObject, once (s3fs would try again by itself, as often as we do)."""
    began = time.monotonic()
    bucket, key, version = fs.split_path(where)
    asked: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if version:
        asked["VersionId"] = version
    if span != (0, None):
        asked["Range"] = _range(span)
    if pinned is not None and mark_of(pinned):
        asked["IfMatch"] = f'"{mark_of(pinned)}"'
    async with asyncio.timeout(FIRST_BYTE_S):
        await fs.set_session()
        client = await fs.get_s3(bucket)
        # The user's own settings (requester pays, customer keys) go with every call; s3fs has no public name for them.
        asked = fs._get_s3_method_kwargs(client.get_object, **asked)  # noqa: SLF001
        response = await client.get_object(**asked)
    body = response["Body"]
    first = time.monotonic()
    begun.set()
    try:
        entry = entry_of(where, {"size": _total(response.get("ContentRange"), response), "ETag": response.get("ETag")})
        same_version(entry, pinned)
        chunks = await _collect(body.raw_stream.content.iter_any(), _Cut(span, whole=False))
    finally:
        body.close()
    _check_length(chunks, span, entry)
    return Answer(chunks=chunks, entry=entry, first_s=first - began, whole_s=time.monotonic() - began)


async def ask_http(fs: Any, where: str, span: Span, pinned: Entry | None, begun: asyncio.Event) -> Answer:
    """GET, with a Range; a server that ignores it sends everything, of which the range is kept."""
    began = time.monotonic()
    settings = dict(fs.kwargs)
    headers = {**settings.pop("headers", {}), "Accept-Encoding": "identity"}
    if span != (0, None):
        headers["Range"] = _range(span)
    async with asyncio.timeout(FIRST_BYTE_S):
        session = await fs.set_session()
        response = await session.get(fs.encode_url(where), headers=headers, **settings)
    async with response:
        first = time.monotonic()
        begun.set()
        if response.status == 404:  # as fsspec says it
            raise FileNotFoundError(where)
        response.raise_for_status()
        ranged = response.status == 206
        said = response.headers
        size = _total(said.get("Content-Range") if ranged else None, {"ContentLength": said.get("Content-Length")})
        entry = entry_of(where, {"size": size, **{name: said[name] for name in _HTTP_MARKS if name in said}})
        if "ETag" in said:  # without one, what a HEAD gives and what a GET gives may be other marks
            same_version(entry, pinned)
        cut = _Cut(span, whole=not ranged)
        chunks = await _collect(response.content.iter_any(), cut)
        if not ranged and span[0] < 0:
            whole = b"".join(chunks)
            chunks = [whole[span[0] :]]
    _check_length(chunks, span, entry)
    return Answer(chunks=chunks, entry=entry, first_s=first - began, whole_s=time.monotonic() - began)


async def ask_other(fs: Any, where: str, span: Span, pinned: Entry | None, begun: asyncio.Event) -> Answer:
    """Any other file system of fsspec: its own read of a range, which neither streams nor says a version."""
    del begun
    began = time.monotonic()
    start, end = span
    options: Mapping[str, Any] = {} if span == (0, None) else {"start": start, "end": end}
    if getattr(fs, "async_impl", False):
        limit = FIRST_BYTE_S + (0 if end is None else (end - start) / LEAST_RATE)
        async with asyncio.timeout(limit if end is not None else None):
            data = await fs._cat_file(where, **options)  # noqa: SLF001  (fsspec's documented hook for loops)
    else:
        data = await asyncio.to_thread(fs.cat_file, where, **options)
    if pinned is not None:  # otherwise nothing tells a body that was cut from an object that is shorter
        _check_length([data], span, pinned)
    whole = time.monotonic() - began
    return Answer(chunks=[data], entry=None, first_s=whole, whole_s=whole)


def same_version(entry: Entry | None, pinned: Entry | None) -> None:
    """VersionError where both say which version of the object they are, and they are two."""
    if entry is None or pinned is None or not entry.etag or not pinned.etag or entry.etag == pinned.etag:
        return
    raise VersionError(
        f"the object was replaced while it was read: it has etag {entry.etag}",
        expected=f"{pinned.etag}, as when it was opened",
        fix="open the dataset again, and do not overwrite files that are being read",
    )


def _range(span: Span) -> str:
    start, end = span
    if start < 0:
        return f"bytes={start}"
    return f"bytes={start}-{'' if end is None else end - 1}"


def _total(content_range: str | None, response: Mapping[str, Any]) -> int | None:
    """The whole object's length: of "bytes 0-9/100", 100."""
    text = content_range.rpartition("/")[2] if content_range else response.get("ContentLength")
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _check_length(chunks: list[bytes], span: Span, entry: Entry | None) -> None:
    start, end = span
    if end is None or start < 0:
        return
    had = sum(map(len, chunks))
    if had < end - start and (entry is None or entry.size >= end):
        raise CutShortError(f"{had:,} of {end - start:,} bytes came")


class _Cut:
    """Which bytes of a body are wanted: all, but of a whole object only a range."""

    def __init__(self, span: Span, *, whole: bool) -> None:
        start, end = span
        self._skip = start if whole and start > 0 else 0
        self._left = end - start if end is not None and start >= 0 else None

    def __call__(self, chunk: bytes) -> bytes:
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        if skipped or (self._left is not None and len(chunk) > self._left):
            chunk = chunk[skipped : None if self._left is None else skipped + self._left]
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    @property
    def done(self) -> bool:
        return self._left == 0


async def _collect(body: AsyncIterator[bytes], cut: _Cut) -> list[bytes]:
    """The chunks of a body, while at least `LEAST_RATE` bytes a second come, counted over `WINDOW_S`."""
    chunks: list[bytes] = []
    loop = asyncio.get_running_loop()
    window, got = loop.time(), 0
    async with asyncio.timeout(WINDOW_S) as silence:
        async for chunk in body:
            got += len(chunk)
            if wanted := cut(chunk):
                chunks.append(wanted)
            if cut.done:
                break
            if (now := loop.time()) - window > WINDOW_S / 2:
                if got < LEAST_RATE * (now - window):
                    raise TimeoutError(f"{got / (now - window):.0f} bytes a second came")
                window, got = now, 0
                silence.reschedule(now + WINDOW_S)
    return chunks
