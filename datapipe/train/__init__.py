"""Training: a small decoder-only model and an instrumented loop that can be stopped anywhere and goes on exactly.

train, TrainConfig      the loop: steps, schedule, accumulation, checkpoints; what it may be told
Layout                  the processes that train together: data, shard, tensor, pipeline
TrainResult             where it came to
GPT, GPTConfig          the model: documents packed into one row do not see each other
Supervised              any other module: inputs and targets by column, a loss by name
evaluate                the exact mean loss over all that a loader gives
load_checkpoint         a checkpoint, checked, as tensors and plain JSON
latest_checkpoint       the newest one of a run
export_model            a checkpoint's weights as one safetensors file
memory_report           where a step's memory goes, estimated and measured
trained_gpt             the GPT of a run or of an exported file
sample, Draw            text from a model, and how its tokens are drawn
datapipe.train.tuning   the search for a run's options, and the learning-rate range test
datapipe.train.smaller  LoRA, distillation, pruning, int8, and what each costs
next_batch_digests      which batches a loader would give next, as checksums
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.train.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint
    from datapipe.train.config import TrainConfig
    from datapipe.train.digests import next_batch_digests
    from datapipe.train.evaluation import Evaluation, evaluate
    from datapipe.train.export import export_model
    from datapipe.train.layout import Layout
    from datapipe.train.loop import train
    from datapipe.train.memory_report import MemoryReport, memory_report
    from datapipe.train.model import GPT, GPTConfig
    from datapipe.train.result import StepRecord, TrainResult
    from datapipe.train.sampling import Draw, sample
    from datapipe.train.supervised import Supervised
    from datapipe.train.trained import trained_gpt

_HOME: Final = {
    "GPT": "model",
    "Checkpoint": "checkpoint",
    "Evaluation": "evaluation",
    "Draw": "sampling",
    "GPTConfig": "model",
    "Layout": "layout",
    "MemoryReport": "memory_report",
    "StepRecord": "result",
    "Supervised": "supervised",
    "TrainConfig": "config",
    "TrainResult": "result",
    "evaluate": "evaluation",
    "export_model": "export",
    "latest_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "memory_report": "memory_report",
    "next_batch_digests": "digests",
    "sample": "sampling",
    "train": "loop",
    "trained_gpt": "trained",
}

__all__ = [
    "GPT",
    "Checkpoint",
    "Draw",
    "Evaluation",
    "GPTConfig",
    "Layout",
    "MemoryReport",
    "StepRecord",
    "Supervised",
    "TrainConfig",
    "TrainResult",
    "evaluate",
    "export_model",
    "latest_checkpoint",
    "load_checkpoint",
    "memory_report",
    "next_batch_digests",
    "sample",
    "train",
    "trained_gpt",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'datapipe.train' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"datapipe.train.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
