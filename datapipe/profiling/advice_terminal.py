"""The three best fixes for a terminal: what each would gain, what to type for it; and what came of those that were run.

What enters: `Advice`. What leaves: lines of text for `terminal.render` to put under the bar.
Invariant: at most `SHOWN` fixes, in the order of the advice; every text from a profile is made visible, never obeyed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    from datapipe.profiling.advice import Advice

SHOWN: Final = 3


def fix_items(advice: Advice, visible: Callable[[str], str]) -> list[Text]:
    """The fixes, their commands and what applied fixes came to.

    Args:
        advice: of the run.
        visible: makes characters that steer a terminal visible.
    """
    from rich.text import Text

    items = [Text(advice.whose, style="dim")] if advice.whose else []
    for place, fix in enumerate(advice.fixes[:SHOWN], start=1):
        doubt = ", extrapolated: this run never showed such" if fix.extrapolated else ""
        said = Text(f"{place}. {visible(fix.title)}", style="bold")
        said.append(f"  saves {fix.gain:.0%}: {ms(fix.step_ns)} a step ", style="not bold")
        said.append(f"(80%: {ms(fix.low)} to {ms(fix.high)}{doubt})", style="not bold dim")
        items += [said, Text(f"   {visible(fix.do)}", style="cyan")]
    left = len(advice.fixes) - SHOWN
    if left > 0:
        items.append(Text(f"{left} more in report.html", style="dim"))
    if not advice.fixes:
        items.append(Text(visible(advice.sentence)))
    items += [Text(f"Applied: {visible(str(done))}", style="bold") for done in advice.applied]
    return items
