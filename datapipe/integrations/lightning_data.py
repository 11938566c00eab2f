"""A Lightning data module made of our loaders, which checkpoints restore wherever they were written.

What enters: functions that make loaders. What leaves: a `LightningDataModule`.
Invariant: loaders are made in the process that iterates them, once its rank is known; a run that goes on from a
checkpoint takes the batches that would have come next. Lightning itself restores a loader only within an epoch: from a
checkpoint of an epoch's end, or of a run that was over, it would begin with the first epoch's order again.

    Trainer(max_epochs=3).fit(model, DataModule(lambda: datapipe.DataLoader(dataset, 32)), ckpt_path="last")
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, Final, final

from lightning.pytorch import LightningDataModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader import DataLoader

_NAMES: Final = {"validate": "val_dataloader", "test": "test_dataloader", "predict": "predict_dataloader"}


@final
class DataModule(LightningDataModule):
    """Loaders for each of the Trainer's loops.

    Args:
        train, validate, test, predict: functions without arguments that make a `datapipe.DataLoader`; called when the
            Trainer first asks, in each of its processes. The loaders are closed when its loop is torn down.
    """

    def __init__(
        self,
        train: Callable[[], DataLoader],
        *,
        validate: Callable[[], DataLoader] | None = None,
        test: Callable[[], DataLoader] | None = None,
        predict: Callable[[], DataLoader] | None = None,
    ) -> None:
        super().__init__()
        self._makers = {"train": train, "validate": validate, "test": test, "predict": predict}
        self._loaders: dict[str, DataLoader] = {}
        self._state: dict[str, Any] | None = None
        for kind, name in _NAMES.items():
            if self._makers[kind] is None:  # as if it were not defined: Lightning warns of a loop without its loader
                setattr(self, name, MethodType(getattr(LightningDataModule, name), self))

    def train_dataloader(self) -> Any:
        """The loader, where the last checkpoint or the last fit left it."""
        loader = self._made("train")
        if self._state is not None:
            loader.load_state_dict(self._state)
            self._state = None
        return loader

    def val_dataloader(self) -> Any:
        """The loader."""
        return self._made("validate")

    def test_dataloader(self) -> Any:
        """The loader."""
        return self._made("test")

    def predict_dataloader(self) -> Any:
        """The loader."""
        return self._made("predict")

    def state_dict(self) -> dict[str, Any]:
        """What Lightning writes into every checkpoint: plain JSON, the same on every rank."""
        if "train" in self._loaders:
            return {"train": self._loaders["train"].state_dict()}
        return {} if self._state is None else {"train": self._state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the Trainer asks for the loader, which checks it."""
        self._state = state_dict.get("train")

    def teardown(self, stage: str) -> None:  # noqa: ARG002  # Lightning's
        """Close the loaders; another fit goes on where this one stood."""
        self._state = self.state_dict().get("train")
        while self._loaders:
            self._loaders.popitem()[1].close()

    def _made(self, kind: str) -> DataLoader:
        maker = self._makers[kind]
        assert maker is not None
        if kind not in self._loaders:
            self._loaders[kind] = maker()
        return self._loaders[kind]
