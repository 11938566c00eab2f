"""The machine and the libraries of a run, for comparing runs fairly: no user, host, path, variable or credential.

What leaves: a flat dict of short values. Libraries are named only if the run itself imported them.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Fact = str | int | float | bool | None
_SECRET_NAME: Final = re.compile(
    r"token|secret|passw|credential|api_?key|access_?key|auth|cookie|signature", re.IGNORECASE
)
_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY: Final = re.compile(r"(\w+://[^\s?#]+)\?[^\s#]*")
_LONGEST: Final = 500


def describe_environment() -> dict[str, Fact]:
    """Python, platform, CPU count and the versions of the libraries that matter, as loaded now."""
    import platform

    facts: dict[str, Fact] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }
    if hasattr(os, "sched_getaffinity"):
        facts["cpus usable"] = len(os.sched_getaffinity(0))
    for name in ("datapipe", "torch", "numpy", "pyarrow"):
        module = sys.modules.get(name)
        if module is not None:
            facts[name] = str(getattr(module, "__version__", "unknown"))
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch threads"] = int(torch.get_num_threads())
        # Asking a GPU for its name would start it in a process that never used one.
        if torch.cuda.is_initialized():
            facts["gpu"] = str(torch.cuda.get_device_name())
            facts["gpus"] = int(torch.cuda.device_count())
    return facts


def plain_facts(notes: Mapping[str, object]) -> dict[str, Fact]:
    """Notes made fit to publish: flat, short, credentials masked, the home folder written `~`."""
    facts: dict[str, Fact] = {}
    for key, value in notes.items():
        name = plain_text(str(key))
        if _SECRET_NAME.search(str(key)):
            facts[name] = "***"
        elif value is None or isinstance(value, bool | int | float):
            finite = not isinstance(value, float) or value - value == 0
            facts[name] = value if finite else str(value)
        else:
            facts[name] = plain_text(str(value))
    return facts


def plain_text(text: str) -> str:
    """A text without URL credentials or queries, the home folder as `~`, cut at 500 characters."""
    text = _QUERY.sub(r"\1?***", _USER_INFO.sub("***@", text))
    home = os.path.expanduser("~")  # noqa: PTH111  (Path.home() raises where there is no home)
    if len(home) > 1:
        text = text.replace(home, "~")
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
