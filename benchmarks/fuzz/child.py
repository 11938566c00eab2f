"""One target, input after input, in a process that may die: `python child.py TARGET SLOT FOLDER SEED ENGINE SECONDS`.

What enters: a target's name and the file that is shared with the parent (`slot`). What leaves: in the slot, before each
input, the input itself; in FOLDER, each finding (`NAME.bin`, and `NAME.txt` with its traceback), one for each place in
the code that an error came from. Invariant: whatever kills this process, the slot holds the input it was killed by.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final, final

from slot import Slot

ROOM: Final = 3 << 30
"""Bytes that the process may map beyond what it has at its start: an allocation of a damaged length fails."""


@final
class Judge:
    """Runs a target's check and keeps what it must not do."""

    def __init__(self, name: str, slot: Slot, folder: Path) -> None:
        from target import find

        self._target = find(name)
        self._slot = slot
        self._folder = folder
        self._seen: set[str] = {path.stem for path in folder.glob("*.bin")}
        self._peak = _peak_mib()

    @property
    def target(self) -> Any:
        """What is attacked."""
        return self._target

    def __call__(self, data: bytes) -> None:
        """One input."""
        from datapipe.errors import DatapipeError

        self._slot.begin(data)
        refused = False
        try:
            self._target.check(data)
        except DatapipeError:
            refused = True
        except Exception as error:
            self._keep(data, error)
        self._slot.done(refused=refused)
        peak = _peak_mib()
        if peak - self._peak > self._target.memory_mib:
            self._save("memory", data, f"the peak of memory rose by {peak - self._peak:,.0f} MiB")
        self._peak = max(peak, self._peak)

    def _keep(self, data: bytes, error: Exception) -> None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "atheris" not in frame.filename]
        ours = [frame for frame in frames if "/datapipe/" in frame.filename] or frames
        place = f"{type(error).__name__}-{Path(ours[-1].filename).stem}-{ours[-1].lineno}"
        self._save(place, data, "".join(traceback.format_exception(error))[-8000:])

    def _save(self, place: str, data: bytes, said: str) -> None:
        name = f"{place}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"
        if name in self._seen:
            return
        self._seen.add(name)
        (self._folder / f"{name}.bin").write_bytes(data)
        (self._folder / f"{name}.txt").write_text(said, errors="backslashreplace")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_memory() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def seeded(judge: Judge, seed: int, seconds: float) -> None:
    """Mutations of the seeds and of earlier mutations that were read without an error, drawn from a seed."""
    chance = random.Random(seed)
    pool = list(judge.target.seeds())
    seeds = len(pool)
    ends = time.monotonic() + seconds
    for data in pool[:]:
        judge(data)
    while time.monotonic() < ends:
        data = judge.target.mutate(chance.choice(pool), chance)[: 1 << 16]
        before = judge._slot.refused  # noqa: SLF001  (one program)
        judge(data)
        if judge._slot.refused == before and chance.random() < 0.02:  # noqa: SLF001
            if len(pool) < 200:
                pool.append(data)
            else:
                pool[chance.randrange(seeds, len(pool))] = data


def guided(judge: Judge, seed: int, seconds: float, corpus: Path) -> None:
    """The same, where libFuzzer (atheris) keeps the inputs that reach new lines of our code."""
    import atheris

    def mutate(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.3:
            found: bytes = atheris.Mutate(data, most)
            return found
        return bytes(judge.target.mutate(data, chance)[:most])

    corpus.mkdir(exist_ok=True)
    for i, data in enumerate(judge.target.seeds()):
        (corpus / f"seed-{i}").write_bytes(data)
    # Coverage rewards long inputs, which are slow: twice a seed is enough.
    most = min(1 << 16, max(2048, *(2 * len(data) for data in judge.target.seeds())))
    options = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={most}", f"-seed={seed + 1}"]
    options += ["-rss_limit_mb=0", "-timeout=9999", "-handle_segv=0", "-handle_abrt=0", "-handle_fpe=0", "-verbosity=0"]
    options += ["-len_control=0", "-reload=0", "-detect_leaks=0", f"-artifact_prefix={corpus.parent}/"]
    atheris.Setup([sys.argv[0], str(corpus), *options], judge, custom_mutator=mutate)
    atheris.Fuzz()


def main(name: str, slot: str, folder: str, seed: str, engine: str, seconds: str) -> None:
    """See the module."""
    if engine == "guided":
        import atheris

        with atheris.instrument_imports(include=["datapipe"]):
            judge = Judge(name, Slot(Path(slot)), Path(folder))
            for data in judge.target.seeds():  # what is imported where it is used is imported now
                judge(data)
    else:
        judge = Judge(name, Slot(Path(slot)), Path(folder))
        for data in judge.target.seeds():
            judge(data)
    _limit_memory()
    judge._peak = _peak_mib()  # noqa: SLF001  (one program)
    if engine == "guided":
        guided(judge, int(seed), float(seconds), Path(folder) / "corpus")
    else:
        seeded(judge, int(seed), float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
