"""Spans made by hand, and pipelines simulated with a known truth, for the analysis to be tested against."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from datapipe.events import FIELDS, STAGES
from datapipe.profiling.analysis import RawRun

MS = 1_000_000


class Spans:
    """Collects spans written as (stage, start, end) in ns and gives them as one array."""

    def __init__(self):
        self.stages = list(STAGES)
        self.rows = []

    def add(self, stage, start, end, *, item=-1, cause=-1, thread=0, get=None, put=None, nbytes=0, cpu=0, flags=0):
        if stage not in self.stages:
            self.stages.append(stage)
        get, put = start if get is None else get, end if put is None else put
        number = self.stages.index(stage)
        self.rows.append((item, cause, get, start, end, put, nbytes, cpu, number, thread, flags))
        return self

    def array(self):
        spans = np.array([tuple(map(int, row)) for row in self.rows], dtype=np.dtype(list(FIELDS)))
        return spans[np.argsort(spans["start"], kind="stable")]

    def run(self, began=0, ended=None, wall=None, **more):
        spans = self.array()
        ended = int(spans["end"].max()) if ended is None else ended
        threads = tuple(f"thread {i}" for i in range(int(spans["thread"].max(initial=0)) + 1))
        return RawRun(
            spans=spans, stages=tuple(self.stages), threads=threads, began=began, ended=ended,
            wall=ended - began if wall is None else wall, started_unix_ns=0, **more,
        )  # fmt: skip


@dataclasses.dataclass
class Pipeline:
    """fetch → decode → collate → consumer, one thread each, finite queues; service times given per item (ns)."""

    services: np.ndarray  # [3, n]
    compute: np.ndarray  # [n]
    depth: int = 2

    def finish(self):
        """The run's length; start, end and put as [stage, item]; when the consumer asked, took and was done."""
        stages, n = self.services.shape
        start, end, put = (np.zeros((stages, n)) for _ in range(3))
        asked, take, done = np.zeros(n), np.zeros(n), np.zeros(n)
        for i in range(n):
            for s in range(stages):
                ready = put[s - 1, i] if s else 0.0
                free = put[s, i - 1] if i else 0.0
                start[s, i] = max(ready, free)
                end[s, i] = start[s, i] + self.services[s, i]
                # The queue after stage s holds `depth` items: item i fits once item i - depth was taken from it.
                j = i - self.depth
                room = 0.0 if j < 0 else (start[s + 1, j] if s + 1 < stages else take[j])
                put[s, i] = max(end[s, i], room)
            asked[i] = done[i - 1] if i else 0.0
            take[i] = max(asked[i], put[-1, i])
            done[i] = take[i] + self.compute[i]
        return done[-1], start, end, put, asked, take, done

    def spans(self):
        _, start, end, put, asked, take, done = self.finish()
        spans = Spans()
        for i in range(len(self.compute)):
            for s, name in enumerate(("fetch", "decode", "gather")):
                cause = i if name == "gather" else -1
                spans.add(name, start[s, i], end[s, i], item=i, cause=cause, thread=s + 1, put=put[s, i])
            spans.add("wait", asked[i], take[i], item=i, cause=i)
            spans.add("step", asked[i], done[i], item=i)
            spans.add("forward", take[i], done[i])
        return spans


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture(scope="session")
def new_spans():
    return Spans


@pytest.fixture(scope="session")
def pipeline():
    return Pipeline


@pytest.fixture
def steady_run():
    """A function: n steps of wait, forward and backward (ms), each a scalar or an array; as a `RawRun`."""

    def make(n=50, wait=1.0, forward=2.0, backward=3.0, noise=0.0, seed=0, **more):
        random = np.random.default_rng(seed)
        spans, t = Spans(), 5 * MS
        began = t
        for i in range(n):
            waited, ahead, back = (
                round(float(np.broadcast_to(part, n)[i]) * MS * (1 + noise * random.standard_normal()))
                for part in (wait, forward, backward)
            )
            spans.add("wait", t, t + waited, item=i)
            spans.add("forward", t + waited, t + waited + ahead)
            spans.add("backward", t + waited + ahead, t + waited + ahead + back)
            spans.add("step", t, t + waited + ahead + back, item=i)
            t += waited + ahead + back
        spans.add("epoch", began, t, item=0)
        return spans.run(ended=t + 2 * MS, **more)

    return make
