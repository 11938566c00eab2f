"""What an error of a remote file system means: any exception enters; its kind, and whether it will pass, leave.

fsspec's file systems raise OSErrors, or the exceptions of the libraries beneath them (botocore, aiohttp, google, azure,
huggingface_hub). Those are told by their HTTP status and by their class names, so that none of them is imported.
Invariant: 401, 403 and 404 are final; 408, 425, 429, 5xx, time-outs and broken connections are transient.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import AccessError, ConfigError, IntegrityError, NoSpaceError, NotFoundError, StorageError
from datapipe.storage.os_faults import ACCESS, NO_SPACE, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_ERRNO: Final = frozenset(
    number
    for name in (
        "EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "EINTR", "ENETDOWN",
        "ENETRESET", "ENETUNREACH", "EPIPE", "EREMOTEIO", "ETIMEDOUT",
    )
    if (number := getattr(errno, name, None)) is not None
)  # fmt: skip
_TRANSIENT_CLASS: Final = frozenset({
    "ClientConnectionError", "ClientOSError", "ClientPayloadError", "ConnectError", "ConnectTimeout",
    "ConnectTimeoutError", "ConnectionClosedError", "ConnectionError", "EndpointConnectionError", "HTTPClientError",
    "IncompleteRead", "IncompleteReadError", "ProtocolError", "ProxyConnectionError", "ReadError", "ReadTimeout",
    "ReadTimeoutError", "RemoteProtocolError", "ResponseStreamingError", "ServerDisconnectedError",
    "ServerTimeoutError", "ServiceRequestError", "ServiceResponseError", "Timeout",
})  # fmt: skip
_ACCESS_CLASS: Final = ("Credential", "ClientAuthentication", "GatedRepo", "LocalTokenNotFound", "UnauthorizedSSO")
_NOT_FOUND_CLASS: Final = ("EntryNotFound", "RepositoryNotFound", "RevisionNotFound", "ResourceNotFound", "NoSuchKey")
_ACCESS_CODES: Final = frozenset({
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken",
    "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
})  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, StorageError | ConfigError):
        return False
    if any(kind.__name__ in _TRANSIENT_CLASS for kind in type(error).__mro__):
        return True  # before any status: aiohttp calls a body that ends early a 400, beneath
    if (status := _status(error)) is not None:
        return status in _TRANSIENT_STATUS
    if _is_access(error) or _is_not_found(error):
        return False
    for link in _chain(error):
        if isinstance(link, TimeoutError | ConnectionError):
            return True
        if any(kind.__name__ in _TRANSIENT_CLASS for kind in type(link).__mro__):
            return True
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNO:
            return True
    return False


def remote_fault(error: BaseException, doing: str, said: str) -> StorageError | ConfigError:
    """The fault for `error`.

    Args:
        error: what the file system raised.
        doing: what was tried, with the masked URL ("reading s3://bucket/a.txt").
        said: the error's own words, already masked; "" to leave them out.
    """
    reason = f"{doing}: {said or type(error).__name__}"
    status = _status(error)
    if _is_access(error):
        return AccessError(
            reason,
            expected="credentials that may do this",
            fix="check storage_options (key, secret, token, endpoint), the environment's credentials and the policy",
        )
    if _is_not_found(error):
        return NotFoundError(reason, fix="check the bucket and the path")
    if status == 412:  # what is read names the version it means
        return IntegrityError(
            f"{doing}: the object was replaced while it was read",
            expected="the version that was there when it was opened",
            fix="open the dataset again, and do not overwrite files that are being read",
        )
    if status == 416:
        return IntegrityError(reason, expected="an object as long as its index says", fix="upload the object again")
    if status == 507 or (isinstance(error, OSError) and error.errno in NO_SPACE):
        return NoSpaceError(reason, fix="free space there, or write elsewhere")
    if isinstance(error, NotImplementedError):
        return StorageError(
            reason, expected="a file system that can do this", fix="write to a local folder or a bucket"
        )
    if is_transient(error):
        return StorageError(
            f"{reason} (tried again until the deadline)",
            expected="a service that answers",
            fix="check the endpoint and the network, then run again: finished work is kept",
        )
    if isinstance(error, TypeError) and "keyword argument" in str(error):
        return ConfigError(
            reason,
            expected="storage_options that this file system takes",
            fix="check the names in storage_options, such as key, secret, token, endpoint_url or client_kwargs",
        )
    return StorageError(reason)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from: fsspec's HTTP hides every status behind a FileNotFoundError."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int | None:
    for link in _chain(error):
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):  # botocore
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(link, "status", None) or getattr(link, "status_code", None)
            found = found or getattr(response, "status_code", None) or getattr(link, "code", None)
        if isinstance(found, str) and found.isdigit():
            found = int(found)
        if isinstance(found, int) and 300 <= found < 600:
            return found
    return None


def _code(error: BaseException) -> str:
    for link in _chain(error):
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _is_access(error: BaseException) -> bool:
    if _status(error) in (401, 403, 407) or _code(error) in _ACCESS_CODES:
        return True
    return any(
        isinstance(link, PermissionError)
        or (isinstance(link, OSError) and link.errno in ACCESS)
        or any(word in type(link).__name__ for word in _ACCESS_CLASS)
        for link in _chain(error)
    )


def _is_not_found(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return status in (404, 410)
    return (
        isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        or (isinstance(error, OSError) and error.errno in NOT_FOUND)
        or any(word in type(error).__name__ for word in _NOT_FOUND_CLASS)
    ) and not any(isinstance(link, TimeoutError | ConnectionError) for link in _chain(error))
