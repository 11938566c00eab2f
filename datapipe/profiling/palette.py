"""Colours of parts and stages: the same everywhere, in both modes, each with a text colour that can be read on it.

What leaves: CSS with two classes per name: `c0` (fill and background) and `tc0` (text drawn on it).
Invariant: text on a colour has a contrast of at least 4.5:1 (WCAG 2.2, 1.4.3); input is warm, compute is cool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# name: (on light, on dark)
_KNOWN: Final = {
    "wait": ("#e0602a", "#ee7a45"), "h2d": ("#e3a02b", "#efb950"), "forward": ("#4d8fd1", "#6ba8e5"),
    "backward": ("#23578f", "#3f78b8"), "optimizer": ("#7b69b5", "#9a88d4"), "communication": ("#a54c84", "#cf7cb0"),
    "checkpoint": ("#848b94", "#8f969f"), "sync": ("#5b6fa8", "#8b9dd0"),
    "evaluate": ("#3f8f63", "#5aae80"), "other": ("#c3c8ce", "#565d66"),
    "list": ("#a8623a", "#c07f59"), "footer": ("#b9773d", "#cf925c"), "fetch": ("#b93a1b", "#d95f3d"),
    "decompress": ("#cf7a2e", "#e09450"), "decode": ("#e0912f", "#efab54"), "filter": ("#96702c", "#b58e49"),
    "gather": ("#c4a13a", "#d6b75a"), "transform": ("#9c5a2b", "#bb7a4a"),
    "prepare": ("#d8b45c", "#e3c67c"), "collate": ("#8a8440", "#aaa45c"),
    "pin": ("#7d6a57", "#9c8874"), "queue": ("#a9a39a", "#78736b"), "loader": ("#e0602a", "#ee7a45"),
    "network": ("#5069bd", "#8299e6"), "disk": ("#b93a1b", "#d95f3d"), "page cache": ("#3f8f63", "#5aae80"),
    "startup": ("#8fa3b8", "#62788f"), "first step": ("#6f8aa6", "#7f9ab6"), "steady steps": ("#2b6cab", "#5b9bd8"),
    "first steps of epochs": ("#86a9cc", "#456a91"), "between steps": ("#b7a98c", "#75694f"),
    "teardown": ("#c3c8ce", "#565d66"), "overlapping steps": ("#dcdfe3", "#454b53"),
}  # fmt: skip
_OWN: Final = (
    ("#33a0a0", "#4bb0b0"), ("#6d8b2d", "#8fae4c"), ("#a0527f", "#c4749f"), ("#5069bd", "#8299e6"),
    ("#2f7f9e", "#55a3c2"),
)  # fmt: skip
_DARK_TEXT: Final = "#14171a"
_LIGHT_TEXT: Final = "#ffffff"


def class_names(names: Iterable[str]) -> dict[str, str]:
    """A CSS-safe class suffix for each name: "c0", "c1", …; names themselves never enter the CSS."""
    return {name: f"c{i}" for i, name in enumerate(dict.fromkeys(names))}


def palette_css(classes: dict[str, str]) -> str:
    """CSS rules for these names, in light and dark."""
    own = [name for name in classes if _base(name) not in _KNOWN]
    light: list[str] = []
    dark: list[str] = []
    for name, suffix in classes.items():
        pair = _KNOWN.get(_base(name)) or _OWN[own.index(name) % len(_OWN)]
        for rules, colour in ((light, pair[0]), (dark, pair[1])):
            rules.append(f".{suffix}{{fill:{colour};background-color:{colour};color:{text_on(colour)}}}")
            rules.append(f".t{suffix}{{fill:{text_on(colour)}}}")
    return "".join(light) + "@media screen and (prefers-color-scheme:dark){" + "".join(dark) + "}"


def _base(name: str) -> str:
    """A part of the run such as "evaluate (between steps)" has the colour of its phase."""
    return name.split(" (", 1)[0] if name.endswith(")") else name


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour."""
    return max((_DARK_TEXT, _LIGHT_TEXT), key=lambda text: contrast(text, colour))


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio of two colours written #rrggbb, 1 to 21."""
    one, two = sorted((_luminance(a), _luminance(b)))
    return (two + 0.05) / (one + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
