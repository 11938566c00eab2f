"""`datapipe.preprocess` is a module and a function, whichever way it is reached, and light to import."""

import subprocess
import sys

import pytest

import datapipe
from datapipe.errors import ConfigError


def test_one_object_by_every_way():
    """Attribute, import, and name from the package are the same callable module."""
    import importlib

    from datapipe.preprocess import preprocess

    assert preprocess is datapipe.preprocess is importlib.import_module("datapipe.preprocess")
    assert callable(preprocess)
    assert preprocess.__doc__


def test_every_public_name_is_there():
    """… and an unknown one is an AttributeError."""
    for name in datapipe.preprocess.__all__:
        assert getattr(datapipe.preprocess, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        datapipe.preprocess.nothing  # noqa: B018


@pytest.mark.parametrize("order", ["import datapipe.preprocess, datapipe", "import datapipe; datapipe.preprocess"])
def test_importing_it_pulls_in_nothing_heavy(order):
    """Dask, Polars, Arrow and the rest come with the first run, not with the name."""
    report = "import sys; print([m for m in ('dask', 'distributed', 'polars', 'pyarrow', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{order}\n{report}\nassert callable(datapipe.preprocess)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"workers": -1}, "workers=-1"),
        ({"workers": 2, "scheduler": "tcp://x:1"}, "workers=2 and scheduler"),
        ({"pack.seqlen": 3}, "no option 'seqlen'"),
        ({"recipe": "txet"}, "there is no recipe"),
    ],
)
def test_wrong_arguments(corpus, tmp_path, options, says):
    """Wrong usage is a ConfigError, and nothing is published."""
    with pytest.raises(ConfigError, match=says):
        datapipe.preprocess(corpus, tmp_path / "out", **options)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_overrides_may_be_keywords(corpus, tmp_path):
    """`**{"step.option": value}` says the same as overrides=."""
    options = {"workers": 0, "recipe": {"steps": ["decode", "unicode"]}}
    a = datapipe.preprocess(corpus, tmp_path / "a", overrides={"output.row_group_rows": 5}, **options)
    b = datapipe.preprocess(corpus, tmp_path / "b", **{"output.row_group_rows": 5}, **options)
    c = datapipe.preprocess(corpus, tmp_path / "c", **options)
    assert a.fingerprint == b.fingerprint != c.fingerprint
