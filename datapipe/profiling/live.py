"""A run while it lasts: step time, stall and bottleneck of the newest steps, for whoever shows them.

What enters: a recorder that is being written. What leaves: `LiveFigures`, once in a while, to sinks (a terminal's line,
Prometheus, TensorBoard).
Invariant: looking takes at most 0.5% of a core (a dear look is followed by a long pause), and no sink harms the run:
one that raises is dropped and named in the run's notes.

The figures are the ledger's and the critical path's own over the newest steps, so they agree with the report; they say
nothing of the steps before.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE
from datapipe.profiling.span_archive import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.events import Recorder

    Sink = Callable[["LiveFigures"], None]

STEPS: Final = 64
"""Newest steps that are looked at."""
SPANS: Final = 1024
"""Newest spans of each thread that are looked at."""
_SHARE: Final = 0.005


@final
@dataclass(frozen=True, kw_only=True)
class LiveFigures:
    """How a run is going.

    Attributes:
        seconds: since the recorder was made.
        steps: steps ended so far, by their numbers.
        window: the newest of them, that the following figures are over.
        step_seconds: their mean length.
        stall: the share of it that waits for data, not hidden by the device, or copies it, 0 to 1.
        bottleneck: the stage or part that bounds the step, by name; None where it cannot be told.
        resident_bytes: this process's memory, None where the system does not say.
    """

    seconds: float
    steps: int
    window: int
    step_seconds: float
    stall: float
    bottleneck: str | None
    resident_bytes: int | None

    def __str__(self) -> str:
        from datapipe.profiling.verdict import MODERATE, ms

        named = f" · bound by {self.bottleneck}" if self.bottleneck else ""
        state = "stalled" if self.stall >= MODERATE else "stall"
        return f"step {self.steps:,} · {ms(self.step_seconds * 1e9)} · {state} {self.stall:.0%}{named}"


def look(recorder: Recorder) -> LiveFigures | None:
    """The figures of the newest steps; None before the second step has ended."""
    import numpy as np

    spans = _newest(recorder)
    stages = recorder.stages
    steps = spans[(spans["stage"] == stages.index("step")) & (spans["flags"] & DEVICE == 0)]
    if len(steps) < 2:
        return None
    thread = np.bincount(steps["thread"]).argmax()
    steps = np.sort(steps[steps["thread"] == thread], order="start")[-STEPS:]
    began, ended = int(steps["start"][0]), int(steps["end"].max())
    # The loader is ahead of the loop: what made these steps' batches may have begun before them.
    lead = ended - began
    spans = spans[(spans["start"] >= began - lead) & (spans["end"] <= ended)]
    spans = spans[(spans["thread"] != thread) | (spans["start"] >= began)]
    bottleneck, share = _judged(spans, stages, began, ended)
    return LiveFigures(
        seconds=(time.perf_counter_ns() - recorder.started_ns) / 1e9,
        steps=max(int(steps["item"].max()) + 1, len(steps)),
        window=len(steps),
        step_seconds=float((steps["end"] - steps["start"]).mean()) / 1e9,
        stall=share,
        bottleneck=bottleneck,
        resident_bytes=resident_bytes(),
    )


def _newest(recorder: Recorder) -> npt.NDArray[np.void]:
    """The newest spans of each ring, by their start; one that is under the pen at this moment is left out."""
    import numpy as np

    from datapipe.events import FIELDS

    found = [ring.array()[-SPANS:] for ring in recorder.rings()]
    spans = np.concatenate([np.empty(0, dtype=np.dtype(list(FIELDS))), *found])
    whole = (spans["start"] > 0) & (spans["get"] <= spans["start"]) & (spans["start"] <= spans["end"])
    spans = spans[whole & (spans["stage"] < len(recorder.stages))]
    return spans[np.argsort(spans["start"], kind="stable")]


def _judged(
    spans: npt.NDArray[np.void], stages: Sequence[str], began: int, ended: int
) -> tuple[str | None, float]:  # fmt: skip
    """The bottleneck and the share of the step that is input, as the report would say of these spans."""
    from datapipe.profiling.analysis import RawRun, summarise

    run = RawRun(
        spans=spans, stages=tuple(stages), threads=(), began=began, ended=ended, wall=ended - began, started_unix_ns=0,
    )  # fmt: skip
    verdict = summarise(run).verdict
    return verdict.bottleneck, verdict.input_share


@final
class Watch:
    """Looks at a run every so often, on a thread of its own, and tells its sinks.

    Args:
        recorder: of the run.
        sinks: called with the figures; one with a `close` is closed at the end.
        every: seconds between two looks, at least.
    """

    def __init__(self, recorder: Recorder, sinks: Sequence[Sink], *, every: float = 1.0) -> None:
        self._recorder = recorder
        self._sinks = list(sinks)
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="datapipe-live", daemon=True)

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time, so that a short run is told of too, and close the sinks."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self.tell()
        for sink in list(self._sinks):
            close = getattr(sink, "close", None)
            if callable(close):
                self._safely(sink, close)

    def tell(self) -> float:
        """Look once and tell the sinks; the seconds of CPU time it took."""
        began = time.thread_time()
        figures = look(self._recorder)
        if figures is not None:
            for sink in list(self._sinks):
                self._safely(sink, lambda sink=sink: sink(figures))  # type: ignore[misc]
        return time.thread_time() - began

    def _watch(self) -> None:
        pause, first = self._every, True
        while not self._done.wait(pause):
            took = self.tell()
            # What the first look imports is paid once.
            pause, first = self._every if first else max(self._every, took / _SHARE), False

    def _safely(self, sink: Sink, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # whatever a sink does, the run goes on
            self._sinks = [other for other in self._sinks if other is not sink]
            self._recorder.notes[f"live: {type(sink).__name__}"] = f"dropped: {type(error).__name__}: {error}"
