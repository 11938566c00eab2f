"""The work folder: which tasks are done, and nothing else remembers it.

    _work/records/<key>.json    a task's record, written after its output
    _work/<kind>/<key>.<kind>   rows, hashes, samples, drop lists, vocabularies
    _work/poison/<key>.json     rows that a task leaves out, as they do harm (`poison`)
    _work/scratch/              files while they are written (local outputs)
    _work/running/<key>         tasks that run (local outputs)

What enters: records and files. What leaves: the record of a task that is really done.
Invariant: a record counts only if it is whole and every file it names is there with its checksum; otherwise the task is
done again. No file here ends like a data file, so an unfinished output never opens as a dataset.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import NotFoundError, PreprocessError, StorageError
from datapipe.preprocess.encrypting import KEPT_SECRET
from datapipe.preprocess.recipe import canonical
from datapipe.preprocess.tasks import OutputFile, TaskRecord, record_from
from datapipe.storage.private import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datapipe.storage import Store

WORK: Final = "_work"
INDEX: Final = "index"
"""What later deliveries are compared with: it belongs to the dataset, and outlives the work folder."""
RECORDS: Final = f"{WORK}/records"
MARKER: Final = f"{WORK}/datapipe.json"
LOCK: Final = f"{WORK}/lock"
LEASE: Final = f"{WORK}/lease.json"
SCRATCH_FOLDER: Final = "DATAPIPE_SCRATCH"
"""Environment of a worker elsewhere: the folder for files that are written before they are stored; else TMPDIR."""
OF_WORKER: Final[ContextVar[str | None]] = ContextVar("scratch folder of the worker that runs this task", default=None)
"""Of several workers in one process, which share its environment, each has its own, and takes it along as it leaves."""
_CHUNK: Final = 16 << 20


@final
class WorkFolder:
    """The work folder of one output store. Used by the driver and by each task; holds no state of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def scratch(self) -> str | None:
        """A local folder for files while they are written: on the output's own disk, made if need be, nobody else's.

        Where the output is remote: the worker's own (`OF_WORKER`, `SCRATCH_FOLDER`), or None, the system's.
        """
        path = self.store.local_path(f"{WORK}/scratch")
        if path is not None:
            return private_folder(path)
        given = OF_WORKER.get() or os.environ.get(SCRATCH_FOLDER)
        return given if given and os.path.isdir(given) else None  # noqa: PTH112

    @contextlib.contextmanager
    def scratch_file(self, kind: str) -> Iterator[str]:
        """A new local file; what is still there at the end is removed."""
        handle, local = tempfile.mkstemp(prefix=f"{kind}-", dir=self.scratch())
        os.close(handle)
        try:
            yield local
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local)  # noqa: PTH108

    def put_file(self, kind: str, key: str, local: str) -> OutputFile:
        """Store a local file as a task's output of this kind (moved, where that is possible)."""
        return self._moved(f"{WORK}/{kind}/{key}.{kind}", local)

    def put_bytes(self, kind: str, key: str, data: bytes) -> OutputFile:
        """The same for bytes at hand."""
        return self._put(f"{WORK}/{kind}/{key}.{kind}", data)

    def copy_file(self, kind: str, checksum: str, local: str) -> OutputFile:
        """A copy of a file of the user's, named by its content; made once.

        Raises:
            PreprocessError: it has changed since it was looked at.
        """
        path = f"{WORK}/{kind}/{checksum}.{kind}"
        if self.store.exists(path):
            there = OutputFile(path=path, bytes=self.store.info(path).size, checksum=checksum)
            if self._holds(there):
                return there
        with self.scratch_file(kind) as copy:
            shutil.copyfile(local, copy)
            found = self.put_file(kind, checksum, copy)
        if found.checksum != checksum:
            self.store.delete(path)
            raise PreprocessError(
                f"{local} changed while it was read", expected="files that stay as they are", fix="run again"
            )
        return found

    def keep_file(self, kind: str, local: str) -> OutputFile:
        """Store a local file in the index, named by its content: the same wherever the input lies."""
        from datapipe.storage import checksum_file

        return self._moved(f"{INDEX}/{kind}/{checksum_file(local)}.{kind}", local)

    def keep_bytes(self, kind: str, data: bytes) -> OutputFile:
        """The same for bytes at hand."""
        from datapipe.storage import checksum_bytes

        return self._put(f"{INDEX}/{kind}/{checksum_bytes(data)}.{kind}", data)

    def _moved(self, path: str, local: str) -> OutputFile:
        from datapipe.storage import checksum_file

        file = OutputFile(path=path, bytes=os.path.getsize(local), checksum=checksum_file(local))  # noqa: PTH202
        self.store.put_file(path, local)
        return file

    def _put(self, path: str, data: bytes) -> OutputFile:
        from datapipe.storage import checksum_bytes

        self.store.put(path, data)
        return OutputFile(path=path, bytes=len(data), checksum=checksum_bytes(data))

    def finish(self, record: TaskRecord) -> None:
        """Write the record: from here on the task is done."""
        from datapipe.storage import checksum_bytes

        plain = record.as_dict()
        data = json.dumps({"check": checksum_bytes(canonical(plain)), "record": plain}, ensure_ascii=False)
        self.store.put(f"{RECORDS}/{record.key}.json", data.encode())

    def recorded(self) -> frozenset[str]:
        """The keys that there are records of: one listing, where a store asked for each of 10^5 would take hours."""
        names = (entry.path.rpartition("/")[2] for entry in self.store.list(RECORDS))
        return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def done(self, key: str) -> TaskRecord | None:
        """The record of a task that is done, its files checked byte by byte; None if it is to be done (again)."""
        from datapipe.storage import checksum_bytes

        try:
            raw = json.loads(self.store.read(f"{RECORDS}/{key}.json"))
            if raw["check"] != checksum_bytes(canonical(raw["record"])):
                return None
            record = record_from(raw["record"])
        except (NotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None
        if record.key != key or not all(self._holds(file) for file in record.files.values()):
            return None
        return record

    def _holds(self, file: OutputFile) -> bool:
        from datapipe.storage import checksum_file

        try:
            if self.store.info(file.path).size != file.bytes:
                return False
            local = self.store.local_path(file.path)
            return (checksum_file(local) if local is not None else self._remote_checksum(file)) == file.checksum
        except StorageError:
            return False

    def _remote_checksum(self, file: OutputFile) -> str:
        import xxhash

        digest = xxhash.xxh3_128()
        for start in range(0, file.bytes, _CHUNK):
            digest.update(self.store.read(file.path, start, min(start + _CHUNK, file.bytes)))
        return digest.hexdigest()

    def running(self, key: str) -> str | None:
        """The local file that is there while a task runs; None where the output is remote."""
        folder = self.store.local_path(f"{WORK}/running")
        if folder is None:
            return None
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103  (a plain path)
        return os.path.join(folder, key)  # noqa: PTH118

    def interrupted(self) -> frozenset[str]:
        """The keys of tasks whose process ended while they ran; asked before any task of this run."""
        folder = self.store.local_path(f"{WORK}/running")
        if folder is None or not os.path.isdir(folder):  # noqa: PTH112
            return frozenset()
        return frozenset(os.listdir(folder))  # noqa: PTH208

    def sweep_scratch(self) -> None:
        """Remove what tasks that were killed left half written."""
        path = self.scratch() if self.store.local_path(WORK) is not None else None
        for name in os.listdir(path) if path is not None else ():  # noqa: PTH208
            left = os.path.join(path or "", name)  # noqa: PTH118
            shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)  # noqa: PTH108, PTH112

    def discard(self, keep: str = "") -> None:
        """Forget everything, but for one file where it is named."""
        for entry in list(self.store.list(WORK)):
            if entry.path not in (LOCK, LEASE, MARKER, KEPT_SECRET, keep):
                self.store.delete(entry.path)

    def prune(self, keep: Iterable[TaskRecord], files: Iterable[str] = ()) -> None:
        """Remove records and files of tasks that no longer belong to the plan, so that the folder does not grow."""
        wanted = {LOCK, LEASE, MARKER, KEPT_SECRET, *files}
        for record in keep:
            wanted.add(f"{RECORDS}/{record.key}.json")
            wanted.update(file.path for file in record.files.values())
        for entry in list(self.store.list(WORK)):
            if entry.path not in wanted:
                self.store.delete(entry.path)


def plain_json(value: Any) -> bytes:
    """Readable JSON, keys sorted, one trailing line end."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
