"""Run preprocess in a process of its own, and kill it at its n-th write: not a test, a program for test_kill.py.

    python killed.py CORPUS OUTPUT WORKERS MOMENT OVERRIDES RECIPE

OVERRIDES: JSON; `"append": true` among them appends.

MOMENT: "before:7" and "after:7" kill the process by SIGKILL right before or after its 7th atomic write to the output
(inline runs, where every write is the driver's); "event:7" at the 7th progress event; "seconds:0.7" so long after the
first of them; "worker:7" kills a worker process at the 7th event, and lets the run go on; "never" lets it end.
"""

import itertools
import json
import os
import signal
import sys
import threading


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

    def told(_):
        event = next(events)
        if when == "event" and event == int(number):
            die()
        if when == "worker" and event == int(number):
            kill_worker()
        if when == "seconds" and event == 1:
            threading.Timer(float(number), die).start()

    return told


def kill_worker():
    import psutil

    for child in psutil.Process().children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
            return


if __name__ == "__main__":
    corpus, output, workers, moment, overrides, recipe = sys.argv[1:]
    import datapipe

    report = arm(moment)
    overrides = json.loads(overrides)
    append = overrides.pop("append", False)
    datapipe.preprocess(
        corpus, output, recipe, int(workers), overrides=overrides, on_progress=report, append=append
    )  # fmt: skip
