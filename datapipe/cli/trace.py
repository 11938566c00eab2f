"""`datapipe trace merge`: traces of ranks and of torch.profiler in one file, on one clock.

What enters: traces, or folders that hold one. What leaves: one trace file. Invariant: none that was given is changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption


def merge(
    traces: Annotated[list[Path], typer.Argument(help="Traces, or folders of profiled runs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("merged.json.gz"),
    json: JsonOption = False,
) -> None:
    """Put traces of one machine on one clock: a run's, its ranks', torch.profiler's; ui.perfetto.dev opens the result.

    Example: datapipe trace merge runs/a torch.json -o both.json.gz
    """
    from datapipe.profiling.trace_merge import merge_traces

    path = merge_traces(traces, output)
    if json:
        console.emit({"ok": True, "trace": str(path)})
    else:
        console.show(path)
