"""What the profile cost the run it profiled: a calibrated price per span times their number, and all that watched.

What enters: the spans, the price of one, the CPU time of the profile's own threads. What leaves: an `Overhead`.
Invariant: everything that ran because of the profile while the run ran is counted, as if none of it had overlapped
anything. What misses the caches because of it is not priced: recorded beside unrecorded steps cost more than this
share on a busy machine. What ran after the run (analysis, files) is told apart, in time.

The price is measured in this process right after the run (`price_of_a_span`): stretches of loop with and without
recording by turns, so that whatever else the machine does meets both alike, and the median of their differences. Its
check is the other way round: a pipeline run with recording on and off in alternating stretches, whose step times are
compared (benchmarks/profiler_overhead.py).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from datapipe.events import Recorder, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RECORDING: Final = 0.01
WITH_TRACE: Final = 0.03
"""What recording, and recording with a trace, may cost: shares of the run's wall."""
_ROUNDS: Final = 25
_SPANS: Final = 40


@final
@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What the profile cost. Times in ns.

    Attributes:
        ns_per_span: the price of the dearest kind of span, measured here.
        spans: recorded on the loop's own thread; elsewhere: on all others.
        loop: price times the loop's spans.
        loader: price times the other spans, divided by the threads that recorded them: what each of those lost.
        watching: CPU time of the threads that keep spans, read counters and probe the lock.
        share: (loop + loader + watching) ÷ wall, as if none of it had overlapped.
        per_step: the same, ns a step.
        writing: time that analysis and files took after the run; 0 where none were written.
        trace: of it, CPU time that the trace took.
        with_trace: (loop + loader + watching + trace) ÷ wall.
    """

    ns_per_span: float
    spans: int
    elsewhere: int
    loop: float
    loader: float
    watching: int
    share: float
    per_step: float
    writing: int
    trace: int
    with_trace: float

    def after(self, *, trace: int, writing: int, wall: int) -> Overhead:
        """The same, with what followed the run: CPU ns of the trace, ns of all files; `wall`: ns of the run."""
        return replace(self, trace=trace, writing=writing, with_trace=self.share + (trace / wall if wall else 0.0))

    @property
    def warning(self) -> str | None:
        """What to tell the user where it cost more than it may."""
        if self.share <= RECORDING:
            return None
        said = f"Recording took up to {self.share:.1%} of the run"
        if self.spans_share > RECORDING:
            return f"{said}: its steps are too short for so many spans."
        return f"{said}: {self.watching_share:.1%} on threads of the profile's own, which run beside it."

    @property
    def spans_share(self) -> float:
        """Of `share`, what the spans took."""
        return self.share - self.watching_share

    @property
    def watching_share(self) -> float:
        """Of `share`, what the profile's own threads took."""
        during = self.loop + self.loader + self.watching
        return self.share * self.watching / during if during else 0.0

    def __str__(self) -> str:
        beside = ", as many at once as there were threads" if self.elsewhere else ""
        trace = (
            f"; {self.with_trace:.2%} with the trace, {self.trace / 1e6:,.0f} ms after the run" if self.trace else ""
        )
        return (
            f"about {self.share:.2%} of the run: {self.spans_share:.2%} for {self.spans + self.elsewhere:,} spans of"
            f" {self.ns_per_span:,.0f} ns{beside}, {self.watching_share:.2%} on threads of the profile's own{trace}"
        )


def overhead(
    recorded: Mapping[int, int], *, consumer: int, ns_per_span: float, watching: int, wall: int, steps: int,
) -> Overhead:  # fmt: skip
    """The cost of one profile.

    Args:
        recorded: thread → spans.
        consumer: the loop's thread number.
        ns_per_span: what one span costs.
        watching: ns of CPU time of the profile's own threads.
        wall: ns, the run.
        steps: how many it had.
    """
    own = recorded.get(consumer, 0)
    others = sum(spans for thread, spans in recorded.items() if thread != consumer)
    threads = len(recorded.keys() - {consumer}) or 1
    loop, loader = ns_per_span * own, ns_per_span * others / threads
    during = loop + loader + watching
    return Overhead(
        ns_per_span=ns_per_span, spans=own, elsewhere=others, loop=loop, loader=loader, watching=watching,
        share=during / wall if wall else 0.0, per_step=during / steps if steps else 0.0,
        writing=0, trace=0, with_trace=during / wall if wall else 0.0,
    )  # fmt: skip


def price_of_a_span(clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """Ns that the dearest kind of span (a timed block, CPU time included) takes here and now.

    The median over rounds of (40 blocks recorded − 40 blocks not recorded) ÷ 40, each round's two stretches one after
    the other.
    """
    recorder = Recorder(256)
    phase = Span(recorder.ring(), recorder.stage("forward"))
    nothing = contextlib.nullcontext()
    differences = []
    for _ in range(_ROUNDS):
        begin = clock()
        for _ in range(_SPANS):
            with nothing:
                pass
        between = clock()
        for _ in range(_SPANS):
            with phase:
                pass
        differences.append((clock() - between) - (between - begin))
    return max(0.0, sorted(differences)[len(differences) // 2] / _SPANS)
