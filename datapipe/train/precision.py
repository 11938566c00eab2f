"""Where a run computes and in which numbers.

    bf16   matrix products in bfloat16        no loss scaling: its exponent is float32's (arXiv:1905.12322)
    fp16   … in float16                       the loss is scaled, see `loss_scale` (arXiv:1710.03740)
    tf32   … in TensorFloat-32, CUDA alone    10 bits of mantissa for the products, float32 for their sums
    fp32   … in float32, to the last bit of it

What enters: "auto", or what the user asks for. What leaves: a torch.device that is there, one of the four, and the
context to compute in. Invariant: weights, optimizer state and losses are float32 in all of them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from datapipe.device.transfer import check_device
from datapipe.errors import ConfigError
from datapipe.train.config import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["bf16", "fp16", "tf32", "fp32"]
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}
_TF32_FROM: Final = (8, 0)
"""CUDA compute capability with TF32 units: Ampere (NVIDIA A100 whitepaper, "TensorFloat-32")."""


def choose_device(name: str) -> torch.device:
    """The device of "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".

    Under torchrun "cuda" is the device of LOCAL_RANK, else the current one.

    Raises:
        ConfigError: it is not there, or not one of these.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    found: torch.device = check_device(name)
    if found.type == "cuda" and ":" not in name:
        local = os.environ.get("LOCAL_RANK", "")
        return check_device(f"cuda:{local}") if local.isdecimal() else torch.device("cuda", torch.cuda.current_device())
    return found


def choose_precision(name: str, device: torch.device) -> Precision:
    """Turn "auto" into bf16 where the device multiplies it in hardware, else into fp32.

    Raises:
        ConfigError: another name, or one that the device would only emulate or does not know.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"precision={name!r}", expected=", ".join(PRECISIONS))
    if name == "tf32":
        _check_tf32(device)
        return "tf32"
    if name == "fp32":
        return "fp32"
    if name == "fp16":
        return "fp16"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bf16" and not native:
            raise ConfigError(
                f'precision="bf16" on {torch.cuda.get_device_name(device)}, which has no bf16 units',
                fix='precision="fp16"',
            )
        return "bf16" if native else "fp32"
    return "bf16" if name == "bf16" or cpu_multiplies_bf16() else "fp32"


def _check_tf32(device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError(
            f'precision="tf32" on {device.type}', expected="a CUDA device", fix='precision="fp32", or "auto"'
        )
    if torch.cuda.get_device_capability(device) < _TF32_FROM:
        raise ConfigError(
            f'precision="tf32" on {torch.cuda.get_device_name(device)}, which has no TF32 units',
            fix='precision="fp16" or "fp32"',
        )


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
def float32_products(device: torch.device, precision: Precision = "tf32") -> Iterator[None]:
    """On CUDA, let float32 products use TF32 units unless "fp32" was asked for; the process's own setting comes back.

    With bf16 and fp16 these are what autocast leaves in float32.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def half(precision: Precision) -> torch.dtype | None:
    """The 16-bit type that the matrix products are in; None: they are in 32."""
    return _DTYPES.get(precision)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for forward and loss."""
    dtype = half(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
