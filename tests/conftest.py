"""What holds for every test, in every room."""

from __future__ import annotations

import gc
import signal

import hypothesis

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C and all that it starts inherits that; the tests send Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """The tests themselves are a large heap that stays: without it a collection takes a tenth of the time."""
    gc.collect()
    gc.freeze()
