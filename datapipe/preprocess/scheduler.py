"""A Dask scheduler of the user's: its address, and by what right it is trusted with code and data.

What enters: what the user typed. What leaves: an address that Dask takes, with the files for TLS. Invariant: nothing is
sent to a scheduler that is neither on this machine nor reached by TLS, unless the user said so (`insecure`).

Whoever can speak to a Dask scheduler runs code on its workers: functions and tasks travel pickled, and there is no
password. TLS with certificates on both sides (a scheduler asks its clients for theirs) is what shuts the door.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from datapipe.errors import ConfigError, InputError
from datapipe.storage import mask

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN: Final = ("tcp", "ws", "ucx")
ENCRYPTED: Final = ("tls", "wss")


@final
@dataclass(frozen=True)
class Scheduler:
    """Where a Dask scheduler is.

    Attributes:
        address: "tls://head:8786", "tcp://127.0.0.1:8786", or the scheduler file that `dask scheduler --scheduler-file`
            wrote ("cluster.json").
        tls_ca, tls_cert, tls_key: PEM files: the authority that signed the scheduler's certificate; this client's own
            certificate; its key (None: in the certificate's file). Without them Dask's own configuration counts
            (`DASK_DISTRIBUTED__COMM__TLS__CA_FILE`, `…__CLIENT__CERT`, `…__CLIENT__KEY`, or ~/.config/dask).
        insecure: a plain address need not be on this machine.
    """

    address: str
    _: KW_ONLY
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure: bool = False

    def checked(self) -> str:
        """The address, if it may be spoken to.

        Raises:
            ConfigError: it is no address, or a plain one elsewhere. InputError: a file is not there.
        """
        address = self._from_file() if self.address.endswith(".json") else self.address
        scheme, host = _parts(address)
        if scheme in ENCRYPTED:
            return address if "://" in address else f"{scheme}://{address}"
        if given := [name for name, path in self.tls_files().items() if path]:
            raise ConfigError(
                f"scheduler {address}, and {', '.join(given)}",
                expected="an address that uses them",
                fix=f"tls://{address.partition('://')[2] or address}",
            )
        if not self.insecure and not is_loopback(host):
            raise ConfigError(
                f"scheduler {address} is neither on this machine nor reached by TLS",
                expected="tls://…, or an address of this machine: whoever reaches a plain scheduler runs code on its"
                " workers, and reads what is sent to them, the storage's credentials among it",
                fix="start scheduler and workers with --tls-ca-file, --tls-cert and --tls-key and give tls://…; or"
                f" `ssh -L 8786:localhost:8786 {host}` and give tcp://127.0.0.1:8786; or --insecure, in a network that"
                " is yours alone",
            )
        return address if "://" in address else f"tcp://{address}"

    def tls_files(self) -> dict[str, str | None]:
        """The files for TLS, by Dask's own names for them."""
        return {"tls_ca_file": self.tls_ca, "tls_client_cert": self.tls_cert, "tls_client_key": self.tls_key}

    def check_files(self) -> None:
        """See that the files that were named are there.

        Raises:
            InputError: one is not.
        """
        for name, path in self.tls_files().items():
            if path is not None and not os.path.isfile(path):  # noqa: PTH113
                raise InputError(f"{name}: there is no file {path}", expected="a PEM file", fix="check the path")

    def _from_file(self) -> str:
        try:
            with open(self.address, encoding="utf-8") as file:  # noqa: PTH123
                found: Mapping[str, Any] = json.load(file)
            return str(found["address"])
        except FileNotFoundError:
            raise InputError(
                f"there is no scheduler file {self.address}",
                expected="what `dask scheduler --scheduler-file` wrote",
                fix="start the scheduler first, on a disk that both see",
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"scheduler file {self.address} cannot be read ({error})",
                expected='JSON with the scheduler\'s "address"',
                fix="start the scheduler anew with --scheduler-file",
            ) from None


def _parts(address: str) -> tuple[str, str]:
    """Scheme and host; a name and password, which Dask knows nothing of, are refused and not repeated."""
    full = address if "://" in address else f"tcp://{address}"
    shown = mask(full) if "@" in full else address
    try:
        split = urlsplit(full)
        _ = split.port
    except ValueError:
        split = urlsplit("")
    if split.scheme not in (*PLAIN, *ENCRYPTED) or not split.hostname or "@" in split.netloc:
        raise ConfigError(
            f"scheduler {shown!r}: no answer can be had from such an address",
            expected="a Dask scheduler, such as tls://head:8786, or its scheduler file (….json)",
            fix="start one with `dask scheduler`, or leave --scheduler out",
        )
    return split.scheme, split.hostname


def is_loopback(host: str) -> bool:
    """Whether every address of a host is this machine's own loopback; a name that no one knows is not."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(each).partition("%")[0]).is_loopback for each in found)
