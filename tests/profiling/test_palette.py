from __future__ import annotations

import pytest

from datapipe.profiling.palette import _KNOWN, _OWN, class_names, contrast, palette_css, text_on


@pytest.mark.parametrize("colour", sorted({c for pair in (*_KNOWN.values(), *_OWN) for c in pair}))
def test_text_can_be_read_on_every_colour(colour):
    assert contrast(colour, text_on(colour)) >= 4.5


def test_contrast_is_wcags():
    """Black on white is 21, #767676 on white the known 4.54."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_names_never_enter_the_css():
    classes = class_names(["wait", "</style><script>", "wait", "evaluate (after)"])
    assert classes == {"wait": "c0", "</style><script>": "c1", "evaluate (after)": "c2"}
    css = palette_css(classes)
    assert "<" not in css
    assert ".c2{fill:#3f8f63" in css
