"""A user's list: one entry a line, from one or several files.

What enters: paths. What leaves: the entries, in order, each once. Invariant: blank lines and those that begin with "# "
are no entries; a file that is no text is refused with its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_list(paths: Iterable[str], what: str) -> list[str]:
    """The entries of UTF-8 files.

    Args:
        paths: local files. what: the option they come from, for messages.

    Raises:
        ConfigError: a file cannot be read, is not UTF-8, or none of them has an entry.
    """
    found: dict[str, None] = {}
    names = []
    for path in paths:
        names.append(Path(path).name)
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigError(f"{what}: {path}: {error.strerror}", expected="a text file, one entry a line") from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{what}: {path} is not UTF-8 (byte {error.start})",
                expected="a text file, one entry a line",
                fix="convert it with iconv -t UTF-8",
            ) from None
        entries = (line.strip() for line in text.split("\n"))
        found |= dict.fromkeys(entry for entry in entries if entry and not entry.startswith("# "))
    if names and not found:
        raise ConfigError(f"{what}: {', '.join(names)} holds no entry", expected="one entry a line")
    return list(found)
