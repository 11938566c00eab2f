"""The worker processes of `torch.utils.data.DataLoader`, each seen through a ring of its own.

What enters: a `DataLoader` that is about to start its workers, by fork, spawn or forkserver. What leaves: their
"worker start", "dataset" and "collate" spans in the run's recorder, under the batch numbers that the waits name.
Invariant: a worker runs what it would run alone, and where its ring cannot be had it runs unseen.

The file of each ring lies in a folder of the run's own and goes with it. A ring is handed on when its worker has ended:
a script that starts workers anew every epoch needs no more rings than it ever has workers at once.

A batch is numbered `iterator · 10¹³ + pass · 10⁹ + task`: iterators as they are made (the first is 0), passes as
persistent workers go round again, tasks as the iterator sends them out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.integrations.torch_fetch import COLLATE, DATASET, Task, next_task, watch_fetch
from datapipe.integrations.torch_pin import Pinning, next_pin
from datapipe.profiling.process_ring import ProcessRing, make_ring_file
from datapipe.profiling.recording import CAPACITY

if TYPE_CHECKING:
    import contextlib

    from datapipe.events import Recorder

START: Final = "worker start"
"""From the loader's `iter()` to a worker's being ready for its first batch: imports, the dataset's unpickling."""
_ITERATOR: Final = 10**13
_PASS: Final = 10**9
_MOST_ITERATORS: Final = 100_000
"""Numbers of iterators go round: twice a batch number must stay below 2⁶³."""


@final
class _Slot:
    """A ring, and the process that writes it, or wrote it last."""

    def __init__(self, path: str, thread: int) -> None:
        self.path = path
        self.thread = thread
        self.worker: Any = None

    @property
    def free(self) -> bool:
        return self.worker is None or not self.worker.is_alive()


@final
class Workers:
    """Rings for the workers of every loader of this process.

    Args:
        recorder: who adopts them.
        undo: puts everything back when the profile ends.
    """

    def __init__(self, recorder: Recorder, undo: contextlib.ExitStack) -> None:
        from torch.utils.data import _utils

        self._recorder = recorder
        self._stages = (recorder.stage(DATASET), recorder.stage(COLLATE), recorder.stage(START))
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        self._made = 0
        self._loop = WorkerLoop(_utils.worker._worker_loop, self._stages)  # noqa: SLF001  (looked up when a worker starts)
        self._folder = Path(tempfile.mkdtemp(prefix="datapipe-rings-"))
        undo.callback(_remove, self._folder, os.getpid())
        undo.callback(setattr, _utils.worker, "_worker_loop", _utils.worker._worker_loop)  # noqa: SLF001
        _utils.worker._worker_loop = self._loop  # type: ignore[assignment]  # noqa: SLF001
        watch_fetch(undo)
        self._pinning = Pinning(recorder, undo)

    def begin(self, count: int) -> Batches:
        """An iterator with `count` workers (0: none) is about to be made on this thread; call `Batches.began` after."""
        with self._lock:
            number, self._made = self._made % _MOST_ITERATORS, self._made + 1
            slots = self._take(count)
        self._loop.here.began = time.perf_counter_ns()
        self._loop.here.first = number * _ITERATOR
        self._loop.here.rings = [(slot.path, slot.thread) for slot in slots]
        return Batches(self._recorder, self._stages, number * _ITERATOR, slots, self._pinning)

    def _take(self, count: int) -> list[_Slot]:
        free = [slot for slot in self._slots if slot.free][:count]
        try:
            while len(free) < count:
                path = str(self._folder / f"{len(self._slots)}.ring")
                make_ring_file(path, CAPACITY)
                self._slots.append(self._adopt(path))
                free.append(self._slots[-1])
        except OSError:
            pass  # a full disk: these workers go unseen, and the ledger shows their batches' waits as the loader's
        for slot in free:
            slot.worker = _Coming()
        return free

    def _adopt(self, path: str) -> _Slot:
        made: list[ProcessRing] = []

        def make(thread: int) -> ProcessRing:
            made.append(ProcessRing(path, thread=thread, name=f"DataLoader worker {len(self._slots)}"))
            return made[0]

        self._recorder.adopt(make)
        return _Slot(path, made[0].thread)


def _remove(folder: Path, owner: int) -> None:
    """Remove the rings' folder, unless this is a child that the script forked."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@final
class _Coming:
    """Stands for a worker that is being started."""

    def is_alive(self) -> bool:
        return True


@final
class Batches:
    """The numbers of one iterator's batches, and in the script's own process the recording of their making."""

    def __init__(
        self, recorder: Recorder, stages: tuple[int, int, int], first: int, slots: list[_Slot], pinning: Pinning
    ) -> None:
        self._recorder = recorder
        self._dataset, self._collate, _ = stages
        self._first = first
        self._slots = slots
        self._pinning = pinning
        self._pass = -1

    def begins(self) -> None:
        """The iterator is about to be made, or to go round again."""
        self._pass += 1

    def began(self, iterator: Any | None) -> None:
        """It does, and its workers are known; None: it could not be made."""
        if iterator is not None and self._pass == 0:
            self._pinning.began(iterator, self._number)
        workers = getattr(iterator, "_workers", ())
        for place, slot in enumerate(self._slots if self._pass == 0 else ()):
            slot.worker = workers[place] if place < len(workers) else None

    def asked(self, iterator: Any, after: int = -1) -> None:
        """The next batch is asked for; without workers this thread makes it, and that is recorded."""
        if not hasattr(iterator, "_rcvd_idx"):
            now, item = time.perf_counter_ns(), self._number(iterator._num_yielded)  # noqa: SLF001
            ring = self._recorder.ring()
            next_task(Task(ring=ring, dataset=self._dataset, collate=self._collate, item=item, asked=now, cause=after))
            next_pin(item)

    def got(self, iterator: Any) -> int:
        """The number of the batch just given, -1 where the iterator does not say (workers whose order is free)."""
        task = getattr(iterator, "_rcvd_idx", None)
        if task is None:
            return self._number(iterator._num_yielded - 1)  # noqa: SLF001
        return self._number(task - 1) if getattr(iterator, "_in_order", True) else -1

    def let_go(self) -> None:
        """The batch was given, or could not be."""
        next_task(None)
        next_pin(-1)

    def _number(self, task: int) -> int:
        return self._first + self._pass * _PASS + task


@final
class WorkerLoop:
    """Stands in for torch's worker loop: a worker attaches to its ring, then runs the original.

    Starting a worker pickles this object, or forks; either way on the thread that makes the iterator, so what that
    thread set in `here` is what the worker gets.
    """

    def __init__(self, original: Any, stages: tuple[int, int, int]) -> None:
        self._original = original
        self._stages = stages
        self.here = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self._stages, dict(vars(self.here)))

    def __call__(self, *args: Any) -> Any:
        """Be the worker."""
        return self._original(*self._observed(list(args)))

    def _observed(self, args: list[Any]) -> list[Any]:
        # torch 2.6 to 2.13: dataset_kind, dataset, index_queue, data_queue, done_event, auto_collation, collate_fn,
        # drop_last, base_seed, init_fn, worker_id, num_workers, persistent_workers, shared_seed.
        rings = getattr(self.here, "rings", [])
        worker = args[-4] if len(args) == 14 else None
        if isinstance(worker, int) and worker < len(rings) and hasattr(args[2], "get"):
            path, thread = rings[worker]
            try:
                ring = ProcessRing(path, thread=thread, name=f"worker {worker}")
            except OSError:
                return args
            watch_fetch()
            args[2] = _Tasks(args[2], ring, self._stages, self.here.first, self.here.began)
        return args


def _remade(stages: tuple[int, int, int], here: dict[str, Any]) -> WorkerLoop:
    from torch.utils.data._utils import worker

    # A worker that was spawned has torch's own loop where the script's process has this object.
    loop = WorkerLoop(worker._worker_loop, stages)  # noqa: SLF001
    vars(loop.here).update(here)
    return loop


@final
class _Tasks:
    """A worker's index queue; what is taken from it is the next batch the worker makes."""

    def __init__(self, inner: Any, ring: ProcessRing, stages: tuple[int, int, int], first: int, began: int) -> None:
        self._inner = inner
        self._ring = ring
        self._dataset, self._collate, self._start = stages
        self._first = first
        self._began = began
        self._asked = -1

    def get(self, *args: Any, **kwargs: Any) -> Any:
        if self._asked < 0:
            self._asked = time.perf_counter_ns()
        message = self._inner.get(*args, **kwargs)
        asked, self._asked = self._asked, -1
        if isinstance(message, tuple):
            item = self._first + int(message[0])
            if self._began >= 0:
                self._ring.write(self._start, item, self._began, self._began, asked, asked)
                self._began = -1
            next_task(Task(ring=self._ring, dataset=self._dataset, collate=self._collate, item=item, asked=asked))
        elif message is not None:  # go round again
            self._first += _PASS
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
