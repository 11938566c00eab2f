"""The differential runs for a terminal: what a step takes as it is and without its loader, and what follows.

What enters: a `Differential`. What leaves: a table and lines for `terminal.render`.
Invariant: a kind of run that came to nothing has a line with its reason, and no figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from rich.text import Text

    from datapipe.profiling.differential import Differential


def differential_items(found: Differential, visible: Callable[[str], str], table: Table) -> list[Text | Table]:
    """The runs side by side, and what they say.

    Args:
        found: the comparison.
        visible: makes characters that steer a terminal visible.
        table: an empty one, in the terminal's style.
    """
    from rich.text import Text

    for head in ("run", "step", "least", "most", "wait", "steps"):
        table.add_column(head, justify="left" if head == "run" else "right", no_wrap=True)
    for one in found.variants:
        if not one.failed:
            table.add_row(
                Text(one.label), ms(one.mean), ms(one.low), ms(one.high), ms(one.wait), f"{one.steps:,}"
            )  # fmt: skip
    return [
        Text(visible(found.sentence), style="bold"),
        table,
        *(Text(visible(line)) for line in found.lines),
    ]
