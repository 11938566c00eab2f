"""A model by its place in the user's code."""

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train import Supervised
from datapipe.train.model_source import ModelSource, load_callable

CODE = """
import torch
def make(inputs, classes=2):
    return torch.nn.Linear(inputs, classes)
def nothing():
    return 3
class Box:
    net = torch.nn.Linear
SIZE = 4
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "mine_to_train.py").write_text(CODE)
    (tmp_path / "broken_to_train.py").write_text("import not_there_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_it_is_made_when_it_is_called():
    """So the generators' state at that time decides its weights; a loss makes it a `Supervised`."""
    source = ModelSource(call="mine_to_train:make", arguments={"inputs": 3})
    torch.manual_seed(5)
    made = source()
    torch.manual_seed(5)
    assert torch.equal(made.weight, torch.nn.Linear(3, 2).weight)
    wrapped = ModelSource(call="mine_to_train:make", arguments={"inputs": 3}, loss="mse", inputs="x", targets="y")()
    assert isinstance(wrapped, Supervised)
    assert wrapped.loss == "mse"
    assert load_callable("mine_to_train:Box.net", what="x") is torch.nn.Linear


@pytest.mark.parametrize(
    ("call", "arguments", "match", "fix"),
    [("mine_to_train", {}, "module:callable", "mymodels"), ("mine_to_train:mak", {"inputs": 2}, "no 'mak'", "'make'"),
     ("mine_to_trian:make", {}, "no module", "mine_to_trian.py"), ("mine_to_train:SIZE", {}, "a int", None),
     ("mine_to_train:nothing", {}, "made a int", None), ("mine_to_train:make", {}, "inputs", None),
     ("mine_to_train:make", {"inputs": 3, "clases": 4}, "clases", "'classes'")],
)  # fmt: skip
def test_what_is_not_there_is_said_with_the_nearest_name(call, arguments, match, fix):
    with pytest.raises(ConfigError) as fault:
        ModelSource(call=call, arguments=arguments)()
    assert match in f"{fault.value}"
    assert fix is None or fix in fault.value.fix


def test_a_module_that_fails_says_so_itself():
    """What it imports is missing, not the module: that is its own error."""
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        ModelSource(call="broken_to_train:make")()


@pytest.mark.parametrize("told", [{"loss": "mse"}, {"inputs": "x"}, {"loss": "mse", "targets": "y"}])
def test_a_loss_needs_its_columns(told):
    with pytest.raises(ConfigError, match="missing"):
        ModelSource(call="a:b", **told)
