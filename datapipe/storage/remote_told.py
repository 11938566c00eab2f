"""Telling a remote fault: an action enters, its result or an error of our tree leaves.

Invariant: no error that leaves holds a credential, and none carries the library's own, whose text might, as cause or
context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, final

from datapipe.errors import ConfigError, IntegrityError, StorageError
from datapipe.storage.masking import mask_values
from datapipe.storage.remote_faults import remote_fault
from datapipe.storage.remote_requests import ShortError, VersionError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


@final
class RemoteFaults:
    """Tells the faults of one store; `secrets` are what its messages must not show."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets

    def words(self, error: BaseException) -> str:
        """What an error says, without secrets, in 300 characters at most."""
        text = " ".join(str(error).split()) or type(error).__name__
        return mask_values(text, self._secrets)[:300]

    def told(self, doing: str, action: Callable[[], Result]) -> Result:
        """The result of `action`; what it raises, as ours. `doing` is what was tried, with a name that may be shown."""
        try:
            return action()
        except Exception as error:
            fault = self._fault(first_fault(error), doing)
        # Outside the handler: the library's error, which may hold a signed URL, is not even the context of ours.
        raise fault

    def _fault(self, error: BaseException, doing: str) -> StorageError | ConfigError:
        if isinstance(error, ShortError):
            return IntegrityError(
                f"{doing}: {error}",
                expected="an object as long as its index says",
                fix="it was cut short or replaced: upload it again",
            )
        if isinstance(error, VersionError):
            return IntegrityError(f"{doing}: {error.got}", expected=error.expected, fix=error.fix)
        if isinstance(error, StorageError | ConfigError):
            return error
        return remote_fault(error, doing, self.words(error))


def first_fault(error: BaseException) -> BaseException:
    """What failed, of requests that were made side by side: ours before the library's."""
    while isinstance(error, BaseExceptionGroup):
        known = [one for one in error.exceptions if isinstance(one, StorageError | ConfigError | ShortError)]
        error = (known or error.exceptions)[0]
    return error
