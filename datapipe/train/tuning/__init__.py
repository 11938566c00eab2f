"""The search for a run's options: drawn, halved at rungs, under a budget, and gone on with wherever it was stopped.

space       what is varied
options     what a search is told, and the plan that follows
trial_run   one trial, rung by rung
search      all of them, kept on disk
trials      what it came to, the best first
journal     the file that it is kept in
chart       the same as a page
range_test  one run whose learning rate grows, for a rate to begin with
"""

from datapipe.train.tuning.options import Plan, TuneOptions
from datapipe.train.tuning.range_test import RangeTest, lr_range_test
from datapipe.train.tuning.search import tune
from datapipe.train.tuning.space import Choice, Range, read_space
from datapipe.train.tuning.trial_run import Contender
from datapipe.train.tuning.trials import TrialRow, TuneResult

__all__ = [
    "Choice",
    "Contender",
    "Plan",
    "Range",
    "RangeTest",
    "TrialRow",
    "TuneOptions",
    "TuneResult",
    "lr_range_test",
    "read_space",
    "tune",
]
