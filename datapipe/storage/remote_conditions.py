"""Writing an object only if it is as it was: S3's conditional requests (If-None-Match, If-Match on PutObject).

What enters: a file system of fsspec's, a name, what the object was. What leaves: whether it was written; None where the
service offers no condition. Invariant: of several writers that saw the same object one writes, and the others are told.
"""

from __future__ import annotations

from typing import Any, Final

_UNMET: Final = {"PreconditionFailed", "ConditionalRequestConflict"}
_UNKNOWN: Final = {"NotImplemented", "InvalidArgument", "InvalidRequest"}
"""What S3-like services without conditions answer."""


def put_if(fs: Any, where: str, data: bytes, mark: str | None) -> bool | None:
    """Write `data` if the object is the version that the service calls `mark` (None: if there is none)."""
    if not hasattr(fs, "_get_s3_method_kwargs"):
        return None
    condition = {"mode": "create"} if mark is None else {"IfMatch": mark}
    try:
        fs.pipe_file(where, data, **condition)
    except FileExistsError:
        return False
    except FileNotFoundError:
        return False  # it was to be replaced, and is gone
    except OSError as error:
        response = getattr(error.__cause__, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if code in _UNMET:
            return False
        if code in _UNKNOWN:
            return None
        raise
    return True
