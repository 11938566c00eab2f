"""The architecture's floors, held by parsing every import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "datapipe"

# What each room may import, besides itself, the standard library and third parties.
BASE = {"errors", "events"}
MAY = {
    "errors": set(),
    "events": set(),
    "best_fit": set(),  # the one algorithm that both wings need: pure, on the lowest floor
    "sized_file": set(),  # what is read by ranges is so on every floor
    "parquet_chunks": {"sized_file"},  # both readers of Parquet need it: of raw inputs, and of datasets
    "device": BASE,
    "storage": BASE | {"sized_file"},
    "steps": BASE | {"best_fit"},
    "profiling": BASE,
    "dataset": BASE | {"storage", "parquet_chunks", "sized_file"},
    "corpus": BASE | {"storage", "parquet_chunks"},
    "loader": BASE | {"best_fit", "dataset", "storage", "device"},
    "preprocess": BASE | {"corpus", "steps", "dataset", "storage", "parquet_chunks", "sized_file"},
    "train": BASE | {"device", "loader"},
}
PUBLIC = set(MAY)  # integrations and cli: anything

HOMES = {
    "torch": ("device/", "train/", "integrations/", "loader/torch_collate.py"),
    "dask": ("preprocess/",),
    "distributed": ("preprocess/",),
    "fsspec": ("storage/remote.py",),
    "polars": ("steps/", "preprocess/"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top_level_only: bool = False):
    """(module, line) of every import that runs; those under TYPE_CHECKING do not."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(id(inner) for inner in ast.walk(node))
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped.update(id(inner) for inner in ast.walk(node) if inner is not node)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the room's name"
            for alias in node.names:
                # `from datapipe.steps import decode` imports the module, not a name of its room.
                inner = f"{node.module}.{alias.name}"
                yield (inner if is_module(inner) else node.module), node.lineno


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("datapipe.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    """No file imports a room that stands beside or above its own."""
    here = room(path)
    if here in {"__init__", "__main__", "cli", "integrations"}:
        return
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] != "datapipe" or len(parts) == 1:
            continue
        there = parts[1]
        assert there == here or there in MAY[here], f"{path}:{line}: {here} may not import {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_files(path):
    """torch, Dask, fsspec and Polars are imported only where the architecture puts them."""
    where = str(path.relative_to(PACKAGE))
    for module, line in imports(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or where.startswith(homes), f"{path}:{line}: {module} is imported outside {homes}"


def test_no_import_circles():
    """Modules that import each other when loaded would break whoever comes first."""
    graph = {}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {m for m, _ in imports(path, top_level_only=True) if m.startswith("datapipe.")}
    state = {}

    def visit(name, trail):
        if state.get(name) == "done" or name not in graph:
            return
        assert state.get(name) != "open", " → ".join([*trail, name])
        state[name] = "open"
        for other in sorted(graph[name]):
            visit(other, [*trail, name])
        state[name] = "done"

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_and_say_what_they_are(path):
    """Every module has a docstring and at most 400 lines, and none is named for nothing."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines: split it by idea"
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc", "core"}
