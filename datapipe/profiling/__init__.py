"""Where a training step's time goes, with any loader: spans in, a ledger that adds up out.

Profiling reads events alone, so it knows nothing of loaders, devices or frameworks:

    profile, Profile     record a run; `steps()` counts it, `phase()` names its parts
    Summary              what a run came to; `load_profile` reads it back from `profile.json`
    compare              two runs: which parts changed, by how much, with what p
    render               a summary for a terminal
    what_if, predict_all the run replayed with a `Change`: a `Prediction`
    write_report         a summary as one self-contained HTML page
    LiveFigures          how a run is going: what the sinks of `profile(live=…)` are given
    merge_traces         traces of ranks and of torch.profiler in one, on one clock
    load_run             the same for a job: the profiles of its ranks merged, `Ranks`
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.profiling.changes import Change, Prediction
    from datapipe.profiling.comparison import Comparison, compare
    from datapipe.profiling.live import LiveFigures
    from datapipe.profiling.merging import load_run
    from datapipe.profiling.profile_file import load_profile
    from datapipe.profiling.ranks import Ranks
    from datapipe.profiling.recording import Profile, profile
    from datapipe.profiling.report import write_report
    from datapipe.profiling.summary import Summary
    from datapipe.profiling.terminal import render
    from datapipe.profiling.trace_merge import merge_traces
    from datapipe.profiling.what_if import predict_all, what_if

_HOME: Final = {
    "Change": "changes",
    "Comparison": "comparison",
    "LiveFigures": "live",
    "Prediction": "changes",
    "Profile": "recording",
    "Ranks": "ranks",
    "Summary": "summary",
    "compare": "comparison",
    "load_profile": "profile_file",
    "load_run": "merging",
    "merge_traces": "trace_merge",
    "predict_all": "what_if",
    "profile": "recording",
    "render": "terminal",
    "what_if": "what_if",
    "write_report": "report",
}

__all__ = [
    "Change",
    "Comparison",
    "LiveFigures",
    "Prediction",
    "Profile",
    "Ranks",
    "Summary",
    "compare",
    "load_profile",
    "load_run",
    "merge_traces",
    "predict_all",
    "profile",
    "render",
    "what_if",
    "write_report",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'datapipe.profiling' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"datapipe.profiling.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
