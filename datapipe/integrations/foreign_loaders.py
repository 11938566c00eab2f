"""Loaders that are not torch's: Hugging Face `datasets`, WebDataset, MosaicML Streaming, iterated by the script itself.

What enters: the iteration of one of their objects by anybody else's code. What leaves: its loop, as `Loops` records it.
Invariant: nothing is imported that the script does not import; what a package iterates itself, and what torch's
loaders read from it, goes by untouched.

Inside a `torch.utils.data.DataLoader` these are datasets like any other, and the loader is what is watched.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import time
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from datapipe.integrations.loops import Loops
    from datapipe.integrations.stand_ins import StandIns

_WATCHED: Final = {
    "datasets.arrow_dataset": (("Dataset", "__iter__"), ("Dataset", "iter")),
    "datasets.iterable_dataset": (("IterableDataset", "__iter__"), ("IterableDataset", "iter")),
    "webdataset.pipeline": (("DataPipeline", "__iter__"),),
    "streaming.base.dataset": (("StreamingDataset", "__iter__"),),
}
"""Module → (class, method that gives an iterator)."""


def watch_foreign(undo: contextlib.ExitStack, loops: Loops, stand_ins: StandIns | None = None) -> None:
    """Watch what is imported already, and the rest when the script imports it, until `undo` unwinds.

    `stand_ins`: takes the place of what is iterated, where it is to be replaced.
    """

    def patch(module: ModuleType) -> None:
        for name, method in _WATCHED[module.__name__]:
            owner = getattr(module, name, None)
            original = None if owner is None else vars(owner).get(method)
            if original is not None:
                setattr(owner, method, _watched(original, loops, module.__name__.partition(".")[0], stand_ins))
                undo.callback(setattr, owner, method, original)

    finder = _Finder(patch)
    sys.meta_path.insert(0, finder)
    undo.callback(_remove, finder)
    for name in _WATCHED:
        if name in sys.modules:
            patch(sys.modules[name])


def _remove(finder: _Finder) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


def _watched(
    original: Callable[..., Any], loops: Loops, package: str, stand_ins: StandIns | None
) -> Callable[..., Any]:
    @functools.wraps(original)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))  # noqa: SLF001
        if caller.partition(".")[0] in (package, "torch", "datapipe") or loops.idle:
            return original(self, *args, **kwargs)
        if stand_ins is not None and stand_ins.mode != "as-is":
            return stand_ins.iterate(self, lambda: iter(original(self, *args, **kwargs)), unsure=True)
        asked = time.perf_counter_ns()
        iterator = WatchedIterator(iter(original(self, *args, **kwargs)), loops)
        loops.began(iterator, asked, unsure=True, loader=self)
        return iterator

    return watched


class WatchedIterator:
    """An iterator whose waits are recorded; everything else is the inner one's."""

    def __init__(self, inner: Iterator[Any], loops: Loops) -> None:
        self._inner = inner
        self._loops = loops

    def __iter__(self) -> WatchedIterator:
        return self

    def __next__(self) -> Any:
        return self._loops.next(self, lambda: next(self._inner))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@final
class _Finder:
    """Stands first in `sys.meta_path`: finds the watched modules as Python does, and patches them once they ran."""

    def __init__(self, patch: Callable[[ModuleType], None]) -> None:
        self._patch = patch

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader, self._patch)  # type: ignore[assignment]
        return spec


@final
class _Patching:
    """A module's loader, which puts itself out of the way before the module's code runs."""

    def __init__(self, inner: Any, patch: Callable[[ModuleType], None]) -> None:
        self._inner = inner
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        self._patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
