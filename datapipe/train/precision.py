"""Where a run computes and in which numbers.

What enters: "auto", or what the user asks for. What leaves: a torch.device that is there, "bf16" or "fp32", and the
context to compute in. Invariant: weights, optimizer state and losses are float32 either way; bf16 is for the matrix
products, which need no loss scaling in it (its exponent is float32's).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from datapipe.device.transfer import check_device
from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["bf16", "fp32"]
PRECISIONS: Final = ("auto", "bf16", "fp32")


def choose_device(name: str) -> torch.device:
    """The device of "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".

    Raises:
        ConfigError: it is not there, or not one of these.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    found: torch.device = check_device(name)
    if found.type == "cuda" and ":" not in name:
        return torch.device("cuda", torch.cuda.current_device())
    return found


def choose_precision(name: str, device: torch.device) -> Precision:
    """Turn "auto" into bf16 where the device multiplies it in hardware, else into fp32.

    Raises:
        ConfigError: another name, or bf16 on a GPU that would only emulate it.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"precision={name!r}", expected=", ".join(PRECISIONS))
    if name == "fp32":
        return "fp32"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bf16" and not native:
            raise ConfigError(
                f'precision="bf16" on {torch.cuda.get_device_name(device)}, which has no bf16 units',
                fix='precision="fp32"',
            )
        return "bf16" if native else "fp32"
    return "bf16" if name == "bf16" or cpu_multiplies_bf16() else "fp32"


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 instructions (AVX-512 BF16 or AMX) and torch says so.

    Measured with AVX-512 BF16 on two cores: a training step of a 2 M parameter GPT took 0.6 of its float32 time.
    Elsewhere bf16 is emulated, and slower than float32.
    """
    capabilities: dict[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer than the oldest torch that is supported
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextlib.contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """On CUDA, let what stays float32 use TF32 matrix units; the process's own setting comes back afterwards."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for forward and loss."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
