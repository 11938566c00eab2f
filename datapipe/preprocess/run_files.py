"""The files that tell of a run, beside the dataset: `run.json`, the figures of all runs, and `report.html` of the last.

What enters: a run that is about to publish. What leaves: the two files. Invariant: neither belongs to the dataset (they
hold times), and nothing that reads the dataset reads them; a run that found everything done leaves the report of the
run that did it. `run.json` is written last of all: a dataset that it does not tell of was published by a run that was
killed before its end.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import NotFoundError
from datapipe.preprocess.histograms import histograms
from datapipe.preprocess.publishing import RUN
from datapipe.preprocess.representation import representation
from datapipe.preprocess.run_report import REPORT, report_html
from datapipe.preprocess.stored_run import stored_run
from datapipe.preprocess.work import plain_json

if TYPE_CHECKING:
    from datapipe.dataset import Manifest
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.row_ledger import RowLedger
    from datapipe.preprocess.summary import RunSummary
    from datapipe.storage import Store

MOST_RUNS: Final = 100
_TIMINGS: Final = (
    "fingerprint",
    "recipe",
    "snapshot",
    "documents_in",
    "documents_out",
    "bytes_in",
    "seconds",
    "docs_per_s",
    "mb_per_s",
    "tasks_run",
    "tasks_reused",
    "workers",
    "stages",
    "steps",
)


def run_files(store: Store, plan: Plan, manifest: Manifest, ledger: RowLedger, summary: RunSummary) -> dict[str, bytes]:
    """Both, by path: of a run that found everything done `run.json` alone.

    Args:
        manifest: which is about to be published; what it names is there.

    Raises:
        StorageError: a signals file cannot be read.
    """
    files = {}
    done_before = summary.tasks_run == 0 and tells_of(store, manifest) and store.exists(REPORT)
    if not done_before:
        splits = {split.index for split in plan.splits}
        run = stored_run(store, manifest, splits)
        # Columns of shards are read of a dataset's first delivery: an append costs what is appended.
        represented = representation(run, splits if manifest.snapshot else None) if run.files else None
        counts = histograms(run) if run.files else None
        html = report_html(summary, manifest, ledger.stages, counts, splits=splits, represented=represented)
        files[REPORT] = html.encode("utf-8", "replace")
    plain = {key: value for key, value in summary.as_dict().items() if key not in ("output", "rejects")}
    mine = {"ended": datetime.now(tz=UTC).isoformat(timespec="seconds")} | {key: plain[key] for key in _TIMINGS}
    runs = [*runs_told(store), mine][-MOST_RUNS:]
    return {**files, RUN: plain_json({**plain, "runs": runs})}


def tells_of(store: Store, manifest: Manifest) -> bool:
    """Whether `run.json` is that of the run that published this manifest."""
    found = _read(store)
    return (found.get("fingerprint"), found.get("snapshot")) == (manifest.fingerprint, manifest.snapshot)


def runs_told(store: Store) -> list[Any]:
    """The runs that `run.json` tells of."""
    runs = _read(store).get("runs", [])
    return runs if isinstance(runs, list) else []


def _read(store: Store) -> dict[str, Any]:
    """`run.json`; nothing where it is not there, or is not what a run wrote."""
    try:
        found = json.loads(store.read(RUN))
    except (NotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
