"""Attack the readers: `python benchmarks/fuzz/run.py [TARGET …] --seconds 600 --out FOLDER`.

Each target runs in a process of its own, one after the other; a row of the table is printed when one is done. An input
that kills its process, or takes more than 10 s of CPU, is kept and the process started again. Findings lie in
FOLDER/TARGET: the input, and what it did. Exit code 1 if there are any. `--replay FILE` runs a target on one input.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from slot import Slot
from target import CPU_SECONDS, MODULES, find

HEAD: Final = "| target | engine | inputs | refused | seconds | findings |"
_WALL_SECONDS: Final = 120.0


def attack(name: str, *, seconds: float, out: Path, engine: str, seed: int) -> str:
    """One target for so long; its row of the table."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slot").unlink(missing_ok=True)
    slot = Slot(folder / "slot")
    began = time.monotonic()
    starts = 0
    while (left := seconds - (time.monotonic() - began)) > 1 and starts < 50:
        _one_process(name, slot, folder, seed + starts, engine, left)
        starts += 1
    took = time.monotonic() - began
    (folder / "slot").unlink(missing_ok=True)
    findings = sorted(path.stem for path in folder.glob("*.bin"))
    return f"| {name} | {engine} | {slot.begun:,} | {slot.refused:,} | {took:.0f} | {', '.join(findings) or 'none'} |"


def _one_process(name: str, slot: Slot, folder: Path, seed: int, engine: str, seconds: float) -> None:
    command = [sys.executable, str(Path(__file__).with_name("child.py")), name, str(folder / "slot"), str(folder)]
    with (
        tempfile.TemporaryDirectory(prefix="datapipe-fuzz-", dir=_memory()) as scratch,
        (folder / "log").open("ab") as log,
    ):
        child = subprocess.Popen(
            [*command, str(seed), engine, str(seconds)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
        at, cpu, since = -1, 0.0, time.monotonic()
        while child.poll() is None:
            time.sleep(0.2)
            if slot.begun != at:
                at, cpu, since = slot.begun, _cpu_seconds(child.pid), time.monotonic()
            elif slot.unfinished and (
                _cpu_seconds(child.pid) - cpu > CPU_SECONDS or time.monotonic() - since > _WALL_SECONDS
            ):
                _save(folder, slot, "hang", f"more than {CPU_SECONDS:.0f} s of CPU")
                child.kill()
                child.wait()
                slot.settle()
                return
    if slot.unfinished:
        _save(folder, slot, f"died{child.returncode}", f"the process ended with {child.returncode}")
        slot.settle()
    elif child.returncode:
        _save(
            folder, slot, f"ended{child.returncode}", f"the process ended with {child.returncode} between inputs: log"
        )


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _save(folder: Path, slot: Slot, kind: str, said: str) -> None:
    name = f"{kind}-{hashlib.sha256(slot.input).hexdigest()[:8]}"
    (folder / f"{name}.bin").write_bytes(slot.input)
    (folder / f"{name}.txt").write_text(said)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(MODULES)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--engine", choices=("guided", "seeded"), help="guided: by coverage, where atheris is installed"
    )
    parser.add_argument("--replay", type=Path)
    args = parser.parse_args()
    names = args.targets or list(MODULES)
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"no target {', '.join(unknown)}")
    if args.replay is not None:
        find(names[0]).check(args.replay.read_bytes())
        return 0
    engine = args.engine or ("guided" if importlib.util.find_spec("atheris") else "seeded")
    print(HEAD, "|---|---|---|---|---|---|", sep="\n", flush=True)
    clean = True
    for name in names:
        row = attack(name, seconds=args.seconds, out=args.out, engine=engine, seed=args.seed)
        clean &= row.endswith("| none |")
        print(row, flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
