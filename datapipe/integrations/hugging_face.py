"""A Hugging Face `Trainer` that is fed by a loader of ours, and goes on where its checkpoint's loader stood.

What enters: a `datapipe.DataLoader` for training and, if wanted, one for evaluation. What leaves: a Trainer whose
checkpoint folders hold `loader.json` beside what the Trainer keeps itself.
Invariant: the state saved counts the batches that the Trainer took for its updates, whatever was made ahead; a resumed
run takes the batches that would have come next, and none is read to be passed over.

    class Trainer(TakesLoader, transformers.Trainer): pass
    Trainer(model, arguments, train_loader=loader).train(resume_from_checkpoint=True)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from transformers.trainer_utils import get_last_checkpoint

from datapipe.errors import ConfigError, StateError
from datapipe.storage.durable import write_durably

if TYPE_CHECKING:
    from datapipe.loader import DataLoader

STATE: Final = "loader.json"


class TakesLoader:
    """To be put before a Trainer among a class's bases: `class Trainer(TakesLoader, transformers.Trainer): pass`.

    Args:
        train_loader: iterated by `train`; its ranks are torch.distributed's, so that Accelerate need not wrap it. Its
            batch_size, not `per_device_train_batch_size`, says how many rows a step of a rank has.
        eval_loader: iterated by `evaluate`, where that is not given a dataset of its own.
        arguments, options: the Trainer's own.

    Raises:
        ConfigError: `train_dataset` is given too.
    """

    def __init__(
        self, *arguments: Any, train_loader: DataLoader, eval_loader: DataLoader | None = None, **options: Any
    ) -> None:
        if options.get("train_dataset") is not None:
            raise ConfigError("both train_loader and train_dataset", fix="leave train_dataset out")
        if eval_loader is not None:
            options.setdefault("eval_dataset", eval_loader.dataset)
        self._train_loader, self._eval_loader = train_loader, eval_loader
        options["train_dataset"] = train_loader.dataset
        super().__init__(*arguments, **options)

    def get_train_dataloader(self) -> Any:
        """The loader as it is."""
        return self._train_loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The loader for evaluation; the Trainer's own where it is given a dataset."""
        mine = self._eval_loader
        if mine is not None and (eval_dataset is None or eval_dataset is mine.dataset):
            return mine
        return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]  # the Trainer's

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # theirs
        """As the Trainer's; into a checkpoint's folder, the loader's state too.

        This comes before the Trainer removes the checkpoints beyond `save_total_limit`, its `on_save` after: a process
        killed in between would leave no checkpoint that a run can go on from.
        """
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]  # the Trainer's
        # One process writes it: any rank's state will do.
        if _internal_call and output_dir is not None and self.args.should_save:  # type: ignore[attr-defined]
            write_durably(str(Path(output_dir) / STATE), json.dumps(self._train_loader.state_dict()).encode())

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """As the Trainer's; from a checkpoint, the loader goes on where it stood then.

        Raises:
            StateError: the checkpoint has no loader's state, or one of another dataset or of other settings.
        """
        taken = resume_from_checkpoint
        arguments = self.args  # type: ignore[attr-defined]  # the Trainer's
        if taken is True:
            taken = get_last_checkpoint(arguments.output_dir)  # type: ignore[no-untyped-call]
        if taken:
            self._train_loader.load_state_dict(_saved_state(Path(taken)))
            arguments.ignore_data_skip = True  # else it reads and drops what the loader has passed already
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)  # type: ignore[misc]


def _saved_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError) as error:
        raise StateError(
            f"{folder} has no readable {STATE}: {error}",
            expected="a checkpoint of a Trainer with `train_loader`",
            fix="an older checkpoint, or loader.set_epoch(…) and resume_from_checkpoint=None",
        ) from error
    return state
