"""Reading over plain HTTP: the URL of a store enters, a warning leaves, once for each host and process.

Invariant: a host of this machine is not warned of, and nothing is connected to.
"""

from __future__ import annotations

import ipaddress
import warnings
from typing import Final
from urllib.parse import urlsplit

from datapipe.locks import new_lock

_told: Final[set[str]] = set()
_lock: Final = new_lock()


def warn_of_plain(url: str) -> None:
    """Warn that what comes from `url` (masked already) may be read and altered by whoever is on the way."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # what is no host is found out when it is connected to
        return
    with _lock:
        if is_this_machine(host) or host in _told:
            return
        _told.add(host)
    warnings.warn(
        f"{url} is read over plain HTTP: whoever is between may read it, its credentials included, and alter it. Use"
        " https://; `datapipe verify` finds rows that are not those of the manifest, if the manifest is right",
        stacklevel=3,
    )


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address is of this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
