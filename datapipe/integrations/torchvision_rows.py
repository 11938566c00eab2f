"""torchvision's transforms, or anything else that takes one picture as a tensor, as a loader's transform.

What enters: the gathered columns of a batch, among them encoded images. What leaves: the same columns with what the
transform made of each picture, stacked. Invariant: torch's, Python's and numpy's generators are seeded for each row by
(seed, epoch, row id), so that a row's draws are the same in any batch, process and rank.

    from torchvision.transforms import v2
    rows = EachPicture(v2.Compose([v2.RandomResizedCrop(224), v2.ToDtype(torch.float32, scale=True)]))
    DataLoader(ds, 64, transform=rows, workers="process")

Only in worker processes: those generators are one for the whole process, and threads of a loader would draw from, and
seed, the very one that the training loop draws its dropout from. `datapipe.Images` has no such limit.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np
import torch

from datapipe.errors import ConfigError, DecodeError
from datapipe.loader.worker import INSIDE
from datapipe.steps.draws import bits
from datapipe.steps.image_decode import decode_image
from datapipe.steps.image_head import MAX_PIXELS
from datapipe.steps.media_batch import encoded_column, row_keys
from datapipe.steps.step import Keys

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class EachPicture:
    """A transform of columns that calls `transform` for one picture after the other.

    Args:
        transform: uint8 [3, H, W], as torchvision's v2 transforms take it → a tensor, of one shape and dtype for all
            pictures.
        column: of encoded images: binary, or Hugging Face's struct<bytes, path>.
        at_least: (height, width) that the transform needs at most, where that is known: JPEGs are then decoded no
            larger than that needs.
        max_pixels: a picture with more is refused.
    """

    takes: ClassVar[Literal["columns"]] = "columns"

    def __init__(
        self,
        transform: Callable[[torch.Tensor], torch.Tensor],
        *,
        column: str = "image",
        at_least: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not callable(transform):
            raise ConfigError(f"transform={transform!r}", expected="a callable: a picture as a tensor → a tensor")
        self.transform = transform
        self.column = column
        self.at_least = at_least
        self.max_pixels = max_pixels

    def __call__(self, columns: dict[str, Any], keys: Any) -> dict[str, Any]:
        """The batch with tensors [B, …] in the images' place.

        Raises:
            ConfigError: it is called in the training process, or there is no such column.
            DecodeError: a picture cannot be decoded. Exception: what the transform raised. Their notes name the row.
        """
        if INSIDE not in os.environ:
            raise ConfigError(
                "torchvision's transforms in a thread of the training process",
                expected="a process of their own: they draw from the generators that training draws from",
                fix='DataLoader(..., workers="process"), or transform=datapipe.Images(...)',
            )
        encoded = encoded_column(columns, self.column, "images", "EachPicture")
        ids = row_keys(columns, keys)
        seeds = bits(ids, Keys(seed=keys.seed, epoch=keys.epoch), "torchvision").tolist()
        made = [self._one(*row) for row in zip(encoded, ids, seeds, strict=True)]
        taken = {self.column, f"{self.column}.bytes", f"{self.column}.path"}
        kept = {name: value for name, value in columns.items() if name not in taken}
        return {self.column: torch.stack(made).numpy() if made else np.empty((0,), np.uint8), **kept}

    def _one(self, data: Any, row: str, seed: int) -> torch.Tensor:
        try:
            if data is None:
                raise DecodeError("a null where an image is", reason="empty")  # noqa: TRY301  (one note for all)
            pixels = decode_image(data, self.at_least, max_pixels=self.max_pixels)
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed & 0xFFFF_FFFF)  # noqa: NPY002  (the one that such transforms draw from)
            return torch.as_tensor(self.transform(torch.from_numpy(pixels).permute(2, 0, 1)))
        except Exception as error:
            error.add_note(f"row {row}, column {self.column!r}")
            raise
