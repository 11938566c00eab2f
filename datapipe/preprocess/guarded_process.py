"""A process that runs tasks for another one and may die of it: `python -m datapipe.preprocess.guarded_process LOG`.

What enters: on standard input, (task, whether its record is to be stored), pickled, each with its length before it.
What leaves: on standard output, in the same way, the `Whereabouts` of the task and then its record, or the error
that it raised. Where native code stood when the process died or was asked (SIGUSR1) is written to the file LOG.
Invariant: both ends are this package, and the pipe is between a parent and its child; what steps print goes nowhere.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH: Final = 8
_SIGNAL_AT_PARENTS_END: Final = 1  # PR_SET_PDEATHSIG, prctl(2)


def frame(value: Any) -> bytes:
    """A value as it goes through the pipe."""
    data = pickle.dumps(value)
    return len(data).to_bytes(LENGTH, "little") + data


def main() -> None:
    """Serve until standard input ends."""
    log = open(sys.argv[1], "w")  # noqa: PTH123, SIM115  (faulthandler writes to it as long as the process lives)
    faulthandler.enable(file=log)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=log, all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    pipe = os.dup(1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)

    def say(value: Any) -> None:
        rest = memoryview(frame(value))
        while rest:
            rest = rest[os.write(pipe, rest) :]

    from datapipe.preprocess.execute import complete
    from datapipe.preprocess.limits import told

    for task, store in _asked():
        try:
            with told(say):
                say(complete(task, store=store))
        except Exception as error:
            say(error)


def _asked() -> Iterator[tuple[Any, bool]]:
    source = sys.stdin.buffer
    while len(head := source.read(LENGTH)) == LENGTH:
        yield pickle.loads(source.read(int.from_bytes(head, "little")))  # noqa: S301  (from the parent alone)


def _end_with_parent() -> None:
    """On Linux the kernel ends this process with its parent, also while native code hangs."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_END, signal.SIGKILL)


if __name__ == "__main__":
    main()
