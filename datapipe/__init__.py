"""datapipe: from raw files to a fed GPU, and where every millisecond went.

The public names, imported on first use, so that `import datapipe` pulls in no torch, Dask, Polars or Arrow:

    open_dataset     a folder or URL of Parquet/Arrow shards → Dataset
    DataLoader       Dataset → batches: global order as a pure function, exact resume
    Cache            what was fetched, kept on a local disk for every process of the node
    Images           encoded pictures → a batch of pixels, every draw keyed: a transform of DataLoader
    Sounds           encoded sounds → padded samples or log-mel spectrograms, the same way
    mix, balance     several datasets, or the labels of one, in exact proportions
    Pack, Bucket     documents → rows of one length; batches of near lengths
    preprocess       raw inputs → a sharded dataset, every row accounted for
    profile          where a training step's time goes, with any loader
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.dataset import Dataset, open_dataset
    from datapipe.errors import DatapipeError
    from datapipe.loader import Bucket, DataLoader, Pack, balance, mix
    from datapipe.preprocess import RunSummary, preprocess
    from datapipe.profiling import Profile, profile
    from datapipe.steps.encoded import encode
    from datapipe.steps.images import Images
    from datapipe.steps.sounds import Sounds
    from datapipe.storage.cache import Cache

__version__ = "0.1.0"

_HOME: Final = {
    "Bucket": "datapipe.loader",
    "Cache": "datapipe.storage.cache",
    "DataLoader": "datapipe.loader",
    "DatapipeError": "datapipe.errors",
    "Dataset": "datapipe.dataset",
    "Images": "datapipe.steps.images",
    "Pack": "datapipe.loader",
    "Profile": "datapipe.profiling",
    "RunSummary": "datapipe.preprocess",
    "Sounds": "datapipe.steps.sounds",
    "balance": "datapipe.loader",
    "encode": "datapipe.steps.encoded",
    "mix": "datapipe.loader",
    "open_dataset": "datapipe.dataset",
    "preprocess": "datapipe.preprocess",
    "profile": "datapipe.profiling",
}

__all__ = [
    "Bucket",
    "Cache",
    "DataLoader",
    "DatapipeError",
    "Dataset",
    "Images",
    "Pack",
    "Profile",
    "RunSummary",
    "Sounds",
    "balance",
    "encode",
    "mix",
    "open_dataset",
    "preprocess",
    "profile",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'datapipe' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
