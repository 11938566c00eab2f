"""shuffle, over the corpus: rows in a seeded random order."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, final

from datapipe.preprocess.passes.moving_pass import KeyCollector, MovingPass


@final
class ShuffleKeyCollector(KeyCollector):
    """Keyed draws."""

    step = "shuffle"


@final
class ShufflePass(MovingPass):
    """See the module."""

    step = "shuffle"
    kind = "shuffle_keys"
    collectors = MappingProxyType({"shuffle_keys": ShuffleKeyCollector})


PASS: Final = ShufflePass()
