"""Recording a run: `with profile("runs/a") as prof`, `prof.steps(loader)`, `prof.phase("forward")`.

What enters: the user's loop, over any iterable of batches. What leaves: spans on the consumer's thread, and at the
end `profile.json`, `report.html` and `trace.json.gz` in the run's folder.
Invariant: the batches, their order, exceptions and the closing of iterators are what they would be without the
profile; a run that ends in an exception is written too, marked incomplete; a child that the run forked writes nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from datapipe import events
from datapipe.errors import DatapipeError, ProfileError
from datapipe.profiling.environment import describe_environment, plain_facts, plain_text
from datapipe.profiling.live import Watch
from datapipe.profiling.loader_facts import loader_facts
from datapipe.profiling.machine_watch import MachineWatch
from datapipe.profiling.nesting import unnested
from datapipe.profiling.overhead import price_of_a_span
from datapipe.profiling.ranks import this_rank
from datapipe.profiling.span_archive import SpanArchive

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.live import Sink
    from datapipe.profiling.summary import Summary

T = TypeVar("T")

CAPACITY: Final = 1 << 13
"""Spans a thread's ring holds between two looks of the archive (590 KB a thread: loaders make threads anew each epoch).
At a look every 0.1 s no thread loses any below 80,000 spans a second."""
TAIL: Final = 300_000
"""Of a run too long to keep all spans as they are, so many of the newest are traced and replayed."""
# The wall is clocked apart from the spans: where there is one, by the clock that no time daemon slews.
_WALL_CLOCK: Final[int | None] = getattr(time, "CLOCK_MONOTONIC_RAW", None)


def _both_clocks() -> tuple[int, int]:
    """The spans' clock and the wall's, read together; again if this thread was put aside in between."""
    for _ in range(10):
        before = time.perf_counter_ns()
        wall = time.monotonic_ns() if _WALL_CLOCK is None else time.clock_gettime_ns(_WALL_CLOCK)
        after = time.perf_counter_ns()
        if after - before < 20_000:
            break
    return (before + after) // 2, wall


@final
class Profile:
    """A run being profiled. Use `datapipe.profile(...)` and a `with` block.

    Attributes:
        recorder: collects the spans; loaders and training loops find it through `events.active()`.
        folder: where the files go, or None; a rank of a job has a folder of its own inside the one that was named.
        unwritten: why the profile could not be written at the end; None where it was.
        rank: which process of a job this is, None for one that is alone.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        title: str = "",
        interval: float = 0.1,
        live: Sequence[Sink] = (),
        brief: bool = False,
    ) -> None:
        self._brief = brief
        self.rank = this_rank()
        self.folder = None if folder is None else Path(folder) / (self.rank.folder if self.rank is not None else "")
        self.recorder = events.Recorder(CAPACITY)
        self._title = plain_text(title)
        self._archive = SpanArchive(self.recorder, capacity=CAPACITY, interval=interval)
        self._watch = Watch(self.recorder, live) if live else None
        self._recording = events.recording(self.recorder)
        self._state = "new"
        self._process = -1
        self._error: str | None = None
        self.unwritten: DatapipeError | None = None
        self._step = 0
        self._epoch = 0
        self._samples: int | None = 0
        self._began = self._ended = self._wall = 0
        self._numbers: dict[str, int] = {}
        self._ns_per_span = 0.0
        self._machine = MachineWatch(interval=5 * interval)  # as cheap as what is looked at more often
        self._loops: list[Generator[Any, None, None]] = []
        self._summary: Summary | None = None

    def __enter__(self) -> Profile:
        if self._state != "new":
            raise ProfileError("this profile has been used", fix="make another: datapipe.profile(...)")
        self._state = "open"
        self._process = os.getpid()
        self._recording.__enter__()
        self._archive.start()
        if self._watch is not None:
            self._watch.start()
        self._machine.start()
        self._began, self._wall = _both_clocks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            # A forked child came out of the block: the run is its parent's, and so are its threads and files.
            self._recording.__exit__(None, None, None)
            self._state = "closed"
            return
        # A loop that an exception left behind may still be held by its traceback: its last step ends now.
        for loop in self._loops:
            loop.close()
        self._ended, wall = _both_clocks()
        self._wall = wall - self._wall
        self._recording.__exit__(None, None, None)
        self._machine.stop()
        self._archive.stop()
        if self._watch is not None:
            self._watch.stop()
        self._state = "closed"
        self._error = None if kind is None else kind.__name__
        self._ns_per_span = price_of_a_span()
        if self.folder is None:
            return
        try:
            self.report()
        except DatapipeError as failed:
            self.unwritten = failed
            if error is None:
                raise
            # The run's own exception is what the user must see.
            error.add_note(f"and its profile could not be written: {failed}")

    def steps(self, batches: Iterable[T]) -> Generator[T, None, None]:
        """Yield the batches, unchanged; each pass is an epoch, each batch a step with its wait.

        A step runs from asking for its batch to asking for the next. Leaving the loop early ends the last step there
        and closes an iterator that was made here.

        Raises:
            ProfileError: the profile is not open.
        """
        if self._state != "open":
            raise ProfileError(
                f"this profile is {'not open yet' if self._state == 'new' else 'closed'}",
                fix="call steps() inside `with datapipe.profile(...) as prof:`",
            )
        loop = self._iterate(batches)
        self._loops = [other for other in self._loops if inspect.getgeneratorstate(other) != inspect.GEN_CLOSED]
        self._loops.append(loop)
        return loop

    def _iterate(self, batches: Iterable[T]) -> Generator[T, None, None]:
        clock = time.perf_counter_ns
        ring = self.recorder.ring()
        write, relieve = ring.write, self._archive.relieve
        step, wait, epoch = (self._number(name) for name in ("step", "wait", "epoch"))
        began = asked = clock()
        iterator = iter(batches)
        place, self._epoch = self._epoch, self._epoch + 1
        for name, value in loader_facts(batches).items():
            self.recorder.notes.setdefault(name, value)
        number = -1
        try:
            while True:
                try:
                    batch = next(iterator)
                except StopIteration:
                    number = -1
                    return
                got = clock()
                number, self._step = self._step, self._step + 1
                write(wait, number, asked, asked, got, got)
                self.count_rows(rows_in(batch))
                yield batch
                del batch  # the loop must not hold a batch while the next is made
                now = clock()
                write(step, number, asked, asked, now, now)
                number, asked = -1, now
                relieve(ring)
        finally:
            now = clock()
            if number >= 0:
                write(step, number, asked, asked, now, now)
            close = getattr(iterator, "close", None)
            if callable(close) and iterator is not batches:
                close()
            now = clock()
            write(epoch, place, began, began, now, now)

    def phase(self, name: str) -> events.Span:
        """Name a part of the step (or of the time between steps): `with prof.phase("forward"): ...`.

        One inside another takes its time from the outer.
        """
        return events.Span(self.recorder.ring(), self._number(name))

    def count_rows(self, rows: int | None) -> None:
        """Add a batch's rows to the samples delivered; one batch that does not say (None) makes the count unknown."""
        if self._samples is not None:
            self._samples = None if rows is None else self._samples + rows

    def keep_up(self) -> None:
        """For whoever owns a loop: keep this thread's spans if its ring fills up. Cheap enough for every step."""
        self._archive.relieve(self.recorder.ring())

    def note(self, name: str, value: object) -> None:
        """A fact for the report: batch size, model, device. Credentials in URLs are masked."""
        self.recorder.notes[name] = value

    def summary(self) -> Summary:
        """What the run came to; inside the `with` block, what it has come to so far."""
        from datapipe.profiling.analysis import summarise

        if self._state == "new":
            raise ProfileError("this profile has not run", fix="use it: with datapipe.profile(...) as prof: ...")
        if self._state == "open":
            return summarise(self.raw())
        if self._summary is None:
            self._summary = summarise(self.raw())
        return self._summary

    def report(self) -> Path:
        """Write `profile.json`, `trace.json.gz`, `spans.npz` and `report.html`; the path of `report.html`.

        A brief profile writes the first and the last.

        Raises:
            ProfileError: the profile has no folder, or it cannot be written.
            NoSpaceError: the disk is full.
        """
        from datapipe.profiling.advisor import advise
        from datapipe.profiling.chrome_trace import write_trace
        from datapipe.profiling.profile_file import save_profile
        from datapipe.profiling.report import write_report
        from datapipe.profiling.span_file import save_spans

        if self.folder is None:
            raise ProfileError("this profile has no folder to write to", fix='name one: datapipe.profile("runs/a")')
        summary = self.summary()
        save_profile(summary, self.folder)  # first: a disk that the trace fills keeps it
        if self._brief:
            return write_report(summary, self.folder)
        run, began = self.raw(), time.perf_counter_ns()
        summary = self._summary = dataclasses.replace(summary, advice=advise(run.newest))
        before = time.thread_time_ns()
        write_trace(run, self.folder)
        traced = time.thread_time_ns() - before
        save_spans(run.newest, self.folder)
        if summary.overhead is not None:
            cost = summary.overhead.after(trace=traced, writing=time.perf_counter_ns() - began, wall=run.wall)
            summary = self._summary = dataclasses.replace(summary, overhead=cost)
            save_profile(summary, self.folder)
        return write_report(summary, self.folder)

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self.recorder.stage(name)
            if len(self._numbers) < events.MOST_NAMES:
                self._numbers[name] = number
        return number

    def raw(self) -> RawRun:
        """The run as recorded until now, before any analysis: its spans, of a long run the newest and all as packed."""
        from datapipe.profiling.analysis import RawRun

        done = self._state == "closed"
        long = self._archive.long()
        spans = self._archive.spans() if long is None else long.tail(TAIL)
        lost = self._archive.lost
        ended, wall = _both_clocks()
        watched = self._machine.watched()
        return RawRun(
            spans=unnested(spans, self.recorder.stages),
            stages=self.recorder.stages,
            threads=self.recorder.threads,
            began=self._began,
            ended=self._ended if done else ended,
            wall=self._wall if done else wall - self._wall,
            # When `began` was, so that a trace can be put beside another recorder's.
            started_unix_ns=self.recorder.started_unix_ns + self._began - self.recorder.started_ns,
            complete=done and self._error is None,
            error=self._error,
            title=self._title,
            samples=self._samples or None,
            lost=sum(lost.values()),
            ns_per_span=self._ns_per_span,
            memory=self._archive.memory,
            watched=watched,
            long=long,
            background_cpu=self._archive.cpu_ns + watched.cpu,
            environment=describe_environment(),
            notes=plain_facts(loader_facts(self.recorder.loader) | self.recorder.notes),
            rank=self.rank,
        )


def profile(
    folder: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
    interval: float = 0.1,
    live: Sequence[Sink] = (),
    brief: bool = False,
) -> Profile:
    """Profile a run: where each step's time goes, with any loader.

    Args:
        folder: where `profile.json`, `report.html` and `trace.json.gz` go at the end; None: nowhere. Under torchrun
            each rank writes into `rank-N` inside it.
        title: a name for the report.
        interval: seconds between two looks at memory and at full span rings; the machine's counters are read at every
            fifth.
        live: called about once a second with the `LiveFigures` of the newest steps, on a thread of its own:
            `datapipe.integrations.prometheus.Prometheus`, `…tensorboard.TensorBoard`, or any function.
        brief: write `profile.json` and `report.html` alone: no trace, no spans to replay, no advice.

    Example:
        >>> import datapipe
        >>> with datapipe.profile() as prof:
        ...     for batch in prof.steps([1, 2, 3]):
        ...         with prof.phase("forward"):
        ...             result = batch * 2
        >>> prof.summary().series.count
        3
    """
    return Profile(folder, title=title, interval=interval, live=live, brief=brief)


def rows_in(batch: object) -> int | None:
    """How many rows a batch has: the first dimension of its first array, or None where it does not say."""
    for _ in range(4):  # a dict of lists of tuples of tensors is as deep as batches come
        shape = getattr(batch, "shape", None)
        if shape is not None:
            return int(shape[0]) if len(shape) else None
        if isinstance(batch, dict):
            batch = next(iter(batch.values()), None)
        elif isinstance(batch, (list, tuple)):
            batch = batch[0] if batch else None
        else:
            return None
    return None
