"""Which device is meant, what copies to it, and batches fed to it from any iterator.

What enters: the name of a device; an iterable of batches (tensors, nested at will). What leaves: a torch.device that is
there, its copy engine, the same batches on it, in order. Invariant: a device that is not here, or that torch cannot
copy to, is refused before any batch is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from datapipe.device.engine import CopyEngine
    from datapipe.device.pool import BufferPool

_KNOWN = '"cpu", "cuda", "cuda:N", "xpu" or "mps"'


def feed(
    batches: Iterable[Any],
    device: Any,
    *,
    pin_memory: bool | Literal["auto"] = "auto",
    widen: Mapping[str, Any] | None = None,
    ahead: int = 1,
    ahead_bytes: int | None = None,
    pinned_bytes: int = 512 << 20,
    first_item: int = 0,
) -> Iterator[Any]:
    """Iterate over batches with their tensors on `device`.

    The host never waits for a copy: work issued on the current stream after `next` waits for it on the device. To use a
    batch on another stream, let that stream wait for the current one, and call `record_stream` as torch describes.

    Args:
        batches: any iterable of tensors in dicts, mappings, lists, tuples, named tuples and dataclasses; what is no
            tensor is passed on.
        device: "cpu" (batches are passed through), "cuda", "cuda:1", "xpu", "mps", a torch.device.
        pin_memory: page-lock the host side of copies; "auto": where the device copies by streams (CUDA, XPU).
        widen: name → torch dtype: tensors of a batch dict that are cast after the copy (uint8, uint16, int32 or
            bfloat16 cross the bus as they are).
        ahead, ahead_bytes: batches, and bytes on the device, whose copy is begun beyond the one asked for.
        pinned_bytes: page-locked memory at most.
        first_item: number of the first batch in the spans.

    Raises:
        ConfigError: there is no such device here, or a number is out of range.
    """
    target = check_device(device)
    if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 0:
        raise ConfigError(f"ahead={ahead!r}", expected="a whole number from 0")
    if target.type == "cpu":
        return _cast(batches, widen) if widen else iter(batches)
    from datapipe.device.feeder import Feeder

    engine = make_engine(target, pin_memory)
    pool = pinned_pool(engine, most_bytes=pinned_bytes)
    return Feeder(
        iter(batches), engine, widen=widen, pool=pool, ahead=ahead, ahead_bytes=ahead_bytes, first_item=first_item
    )


def _cast(batches: Iterable[Any], widen: Mapping[str, Any]) -> Iterator[Any]:
    from datapipe.device.nested import replaced

    for batch in batches:
        yield replaced(batch, lambda tensor, name: tensor.to(widen.get(name or "", tensor.dtype)))


def pinned_pool(engine: CopyEngine, *, most_bytes: int) -> BufferPool:
    """Buffers that the engine's device reads by itself, `most_bytes` of them in all; plain ones beyond."""
    from datapipe.device.pool import BufferPool
    from datapipe.device.ring import PinnedRing

    ring = PinnedRing(engine.allocate, most_bytes=most_bytes)
    return BufferPool(ring.take, recycle_all=True, idle_bytes=most_bytes)


def check_device(device: Any) -> Any:
    """The torch.device meant, present on this machine.

    Raises:
        ConfigError: it is not one, not here, or of a kind that is not supported.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError(
            f"device={device!r}, and torch is not installed", fix='pip install "datapipe-toolkit[train]"'
        ) from None
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device={device!r}", expected=_KNOWN) from error
    if target.type == "cpu":
        return target
    if target.type == "meta":
        raise ConfigError(f"device={device!r}, which holds no numbers", expected=_KNOWN)
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if here is None or here.type != target.type:
        name = target.type.upper() if target.type in {"cuda", "xpu", "mps"} else target.type
        raise ConfigError(
            f"device={device!r}, and torch sees no {name} device",
            expected=f"a {name} build of torch and a driver",
            fix='device="cpu", or leave it out' if here is None else f'device="{here.type}", which is here',
        )
    count = torch.accelerator.device_count()
    if target.index is not None and target.index >= count:
        raise ConfigError(f"device={device!r}", expected=f"one of {count} {target.type.upper()} device(s)")
    return target


def make_engine(target: Any, pin_memory: bool | Literal["auto"] = "auto") -> CopyEngine:
    """The copy engine of an accelerator: by streams where it has them."""
    if target.type == "mps":
        from datapipe.device.waiting import WaitingEngine

        return WaitingEngine(target)
    import torch

    from datapipe.device.streams import StreamEngine

    if target.index is None:  # the one that is current now, also when another is later
        target = torch.device(target.type, torch.get_device_module(target).current_device())
    return StreamEngine(target, pin=pin_memory is not False)
