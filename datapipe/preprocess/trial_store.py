"""The output as a trial sees it: everything can be read, and what is written is thrown away.

What enters: a store. What leaves: its bytes. Invariant: a task that runs over it, to see whether it lives, leaves the
output as it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, final

from datapipe.preprocess.tasks import Place
from datapipe.preprocess.work import WORK
from datapipe.storage.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRATCH = f"{WORK}/scratch"


@final
class TrialStore(Store):
    """Reads from `inner`; scratch files lie in a folder of the trial's own."""

    def __init__(self, inner: Store, scratch: str) -> None:
        self._inner = inner
        self._scratch = scratch
        self.url = inner.url

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """What is there."""
        return self._inner.list(prefix)

    def info(self, path: str) -> Entry:
        """Of what is there."""
        return self._inner.info(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes that are there."""
        return self._inner.read(path, start, end)

    def open(self, path: str) -> BinaryIO:
        """A reader of what is there."""
        return self._inner.open(path)

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """Nothing is written."""
        return Entry(path=path, size=len(data), etag="")

    def put_file(self, path: str, source: str) -> Entry:
        """Nothing is written; the file is left to whoever made it."""
        return Entry(path=path, size=os.path.getsize(source), etag="")  # noqa: PTH202

    def delete(self, path: str) -> None:
        """Nothing is removed."""

    def local_path(self, path: str) -> str | None:
        """Where the file is; for scratch, the trial's folder."""
        return self._scratch if path == _SCRATCH else self._inner.local_path(path)


@final
@dataclass(frozen=True, kw_only=True)
class TrialPlace(Place):
    """The output, for a task that is tried: `scratch` is a local folder."""

    scratch: str = field(repr=False)

    def open(self) -> Store:
        """The store."""
        return TrialStore(Place(url=self.url, options=self.options).open(), self.scratch)
