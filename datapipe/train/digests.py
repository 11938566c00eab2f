"""Which batches a loader gives next, as checksums: how one process shows another that it would go on alike.

What enters: a loader. What leaves: one xxh3_128 a batch. Invariant: equal digests mean equal names, dtypes, shapes and
values; where the tensors lie does not enter.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch

from datapipe.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.train.batches import ResumableLoader


def next_batch_digests(loader: ResumableLoader, n: int) -> list[str]:
    """The digests of the next `n` batches, over the end of an epoch where it comes.

    The loader is left where it stood: a look ahead, at the price of making those batches.

    Raises:
        TrainError: the loader has none.
    """
    state = loader.state_dict()
    # An epoch that was broken off is otherwise followed by the next one, not gone on with.
    loader.load_state_dict(state)
    found: list[str] = []
    try:
        while len(found) < n:
            iterator = iter(loader)
            got = [batch_digest(batch) for batch in itertools.islice(iterator, n - len(found))]
            close = getattr(iterator, "close", None)
            if callable(close):
                close()
            if not got:
                raise TrainError("a loader that gave no batch", fix="a smaller batch_size, or more rows")
            found += got
    finally:
        loader.load_state_dict(state)
    return found


def batch_digest(batch: Any) -> str:
    """xxh3_128 of a batch, 32 hexadecimal digits: a dict, list or tuple of tensors and plain values."""
    import xxhash

    digest = xxhash.xxh3_128()
    for part in _parts("", batch):
        # Lengths keep ("ab", "c") apart from ("a", "bc").
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _parts(name: str, value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    elif isinstance(value, dict):
        yield f"{name} {{{len(value)}}}".encode()
        for key in sorted(value, key=str):
            yield from _parts(f"{name}.{key}", value[key])
    elif isinstance(value, (list, tuple)):
        yield f"{name} [{len(value)}]".encode()
        for place, each in enumerate(value):
            yield from _parts(f"{name}.{place}", each)
    else:
        yield f"{name} {value!r}".encode()
