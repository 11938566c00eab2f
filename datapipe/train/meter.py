"""How well a step used the machine: MFU, and the most memory that was held.

What enters: targets a second, the model, the device. What leaves: shares and bytes, None where they are not known.
Invariant: nothing is guessed: a device that is not in the table has no MFU, nor a model that does not say its cost.

MFU (PaLM, arXiv:2204.02311, appendix B) is the floating point operations that the model needs for the targets of a
second, over the device's peak: 6 a parameter and target (2 forward, 4 backward; Kaplan et al., arXiv:2001.08361,
section 2.1) and 12 x layers x width x row length for attention, recomputation not counted. A model says it by
`flops_per_target()`.
"""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING, Final, final

import torch

if TYPE_CHECKING:
    from torch import nn

PEAKS: Final = (
    ("B200", 2250e12), ("H100 NVL", 835e12), ("H100 PCIE", 756e12), ("H100", 989e12), ("H200 NVL", 836e12),
    ("H200", 989e12), ("GH200", 989e12), ("H20", 148e12), ("A100", 312e12), ("A800", 312e12), ("A40", 149.7e12),
    ("A30", 165e12), ("A10", 125e12), ("L40S", 362e12), ("L40", 181e12), ("L4", 121e12), ("RTX 4090", 165.2e12),
    ("RTX 3090", 71e12), ("V100", 125e12), ("T4", 65e12), ("MI300X", 1307.4e12), ("MI250X", 383e12),
)  # fmt: skip
"""Part of the device's name → dense 16-bit matrix operations a second, as the vendor's data sheet has them (without
sparsity, float32 accumulation); the first whose every word is in the name."""
_TF32: Final = ("B200", "H100", "H200", "GH200", "H20", "A100", "A800", "A40", "A30", "A10", "L40S", "L40", "L4", "RTX")
"""Where float32 products can run as TF32: at half the 16-bit rate (the same data sheets)."""


def peak_flops(name: str, precision: str) -> float | None:
    """The operations a second that a device named so can do at most; None: not known.

    Args:
        name: as `torch.cuda.get_device_name` says it. precision: "bf16", "fp16" or "tf32"; that
            of "fp32", which uses no such units, is in no table here.
    """
    words = name.upper().replace("-", " ").split()
    for known, peak in PEAKS:
        if all(word in words for word in known.upper().split()):
            if precision in {"bf16", "fp16"}:
                return peak
            return peak / 2 if precision == "tf32" and any(known.startswith(kind) for kind in _TF32) else None
    return None


@final
class Meter:
    """Measures one run's steps on one device.

    Args:
        peak: operations a second of a device; None: by its name. devices: that compute the targets together.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, precision: str, peak: float | None, *, devices: int = 1
    ) -> None:
        self._device = device
        if peak is None and device.type == "cuda":
            peak = peak_flops(torch.cuda.get_device_name(device), precision)
        says = getattr(model, "flops_per_target", None)
        self._share = None if peak is None or not callable(says) else float(says()) / (peak * devices)

    def mfu(self, targets_per_s: float) -> float | None:
        """The share of the device's peak that a rate of targets is."""
        return None if self._share is None else targets_per_s * self._share

    def memory(self) -> int:
        """Bytes, the most so far: of the device's tensors on CUDA, else of the process (resident)."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10  # Linux counts KiB
