"""What recording costs: ns per `Ring.write`, per `Recorder.span` and per `Profile.phase`; the goal is 2 µs a span.

    python benchmarks/recorder_cost.py [--json]

Each figure is the median over batches of 1,000 calls of the mean per call, less an empty loop's; the best of three
rounds, because other work on the machine only ever adds.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time

from datapipe.events import Recorder, Span

BATCHES, CALLS, ROUNDS = 100, 1_000, 3


def nothing(_recorder):
    for _ in range(CALLS):
        pass


def ring_write(recorder):
    write, stage = recorder.ring().write, recorder.stage("decode")
    for i in range(CALLS):
        write(stage, i, 1, 2, 3, 4, 5, 6)


def ring_write_with_clock(recorder):
    write, stage, clock = recorder.ring().write, recorder.stage("decode"), time.perf_counter_ns
    for i in range(CALLS):
        start = clock()
        end = clock()
        write(stage, i, start, start, end, end)


def recorder_span(recorder):
    for i in range(CALLS):
        with recorder.span("decode", i):
            pass


def profile_phase(recorder):
    stage = recorder.stage("forward")
    for _ in range(CALLS):
        with Span(recorder.ring(), stage):
            pass


def per_call(work):
    recorder, taken = Recorder(), []
    for _ in range(BATCHES):
        begin = time.perf_counter_ns()
        work(recorder)
        taken.append((time.perf_counter_ns() - begin) / CALLS)
    return statistics.median(taken)


def main():
    kinds = (ring_write, ring_write_with_clock, recorder_span, profile_phase)
    empty = min(per_call(nothing) for _ in range(ROUNDS))
    figures = {work.__name__: round(min(per_call(work) for _ in range(ROUNDS)) - empty) for work in kinds}
    if "--json" in sys.argv[1:]:
        print(json.dumps({"ns_per_call": figures, "python": platform.python_version(), "machine": platform.machine()}))
        return
    print(f"Python {platform.python_version()} on {platform.machine()}, ns per call:")
    for name, ns in figures.items():
        print(f"  {name:<24}{ns:>7,}")


if __name__ == "__main__":
    main()
