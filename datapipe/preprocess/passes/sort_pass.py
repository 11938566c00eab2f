"""sort, over the corpus: rows in the order of some columns."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, final

from datapipe.preprocess.passes.moving_pass import KeyCollector, MovingPass


@final
class SortKeyCollector(KeyCollector):
    """Keys to sort by."""

    step = "sort"


@final
class SortPass(MovingPass):
    """See the module."""

    step = "sort"
    kind = "sort_keys"
    collectors = MappingProxyType({"sort_keys": SortKeyCollector})


PASS: Final = SortPass()
