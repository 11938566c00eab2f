"""Images: a loader's transform that makes pixels of encoded pictures.

What enters: a batch of encoded pictures, as `media_batch` says. What leaves: uint8 [B, H, W, 3] in their place.
Invariant: pictures are those of the step `image_pixels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from datapipe.errors import ConfigError, DecodeError
from datapipe.steps.image_mix import mix_images, partners
from datapipe.steps.image_view import ImageView, Looks
from datapipe.steps.media_batch import encoded_column, row_keys, with_arrays
from datapipe.steps.options import nearest
from datapipe.steps.step import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


@final
class Images:
    """`DataLoader(..., transform=datapipe.Images(size=224, crop="random", flip=0.5))`: pictures as uint8 [B, H, W, 3].

    Send a batch to a GPU as bytes, and let `datapipe.device.normalise_pixels` make floats of it there.

    Args:
        column: of encoded images: binary, or struct<bytes, path>.
        mixup, cutmix: alpha of each, 0: not that one, see `datapipe.steps.image_mix`. Then the batch has
            `<label>_mixed`, the labels that were mixed in, and `<label>_share`, float32 [B], of the row's own: the loss
            is share · loss(label) + (1 - share) · loss(label_mixed).
        label: the column that mixing needs.
        on_error: "raise": a picture that cannot be decoded ends the epoch with a DecodeError that names its row.
            "blank": it is black, and the batch has `<column>_valid`, bool [B].
        view: size, crop, area, ratio, flip, brightness, contrast, saturation, hue, rand_augment, magnitude …: see
            `datapipe.steps.image_view.ImageView`.

    Raises:
        ConfigError: an option is unknown or out of range.
    """

    takes: ClassVar[Literal["columns"]] = "columns"

    def __init__(
        self,
        *,
        column: str = "image",
        label: str = "label",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        on_error: Literal["raise", "blank"] = "raise",
        **view: Any,
    ) -> None:
        known = ImageView.__dataclass_fields__
        if unknown := [name for name in view if name not in known]:
            raise ConfigError(
                f"Images has no option {unknown[0]!r}",
                expected=", ".join(("column", "label", "mixup", "cutmix", "on_error", *known)),
                fix=nearest(unknown[0], known),
            )
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if not 0 <= alpha <= 1:
                raise ConfigError(f"{name} = {alpha!r}", expected="alpha from 0 (not at all) to 1")
        if on_error not in {"raise", "blank"}:
            raise ConfigError(f"on_error = {on_error!r}", expected="'raise' or 'blank'")
        for name in ("size", "area", "ratio"):
            if isinstance(view.get(name), list):
                view[name] = tuple(view[name])
        self.view = ImageView(**view)
        self.column = column
        self.label = label
        self.mixup = mixup
        self.cutmix = cutmix
        self.on_error = on_error

    def __call__(self, columns: dict[str, Any], keys: Any) -> dict[str, Any]:
        """The batch with pixels; `columns` as gathered, `keys` the loader's: seed, epoch, rows, `empty` for its memory.

        Raises:
            DecodeError: a picture cannot be decoded, or is null; the notes name its row.
            ConfigError: a column is missing, or a decoder is not installed.
        """
        encoded = encoded_column(columns, self.column, "images", "Images")
        ids = row_keys(columns, keys)
        drawn = Keys(seed=keys.seed, epoch=keys.epoch)
        pixels = keys.empty((len(encoded), *self.view.shape), "uint8")
        valid = self._fill(pixels, encoded, ids, drawn)
        made = with_arrays(columns, self.column, {self.column: pixels})
        if valid is not None:
            made[f"{self.column}_valid"] = valid
        if self.mixup or self.cutmix:
            self._mix(made, pixels, ids, drawn)
        return made

    def _fill(
        self, pixels: npt.NDArray[np.uint8], encoded: Sequence[Any], ids: Sequence[str], keys: Keys
    ) -> npt.NDArray[np.bool_] | None:
        import numpy as np

        looks = Looks(self.view, ids, keys)
        valid = np.ones(len(encoded), np.bool_) if self.on_error == "blank" else None
        for row, data in enumerate(encoded):
            try:
                looks.look(row, data, pixels[row])
            except DecodeError as error:
                if valid is None:
                    error.add_note(f"row {ids[row]}, column {self.column!r}, place {row} of the batch")
                    error.fix = error.fix or "preprocess with the recipe images, or Images(on_error='blank')"
                    raise
                pixels[row] = 0
                valid[row] = False
        return valid

    def _mix(self, made: dict[str, Any], pixels: npt.NDArray[np.uint8], ids: Sequence[str], keys: Keys) -> None:
        if self.label not in made:
            raise ConfigError(
                f"mixing needs labels, and there is no column {self.label!r}; the batch has {', '.join(made)}",
                fix="Images(label=...), or mixup=0 and cutmix=0",
            )
        labels, other = made[self.label], partners(len(ids))
        made[f"{self.label}_share"] = mix_images(pixels, ids, keys, mixup=self.mixup, cutmix=self.cutmix)
        made[f"{self.label}_mixed"] = [labels[at] for at in other] if isinstance(labels, list) else labels[other]

    def __repr__(self) -> str:
        return f"Images({self.view}, column={self.column!r}, mixup={self.mixup}, cutmix={self.cutmix})"
