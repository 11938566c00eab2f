"""Pure steps, Arrow table → Arrow table: the same offline (preprocess) and online (a loader's transform).

`REGISTRY` names them, `find_step` looks one up, `bind` gives it its options, `run_steps` runs a sequence of them over a
table and accounts for every row. Importing this imports no Arrow, polars or tokenizer.
"""

from __future__ import annotations

from datapipe.steps.online import steps_transform
from datapipe.steps.options import options_from, plain_options
from datapipe.steps.registry import REGISTRY, BoundStep, bind, find_step, sieve_of
from datapipe.steps.running import Ran, StepRun, run_steps
from datapipe.steps.step import DETAIL, DROP, QUARANTINE, ROW_ID, Keys, Kind, Step, StepSpec
from datapipe.steps.user_steps import declares

__all__ = [
    "DETAIL",
    "DROP",
    "QUARANTINE",
    "REGISTRY",
    "ROW_ID",
    "BoundStep",
    "Keys",
    "Kind",
    "Ran",
    "Step",
    "StepRun",
    "StepSpec",
    "bind",
    "declares",
    "find_step",
    "options_from",
    "plain_options",
    "run_steps",
    "sieve_of",
    "steps_transform",
]
