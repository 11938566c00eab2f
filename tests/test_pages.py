"""Pages from templates."""

import jinja2
import pytest

from datapipe.pages import page_template


def test_what_is_put_in_is_text(tmp_path):
    """In the page itself, in one that it includes, and out of a filter."""
    (tmp_path / "inner.j2").write_text("<i>{{ name }}</i>")
    (tmp_path / "page.j2").write_text("<b>{{ name|loud }}</b>{% include 'inner.j2' %}")
    page = page_template(tmp_path / "page.j2", loud=str.upper).render(name="<script>")
    assert page == "<b>&lt;SCRIPT&gt;</b><i>&lt;script&gt;</i>"


def test_what_was_not_given_is_an_error(tmp_path):
    (tmp_path / "page.j2").write_text("{{ name }}")
    with pytest.raises(jinja2.UndefinedError, match="name"):
        page_template(tmp_path / "page.j2").render()
