"""The public surface: its names, and what importing it costs."""

import json
import subprocess
import sys

import pytest

import datapipe

HEAVY = ["torch", "dask", "distributed", "polars", "pyarrow", "pandas", "pydantic", "numpy", "fsspec"]


def test_the_public_names_are_pinned():
    """A name that comes or goes is a decision, made here."""
    assert datapipe.__all__ == [
        "Bucket",
        "Cache",
        "DataLoader",
        "DatapipeError",
        "Dataset",
        "Images",
        "Pack",
        "Profile",
        "RunSummary",
        "Sounds",
        "balance",
        "encode",
        "mix",
        "open_dataset",
        "preprocess",
        "profile",
    ]


@pytest.mark.parametrize("name", datapipe.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(datapipe, name)
    assert callable(value)
    assert value.__doc__
    assert name in dir(datapipe)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match="open_dataset"):
        datapipe.no_such_name  # noqa: B018


def loaded_after(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter holds after `code`."""
    report = f"import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    out = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def test_importing_datapipe_pulls_in_nothing_heavy():
    assert loaded_after("import datapipe") == []


def test_help_pulls_in_nothing_heavy():
    """`datapipe --help` answers at once because it imports none of these."""
    code = (
        "import sys; sys.argv = ['datapipe', '--help']\nfrom datapipe.cli.main import run\n"
        "try: run()\nexcept SystemExit: pass"
    )
    assert loaded_after(code) == []


def test_a_training_machine_needs_neither_dask_nor_polars():
    """The dataset, loader, training and profiling rooms import without the preprocessing extra."""
    block = (
        "import sys\n"
        "for name in ('dask', 'distributed', 'polars', 'tokenizers', 'orjson', 'resiliparse', 'zstandard', 'yaml'):\n"
        "    sys.modules[name] = None\n"
        "import datapipe.dataset, datapipe.loader, datapipe.device, datapipe.train\n"
        "import datapipe.profiling, datapipe.storage\n"
        "datapipe.DataLoader, datapipe.open_dataset, datapipe.profile\n"
        "import datapipe.train.loop, datapipe.train.model, datapipe.train.checkpoint"
    )
    loaded_after(block)  # raises if an import fails


def test_a_preprocessing_machine_needs_no_torch():
    """Everything under preprocessing imports without the training extra."""
    block = (
        "import sys\n"
        "for name in ('torch', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "import datapipe.corpus, datapipe.steps, datapipe.preprocess, datapipe.dataset, datapipe.storage\n"
        "datapipe.preprocess, datapipe.open_dataset"
    )
    loaded_after(block)  # raises if an import fails


def test_the_package_is_typed():
    from importlib.resources import files

    assert (files("datapipe") / "py.typed").is_file()
