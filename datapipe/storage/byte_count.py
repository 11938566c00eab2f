"""A number of bytes as people write it enters ("20 GB"), the number leaves. GB is 10^9, GiB 2^30."""

from __future__ import annotations

import re
from typing import Final

from datapipe.errors import ConfigError

_WRITTEN: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def byte_count(name: str, value: object) -> int:
    """`value` as a number of bytes, 1 or more.

    Raises:
        ConfigError: it is none.
    """
    count = 0
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value)
        if written and (written[2] or not written[3]):
            count = int(float(written[1]) * (1024 if written[3] else 1000) ** _POWER[written[2].lower()])
    elif isinstance(value, int) and not isinstance(value, bool):
        count = value
    if count < 1:
        raise ConfigError(f"{name}={value!r}", expected='a number of bytes, or words such as "20 GB" or "512 MiB"')
    return count
