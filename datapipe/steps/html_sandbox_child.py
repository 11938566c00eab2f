"""The process that parses pages: `python -m datapipe.steps.html_sandbox_child CPU_SECONDS MEMORY_BYTES`.

What enters, on standard input: for each page `<BQ` (what is wanted, bytes) and the page, UTF-8. What leaves, on
standard output: for each page `<BQd` (how it went, bytes, CPU seconds) and the text. Invariant: pages are answered in
order, at most TOGETHER of them at a time, and a page that is wanted AT_ONCE before the next is parsed: where all are,
the page that this process dies of is the first that has no answer.

A page that takes too long is ended by the kernel: the profiling timer counts this process's CPU time, in native code
as well, and its signal is deadly by default. CPU time, so that a busy machine changes no result.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from typing import Final

HEADER: Final = struct.Struct("<BQ")
ANSWER: Final = struct.Struct("<BQd")
DONE, FAILED, OUT_OF_MEMORY = 0, 1, 2

AT_ONCE: Final = 128
"""A bit of what is wanted: answer before the next page, not with some others."""
TOGETHER: Final = 16
"""Pages that are answered together: a switch from process to process costs a twentieth of a page's parsing."""
_ANSWER: Final = 1 << 16


def main(cpu_seconds: float, memory_bytes: int) -> None:
    """Answer until standard input ends."""
    from datapipe.steps.html_extract import extract

    # The parser and its tables are there before the limit is drawn.
    extract("<p>warm</p>", 15)
    limit_memory(memory_bytes)
    source = os.fdopen(0, "rb", buffering=1 << 20)
    answers: list[bytes] = []
    held = 0
    while header := source.read(HEADER.size):
        wanted, size = HEADER.unpack(header)
        page = source.read(size)
        if len(page) < size:
            return
        status, text, began = DONE, b"", time.process_time()
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            text = extract(page.decode(), wanted)
        except Exception as error:
            status = OUT_OF_MEMORY if _lacked_memory(error) else FAILED
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers += (ANSWER.pack(status, len(text), time.process_time() - began), text)
        held += len(text)
        if wanted & AT_ONCE or status == OUT_OF_MEMORY or len(answers) >= 2 * TOGETHER or held >= _ANSWER:
            _write(b"".join(answers))
            answers.clear()
            held = 0
        if status == OUT_OF_MEMORY:
            # What the failed page left behind is not known: a fresh process takes the next.
            os._exit(0)


def _lacked_memory(error: Exception) -> bool:
    """Whether the parser gave up for memory: it says so by the code of lexbor (LXB_STATUS_ERROR_MEMORY_ALLOCATION)."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "HTMLParserException" and "(Error 2)" in str(error)
    )


def limit_memory(extra: int) -> None:
    """Let this process map `extra` bytes more than it has; a system without such limits is left without."""
    import resource

    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, mapped + extra))
    except (OSError, ValueError):
        return


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]), int(sys.argv[2]))
    except (BrokenPipeError, KeyboardInterrupt):
        # Whoever asked is gone.
        os._exit(0)
