"""`datapipe cut`: which steps to run ahead of time, in preprocessing, and which as batches are read.

sample.py      a few rows of the corpus, preprocessed up to the first place where a cut can be
measuring.py   what each further step costs and stores, and how fast a loader is at each cut
choosing.py    those figures for the whole corpus, priced; the best under a budget
command.py     the command
"""

from datapipe.cli.cut.command import cut

__all__ = ["cut"]
