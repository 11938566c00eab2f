"""Run preprocess in a process of its own, and kill it at its n-th write: not a test, a program for test_kill.py.

    python killed.py CORPUS OUTPUT WORKERS MOMENT OVERRIDES

MOMENT: "before:7" and "after:7" kill the process by SIGKILL right before or after its 7th atomic write to the output
(inline runs, where every write is the driver's); "event:7" at the 7th progress event; "never" lets it end.
"""

import itertools
import json
import os
import signal
import sys


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment):
    """Wrap the local store's writes."""
    from datapipe.storage.local import LocalStore

    when, _, number = moment.partition(":")
    count = 0

    def wrap(name):
        real = getattr(LocalStore, name)

        def counted(self, *args):
            nonlocal count
            count += 1
            if when == "before" and count == int(number):
                die()
            result = real(self, *args)
            if when == "after" and count == int(number):
                die()
            return result

        setattr(LocalStore, name, counted)

    if when in ("before", "after"):
        for name in ("put", "put_file"):
            wrap(name)
    events = itertools.count(1)
    return (lambda _: die() if next(events) == int(number) else None) if when == "event" else None


if __name__ == "__main__":
    corpus, output, workers, moment, overrides = sys.argv[1:]
    import datapipe

    report = arm(moment)
    datapipe.preprocess(corpus, output, workers=int(workers), overrides=json.loads(overrides), on_progress=report)
