"""What a GPU is fed: the bus, a loader's share of it, and what a training step pays for its data.

    python benchmarks/gpu/run.py                        the whole, some minutes, on the first accelerator
    python benchmarks/gpu/run.py --only bus batches     one or more of its parts
    python benchmarks/gpu/run.py --json result.json     the same as an object
    python benchmarks/gpu/run.py --quick --device cpu   every part once in small, to see that it runs

What enters: an accelerator. What leaves: a table, and with --json an object. Without an accelerator it says so, and
ends with 0: nothing was measured. Contenders take turns in one run, each checked first: every sample once, unchanged.

- bus: GB/s to the device by size, page-locked and pageable, beside the ceiling: one large page-locked copy.
- batches: of a loader's own copies, on their stream: GB/s and the share of that ceiling (aim: 0.90 and more).
- tokens, images: exposed wait, the share of a step by which the loop is slower than with its data on the device (aim:
  below 0.01), for the built-in GPT on packed tokens and for JPEGs, beside torch's DataLoader(pin_memory, workers).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

sys.path.insert(0, str(Path(__file__).parent))
import bus
import workloads
from clock import Clock

from steps import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTS: Final = ("bus", "batches", "tokens", "images")


def chosen_device(name: str | None) -> tuple[torch.device | None, str]:
    """The device to measure, or None and the reason why not."""
    if name is not None:
        return torch.device(name), ""
    if not torch.accelerator.is_available():
        return None, f"torch {torch.__version__} sees no accelerator here"
    found = torch.accelerator.current_accelerator()
    if found is None or found.type == "mps":
        return None, "MPS has one stream: copies run before the compute, not beside it"
    return found, ""


def of_tokens_and_images(device: torch.device, folder: Path, *, quick: bool) -> dict[str, Callable[[], Any]]:
    """Name → makes the workload."""
    return {
        "tokens": lambda: workloads.tokens(folder / "tokens", device, quick=quick),
        "images": lambda: workloads.images(folder / "images", device, quick=quick),
    }


def fed(clock: Clock, workload: Any, *, quick: bool) -> dict[str, dict[str, float]]:
    """The exposed wait, ours and torch's; both are checked first."""
    with workload.loader() as loader:
        workloads.check(workload, loader)
        workloads.check(workload, workload.peer())
        contenders = {"datapipe": lambda: loader, "torch DataLoader": workload.peer}
        return compare(clock, contenders, workload.step, count=4 if quick else 100, rounds=1 if quick else 5)


def measure(device: torch.device, parts: Sequence[str], folder: Path, *, quick: bool) -> dict[str, Any]:
    """All parts asked for. A part that cannot be run says why under "skipped"."""
    clock = Clock(device)
    result: dict[str, Any] = {
        "device": str(device), "name": device_name(device), "torch": torch.__version__, "cores": os.cpu_count(),
        "machine": platform.machine(), "load": os.getloadavg()[0], "quick": quick, "skipped": {},
    }  # fmt: skip
    sizes = (1 << 12, 1 << 16) if quick else bus.SIZES
    result["bus"] = bus.bandwidth(clock, device, sizes, 3 if quick else 20)
    made: dict[str, Any] = {}
    for name, make in of_tokens_and_images(device, folder, quick=quick).items():
        if name in parts or "batches" in parts:
            try:
                made[name] = make()
            except ImportError as error:
                result["skipped"][name] = str(error)
    if "batches" in parts:
        result["batches"] = {}
        for name, workload in made.items():
            ceiling = result["bus"]["ceiling"]
            found = bus.crossing(clock, device, workload.loader, ceiling=ceiling, batches=6 if quick else 200)
            if found is None:
                result["skipped"][f"batches of {name}"] = f"on {device} they stay where they are"
            else:
                result["batches"][name] = found
    for name, workload in made.items():
        if name in parts:
            result[name] = fed(clock, workload, quick=quick)
    return result


def device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return platform.processor() or platform.machine()
    return str(torch.get_device_module(device).get_device_name(device))


def show(result: dict[str, Any]) -> None:
    print(f"{result['name']}, torch {result['torch']}, {result['cores']} cores, load {result['load']:.1f}")
    print(f"{'bus':24}{'page-locked':>14}{'pageable':>14}  GB/s")
    for row in result["bus"]["sizes"]:
        print(f"  {row['bytes']:>18,} B {row['pinned']:>16.2f}{row['pageable']:>14.2f}")
    for name, row in result.get("batches", {}).items():
        print(
            f"batches of {name}: {row['mb_a_batch']:.2f} MB each, {row['gb_s']:.2f} GB/s on their stream, "
            f"{row['of_ceiling']:.2f} of the ceiling, {row['of_its_size']:.2f} of one copy of that size"
        )
    for name in ("tokens", "images"):
        for loader, row in result.get(name, {}).items():
            print(
                f"{name:8} {loader:22} {row['step_ms']:9.2f} ms a step, exposed {row['exposed']:+7.3f}, "
                f"device idle {row['idle']:6.3f}, host waits {row['host_wait_ms']:7.2f} ms"
            )
    for name, why in result["skipped"].items():
        print(f"{name}: skipped, {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", help='such as "cuda:1"; "cpu" only to see that it runs')
    parser.add_argument("--folder", type=Path, help="where the corpora are kept; a temporary one by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="a file for the result")
    told = parser.parse_args()
    device, why = chosen_device(told.device)
    if device is None:
        print(f"skipped: {why}")
        return
    with tempfile.TemporaryDirectory() as made:
        result = measure(device, told.only, told.folder or Path(made), quick=told.quick)
    show(result)
    if told.json is not None:
        told.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
