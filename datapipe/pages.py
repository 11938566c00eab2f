"""Pages from templates, with all that data puts into them escaped. Shared by the reports of both wings.

What enters: a folder of templates, and filters. What leaves: a compiled template. Invariant: whatever is put into a
page is text in it, and never markup; a name that nothing was given for is an error, and never an empty place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jinja2 import Template


def page_template(path: Path, **filters: Callable[..., Any]) -> Template:
    """A template that may include others of its folder.

    Args:
        path: of the template.
        filters: by the name that the template calls each by.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name)
