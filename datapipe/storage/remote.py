"""Any fsspec URL as a Store: s3://, gs://, abfs://, http(s)://, hf://, memory://. Only here is fsspec imported.

What enters: a root URL, the file system's own options, and paths. What leaves: bytes, checked for their length, and
errors of our tree. Invariants: no message, repr or `url` holds a credential, and no error carries the library's own
exception, whose text might; a transient fault is tried again until a deadline, 403 and 404 never; nothing is served
from fsspec's cache of listings.

Object stores put atomically by themselves. Elsewhere (sftp, smb, webdav) a put writes beside and renames, which is as
atomic as that server's rename. On http(s) paths are kept unquoted, and a query of the root (a signature) goes with
every request.
"""

from __future__ import annotations

import functools
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar, final

from datapipe.errors import ConfigError, IntegrityError, NotFoundError, StorageError
from datapipe.locks import new_lock
from datapipe.storage.masking import mask_values, secrets_in
from datapipe.storage.paths import checked_path, checked_prefix, scheme_of, split_query
from datapipe.storage.range_reader import RangeReader
from datapipe.storage.remote_conditions import put_if
from datapipe.storage.remote_entry import entry_of, mark_of, origin_of, user_part
from datapipe.storage.remote_faults import is_transient
from datapipe.storage.remote_reads import PARALLEL, ReadCounts, RemoteReads
from datapipe.storage.remote_requests import ask_http, ask_other, ask_s3
from datapipe.storage.remote_told import RemoteFaults
from datapipe.storage.retry import Retry
from datapipe.storage.store import Entry, Parts, Store
from datapipe.storage.walking import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Result = TypeVar("Result")

_EXTRAS: Final = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure",
    "adl": "azure", "http": "http", "https": "http", "hf": "hf",
}  # fmt: skip
_BUCKETS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
_PUT_IS_ATOMIC: Final = _BUCKETS | {"memory", "hf", "oss", "adl"}
_SUFFIXES: Final = frozenset({"s3", "s3a", "http", "https"})
"""Those that can be asked for the last bytes of what they have."""
_LOOKS: Final = 16
"""Objects looked at side by side."""
_URL_SAFE: Final = "/~!$&'()*+,;=:@"


@final
class RemoteStore(Store):
    """A bucket, a prefix in one, or a folder of a server. Connects at its first use, in each process anew.

    Args:
        url: the root.
        storage_options: what the file system's constructor takes.
        retry: how long transient faults are tried again.
    """

    is_remote = True

    def __init__(
        self, url: str, *, storage_options: Mapping[str, Any] | None = None, retry: Retry | None = None
    ) -> None:
        self._scheme = scheme_of(url) or ""
        self._base, self._query = split_query(url)
        self._base = self._base.rstrip("/") if not self._base.endswith("://") else self._base
        self._options = dict(storage_options or {})
        self._retry = retry or Retry()
        secrets = user_part(url) + secrets_in(self._options)
        self._faults = RemoteFaults(secrets)
        self.url = mask_values(self._base + self._query, secrets)
        self.origin = origin_of(self.url, self._options)
        if self._scheme in _BUCKETS and self._base.endswith("://"):
            raise ConfigError(f"{self.url!r} names no bucket", expected=f"{self._scheme}://bucket/prefix")
        self._lock = new_lock()
        self._connected: Any = None
        self._owner = os.getpid()
        self._engine: RemoteReads | None = None

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._base + self._query, self._options, self._retry)

    @property
    def _fs(self) -> Any:
        with self._lock:
            if self._connected is None or self._owner != os.getpid():  # a forked child has no thread of fsspec's
                self._connected, self._engine, self._owner = self._connect(), None, os.getpid()
            return self._connected

    def _connect(self) -> Any:
        import fsspec

        try:
            kind = fsspec.get_filesystem_class(self._scheme.rpartition("::")[2] or self._scheme)
        except ImportError:
            extra = _EXTRAS.get(self._scheme)
            name = f"'datapipe-toolkit[{extra}]'" if extra else f"what fsspec needs for {self._scheme}://"
            fault = ConfigError(f"{self.url}: the library for {self._scheme}:// is missing", fix=f"pip install {name}")
        except ValueError:
            fault = ConfigError(
                f"{self.url}: unknown scheme {self._scheme!r}",
                expected="a path, or a URL that fsspec knows: s3://, gs://, abfs://, https://, hf://, memory://",
            )
        else:
            return self._construct(fsspec, kind)
        raise fault

    def _construct(self, fsspec: Any, kind: Any) -> Any:
        options = dict(self._options)
        if self._scheme != "hf":  # its file system reads back what it has cached; `_fresh` empties that instead
            options.setdefault("use_listings_cache", False)
        if self._scheme in ("s3", "s3a"):
            # botocore's retries times s3fs's times ours would be minutes on an endpoint that is down.
            config = dict(options.get("config_kwargs") or {})
            config.setdefault("retries", {"total_max_attempts": 1})
            config.setdefault("max_pool_connections", 2 * PARALLEL)  # 10 would be all that reads side by side have
            options["config_kwargs"] = config
        del kind
        try:
            return fsspec.core.url_to_fs(self._base, **options)[0]
        except Exception as error:
            fault = ConfigError(
                f"{self.url}: {self._faults.words(error)}", expected="storage_options that this file system takes"
            )
        raise fault

    # Names

    def _where(self, path: str) -> str:
        """What fsspec calls the object."""
        checked_path(path)
        if self._scheme in ("http", "https"):
            from urllib.parse import quote

            return f"{self._base}/{quote(path, safe=_URL_SAFE)}{self._query}"
        return f"{self._base.rstrip('/') if not self._base.endswith('://') else self._base}{self._slash}{path}"

    @property
    def _slash(self) -> str:
        return "" if self._base.endswith("://") else "/"

    def _shown(self, path: str) -> str:
        return f"{self.url.partition('?')[0]}{self._slash}{path}"

    # Faults

    def _try(self, doing: str, action: Callable[[], Result]) -> Result:
        return self._faults.told(doing, lambda: self._retry.call(action, is_transient))

    # Reading

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below `prefix`, sorted by path. On http(s): what the index pages link to."""
        prefix = checked_prefix(prefix)
        top = f"{self._base}{self._slash}{prefix}" if prefix else self._base
        if self._scheme in ("http", "https"):
            top += "/" + self._query
        doing = f"listing {self._shown(prefix)}"
        found = self._try(doing, lambda: self._fresh().find(top, detail=True))
        if not found and self._scheme in ("http", "https"):
            self._check_there(doing, top)
        base = self._strip(self._base).rstrip("/") + "/"
        below = base + prefix + "/" if prefix else base
        names: dict[str, dict[str, Any]] = {}
        for name, info in found.items():
            if info.get("type") == "directory" or not name.startswith(below) or name.endswith("/"):
                continue  # folder markers, and index pages' links to elsewhere
            path = self._unquoted(name[len(base) :])
            if not path.rpartition("/")[2].startswith(TEMPORARY):
                names[path] = info
        entries = {path: entry_of(path, found) for path, found in names.items()}
        bare = [path for path, entry in entries.items() if entry is None or not entry.etag]
        if bare:  # index pages name files and say nothing of them
            with ThreadPoolExecutor(min(len(bare), _LOOKS)) as pool:
                entries.update(zip(bare, pool.map(self.info, bare), strict=True))
        yield from (entry for _, entry in sorted(entries.items()) if entry is not None)

    def _check_there(self, doing: str, top: str) -> None:
        """Raise why an http(s) listing is empty, unless it is: fsspec's walk takes every failure for an empty page."""
        try:
            self._try(doing, lambda: self._fresh().ls(top, detail=False))
        except NotFoundError:
            return  # no folder is an empty one, as on every store

    def _strip(self, url: str) -> str:
        stripped = self._fs._strip_protocol(url)  # noqa: SLF001  (fsspec offers no public name for it)
        return str(stripped)

    def _unquoted(self, name: str) -> str:
        if self._scheme not in ("http", "https"):
            return name
        from urllib.parse import unquote

        return unquote(name.partition("?")[0])

    def _fresh(self) -> Any:
        if self._scheme == "hf":
            self._fs.invalidate_cache()
        return self._fs

    def info(self, path: str) -> Entry:
        """Size and etag of one object, as the service has it now."""
        where = self._where(path)
        found = self._try(f"looking for {self._shown(path)}", lambda: self._fresh().info(where))
        if found.get("type") == "directory":
            raise NotFoundError(f"{self._shown(path)} is a folder", expected="an object", fix="check the path")
        entry = entry_of(path, found)
        if entry is None:
            raise StorageError(
                f"{self._shown(path)}: the server does not say how long it is",
                fix="download it and read the local copy",
            )
        return entry

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end) of an object."""
        if start < 0 or (end is not None and end < start):
            raise ConfigError(f"byte range [{start}, {end})", expected="0 ≤ start ≤ end")
        if end is None:
            return self._rest(path, start)
        if end == start:
            if (size := self.info(path).size) < start:
                raise self._short(path, start, end, size)
            return b""
        return bytes(self.read_ranges(path, [(start, end)])[0])

    def _rest(self, path: str, start: int) -> bytes:
        """From `start` to the end, in one request: of an object that is replaced meanwhile, one version."""
        if start:
            size = self.info(path).size
            if start >= size:
                if start > size:
                    raise self._short(path, start, start, size)
                return b""
        where = self._where(path)
        answer = self._faults.told(f"reading {self._shown(path)}", lambda: self._reads.one(where, (start, None)))
        return b"".join(answer.chunks)

    @property
    def _reads(self) -> RemoteReads:
        fs = self._fs
        with self._lock:
            if self._engine is None:
                from fsspec.asyn import get_loop

                ask = ask_http if self._scheme in ("http", "https") else ask_other
                if hasattr(fs, "_get_s3_method_kwargs"):
                    ask = ask_s3
                endpoint = (self._options.get("client_kwargs") or {}).get("endpoint_url")
                host = self._options.get("endpoint_url") or endpoint or self._base.partition("://")[2].partition("/")[0]
                loop = fs.loop if getattr(fs, "async_impl", False) else get_loop()
                self._engine = RemoteReads(functools.partial(ask, fs), loop, host=str(host), retry=self._retry)
            return self._engine

    @property
    def gap(self) -> int:
        """Bytes worth reading past: what comes in the time that a request takes to begin, as measured so far."""
        return self._reads.gap

    @property
    def counts(self) -> ReadCounts:
        """What reading has cost so far: requests, retries, hedges."""
        return self._reads.counts

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], pinned: Entry | None = None) -> Parts:
        """The bytes of each range, read side by side, each tried again and hedged by itself; see `Store`."""
        where = self._where(path)
        return self._faults.told(f"reading {self._shown(path)}", lambda: self._reads.ranges(where, ranges, pinned))

    def tail(self, path: str, size: int) -> tuple[Entry, bytes]:
        """What an object is and its last bytes: by S3 and HTTP in one request."""
        if self._scheme in _SUFFIXES:
            where = self._where(path)
            try:
                answer = self._faults.told(
                    f"reading {self._shown(path)}", lambda: self._reads.one(where, (-size, None))
                )
            except IntegrityError:
                pass  # an empty object has no last byte
            else:
                if answer.entry is not None and answer.size == min(size, answer.entry.size):
                    return replace(answer.entry, path=path), b"".join(answer.chunks)
        entry = self.info(path)
        data = self.read_ranges(path, [(max(0, entry.size - size), entry.size)], entry)[0] if entry.size else b""
        return entry, bytes(data)

    def _short(self, path: str, start: int, end: int, had: int) -> IntegrityError:
        return IntegrityError(
            f"{self._shown(path)}: bytes [{start:,}, {end:,}) were asked for and it ends at {had:,}",
            expected="an object as long as its index says",
            fix="it was cut short or replaced: upload it again",
        )

    def open(self, path: str) -> BinaryIO:
        """A seekable reader over ranged requests; a server without ranges is copied to a temporary file first.

        Several requests: of an object that is replaced meanwhile, parts of both versions may be read.
        """
        size = self.info(path).size
        if self._scheme in ("http", "https") and size > 1 and not self._has_ranges(path, size):
            return self._copied(path, size)
        return io.BufferedReader(RangeReader(lambda start, end: self.read(path, start, end), size), 64 << 10)

    def _has_ranges(self, path: str, size: int) -> bool:
        def probe() -> bool:
            try:
                with self._fs.open(self._where(path), block_size=1, cache_type="none", size=size) as file:
                    file.seek(size - 1)
                    return len(file.read(1)) == 1
            except ValueError:  # fsspec's word for a server that answers a range with everything
                return False

        return self._try(f"reading {self._shown(path)}", probe)

    def _copied(self, path: str, size: int) -> BinaryIO:
        import tempfile

        file = tempfile.NamedTemporaryFile(prefix="datapipe-")  # noqa: SIM115  (closed by the reader)
        self._try(f"reading {self._shown(path)}", lambda: self._fs.get_file(self._where(path), file.name))
        copy = open(file.name, "rb")  # noqa: SIM115, PTH123  (the same)
        file.close()
        if (had := copy.seek(0, io.SEEK_END)) != size:
            copy.close()
            raise self._short(path, 0, size, had)
        copy.seek(0)
        return copy

    # Writing

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """Write an object atomically."""
        whole = data if isinstance(data, bytes) else bytes(data)
        return self._written(path, len(whole), lambda where: self._fs.pipe_file(where, whole))

    def put_if(self, path: str, data: bytes, before: Entry | None) -> bool:
        """See `Store.put_if`. A write whose answer was lost, and that is tried again, is taken for another's."""
        where, mark = self._where(path), None if before is None else mark_of(before)
        done = self._try(f"writing {self._shown(path)}", lambda: put_if(self._fs, where, data, mark))
        return super().put_if(path, data, before) if done is None else done

    def put_file(self, path: str, source: str) -> Entry:
        """The same from a local file, which stays."""
        from datapipe.storage.local import LocalStore
        from datapipe.storage.paths import split_url

        root, name = split_url(source)
        size = LocalStore(root).info(name).size  # a source that is not there is told as such, not as remote trouble
        return self._written(path, size, lambda where: self._fs.put_file(source, where))

    def _written(self, path: str, size: int, write: Callable[[str], Any]) -> Entry:
        where = self._where(path)

        def beside() -> None:
            import uuid

            folder = where.rpartition("/")[0]
            temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
            self._fs.makedirs(folder, exist_ok=True)
            try:
                write(temporary)
                self._fs.mv(temporary, where)
            except BaseException:
                if self._fs.exists(temporary):
                    self._fs.rm_file(temporary)
                raise

        if self._scheme in ("http", "https"):
            raise StorageError(
                f"writing {self._shown(path)}: http(s) is read-only", fix="write to a folder or a bucket"
            )
        self._try(f"writing {self._shown(path)}", (lambda: write(where)) if self._scheme in _PUT_IS_ATOMIC else beside)
        entry = self.info(path)
        if entry.size != size:
            raise IntegrityError(
                f"{self._shown(path)}: {size:,} bytes were written and {entry.size:,} are there",
                fix="check that nothing else writes there, then run again",
            )
        return entry

    def delete(self, path: str) -> None:
        """Remove one object."""
        where = self._where(path)
        try:
            self._try(f"deleting {self._shown(path)}", lambda: self._fs.rm_file(where))
        except NotFoundError:
            return


def _rebuild(url: str, options: dict[str, Any], retry: Retry) -> RemoteStore:
    return RemoteStore(url, storage_options=options, retry=retry)
