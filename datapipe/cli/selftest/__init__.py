"""`datapipe selftest`: known faults put into a real pipeline, and the profiler graded on what it says of them.

pipe       what a generated pipeline does, as a value; one more run of it, faster or slower, is another value
pipeline   runs one: Parquet on disk, the loader with its threads, a loop; recorded
cases      the generated cases: faults, pairs, healthy controls, each with fixes to execute
trial      one case: profiled, its fixes executed, the two compared
slow_rank  several processes that meet, one of them late
grading    what was said beside what is true, measure by measure: the gates
command    the command line
"""

from datapipe.cli.selftest.command import selftest

__all__ = ["selftest"]
