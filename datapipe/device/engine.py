"""The contract of a copy engine: what a feeder needs to know about a device, and no more.

What enters: arrays in host memory. What leaves: tensors on the device, whose copies may still be under way.
Invariant: a host buffer is neither written nor freed before `passed` says that the mark set after its copy was reached.
"""

from __future__ import annotations

import abc
from typing import Any


class CopyEngine(abc.ABC):
    """Copies beside the compute: on CUDA and XPU a stream of its own; in tests a device whose copies finish late."""

    @abc.abstractmethod
    def allocate(self, nbytes: int) -> memoryview | None:
        """Host memory that the device can read by itself (page-locked); None: there is none to be had."""

    @abc.abstractmethod
    def is_ready(self, tensor: Any) -> bool:
        """Whether a tensor can be sent from where it lies; else it is copied into memory of `allocate` first."""

    @abc.abstractmethod
    def send(self, tensor: Any, dtype: Any) -> Any:
        """Begin the copy of a host tensor, in order with other sends; cast on the device to `dtype` unless None."""

    @abc.abstractmethod
    def mark(self) -> Any:
        """A mark that is reached when every send so far is done."""

    @abc.abstractmethod
    def passed(self, mark: Any) -> bool:
        """Whether a mark was reached; does not wait."""

    @abc.abstractmethod
    def join(self, mark: Any, tensors: list[Any]) -> None:
        """Let the compute that is issued from now on wait for the mark, on the device; the host goes on at once.

        The tensors' memory belongs to that compute from here on.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """Wait, on the host, until every send is done."""
