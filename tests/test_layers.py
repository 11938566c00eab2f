"""The architecture's floors, held by parsing every import."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "datapipe"

# What each room may import, besides itself, the standard library and third parties.
BASE = {"errors", "events", "locks"}
MAY = {
    "errors": set(),
    "events": {"locks"},
    "locks": set(),  # what a forked child goes on with is on every floor
    "best_fit": set(),  # the one algorithm that both wings need: pure, on the lowest floor
    "sized_file": set(),  # what is read by ranges is so on every floor
    "parquet_chunks": {"sized_file"},  # both readers of Parquet need it: of raw inputs, and of datasets
    "pages": set(),  # a run's report and a profile's are escaped by one rule
    "device": BASE,
    "storage": BASE | {"sized_file"},
    "steps": BASE | {"best_fit"},
    "profiling": BASE | {"pages"},
    "dataset": BASE | {"storage", "parquet_chunks", "sized_file"},
    "corpus": BASE | {"storage", "parquet_chunks"},
    "loader": BASE | {"best_fit", "dataset", "storage", "device"},
    "preprocess": BASE | {"corpus", "steps", "dataset", "storage", "parquet_chunks", "sized_file", "pages"},
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


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements(node: ast.AST, top_level_only: bool):
    """Every node that may hold an import, and every import, below this one: those under TYPE_CHECKING do not run."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.expr):
            continue
        if isinstance(inner, ast.If) and "TYPE_CHECKING" in ast.unparse(inner.test):
            continue
        yield inner
        if not (top_level_only and isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))):
            yield from statements(inner, top_level_only)


@functools.cache
def imports(path: Path, *, top_level_only: bool = False):
    """(module, line) of every import that runs."""
    return list(found_imports(path, top_level_only))


def found_imports(path: Path, top_level_only: bool):
    for node in statements(parsed(path), top_level_only):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the room's name"
            for alias in node.names:
                # `from datapipe.steps import decode` imports the module, not a name of its room.
                inner = f"{node.module}.{alias.name}"
                yield (inner if is_module(inner) else node.module), node.lineno


@functools.cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("datapipe.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


# One test for all files: two thousand of their own cost every process of the suite more than parsing them does.
def test_imports_point_down():
    """No file imports a room that stands beside or above its own."""
    faults = []
    for path in FILES:
        here = room(path)
        if here in {"__init__", "__main__", "cli", "integrations"}:
            continue
        for module, line in imports(path):
            parts = module.split(".")
            if parts[0] != "datapipe" or len(parts) == 1:
                continue
            there = parts[1]
            if there != here and there not in MAY[here]:
                faults.append(f"{path}:{line}: {here} may not import {there}")
    assert not faults


def test_heavy_libraries_stay_in_their_files():
    """torch, Dask, fsspec and Polars are imported only where the architecture puts them."""
    faults = []
    for path in FILES:
        where = str(path.relative_to(PACKAGE))
        for module, line in imports(path):
            homes = HOMES.get(module.split(".")[0])
            if homes is not None and not where.startswith(homes):
                faults.append(f"{path}:{line}: {module} is imported outside {homes}")
    assert not faults


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


def test_files_are_short_and_say_what_they_are():
    """Every module has a docstring and at most 400 lines, and none is named for nothing."""
    faults = []
    for path in FILES:
        lines = path.read_text().count("\n")
        if not ast.get_docstring(parsed(path)):
            faults.append(f"{path} has no docstring")
        if lines > 400:
            faults.append(f"{path} has {lines} lines: split it by idea")
        if path.stem in {"utils", "util", "common", "helpers", "helper", "misc", "core"}:
            faults.append(f"{path} is named for nothing")
    assert not faults
