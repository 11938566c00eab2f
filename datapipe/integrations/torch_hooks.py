"""What makes a PyTorch script record itself: patches and hooks that are there only while a profile is open.

What enters: a `Profile`. What leaves: "step", "wait", "epoch", "forward", "backward", "optimizer", "checkpoint" and
"evaluate" spans on the threads that run the script.
Invariant: a patched function returns, raises and warns what the original does; leaving the context puts every original
back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.integrations.foreign_loaders import WatchedIterator, watch_foreign
from datapipe.integrations.loops import Loops
from datapipe.integrations.stand_ins import StandIns
from datapipe.integrations.torch_workers import Batches, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.profiling import Profile

_COLLECTIVES: Final = (
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single",
    "barrier", "broadcast", "broadcast_object_list", "gather", "reduce", "reduce_scatter", "reduce_scatter_tensor",
    "scatter",
)  # fmt: skip


@contextlib.contextmanager
def torch_hooks(prof: Profile, *, stand_in: str = "as-is", steps: int | None = None) -> Iterator[None]:
    """Record whatever PyTorch training loop runs inside the block; where there is no torch, nothing.

    Args:
        prof: where the spans go.
        stand_in: what the script's loaders are replaced by: see `stand_ins`.
        steps: after how many steps `StepsDone` is raised in the script; None: never.
    """
    try:
        import torch
    except ImportError:
        prof.note("torch", "not installed: no loader was watched")
        yield
        return
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    loops = Loops(prof, without_gradients=lambda: not torch.is_grad_enabled(), most=steps)
    stand_ins = StandIns(stand_in, steps=steps, loops=loops) if stand_in != "as-is" or steps is not None else None
    with contextlib.ExitStack() as undo:
        undo.callback(loops.close)
        loaders = _Loaders(loops, Workers(prof.recorder, undo), stand_ins)
        _patch(undo, _BaseDataLoaderIter, "__next__", lambda original: functools.partial(loaders.next, original))
        _patch(undo, DataLoader, "__iter__", lambda original: functools.partial(loaders.iter, original))
        _patch(undo, torch.autograd, "backward", lambda original: _timed(prof, "backward", original, loops.backward))
        _patch(undo, torch, "save", lambda original: _timed(prof, "checkpoint", original, lambda: None))
        _watch_collectives(undo, prof)
        _watch_forward(undo, prof, loops)
        _watch_optimizers(undo, prof, loops)
        _watch_datapipe(undo, loops, stand_ins)
        watch_foreign(undo, loops, stand_ins)
        yield


def _patch(undo: contextlib.ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by a function made from the original, until `undo` unwinds."""
    original = getattr(owner, name)
    made = make(original)

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    setattr(owner, name, patched)
    undo.callback(setattr, owner, name, original)


@final
class _Loaders:
    """torch's loaders: their loops, and the numbers that their workers record batches under."""

    def __init__(self, loops: Loops, workers: Workers, stand_ins: StandIns | None) -> None:
        self._loops = loops
        self._workers = workers
        self._stand_ins = stand_ins
        self._batches: weakref.WeakKeyDictionary[Any, Batches] = weakref.WeakKeyDictionary()

    def iter(self, original: Callable[[Any], Any], loader: Any) -> Any:
        if self._stand_ins is None or self._stand_ins.mode == "as-is" or self._loops.idle:
            return self._made(original, loader)
        return self._stand_ins.iterate(loader, lambda: self._made(original, loader))

    def _made(self, original: Callable[[Any], Any], loader: Any) -> Any:
        asked = time.perf_counter_ns()
        before = loader._iterator if loader.persistent_workers else None  # noqa: SLF001  (it will go round again)
        batches = self._batches.get(before) if before is not None else None
        if batches is None:
            batches = self._workers.begin(loader.num_workers)
        batches.begins()
        try:
            iterator = original(loader)
        except BaseException:
            batches.began(None)
            raise
        self._batches[iterator] = batches
        batches.began(iterator)
        self._loops.began(iterator, asked, loader=loader)
        return iterator

    def next(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        return self._loops.next(iterator, lambda: original(iterator), self._batches.get(iterator))


def _timed(prof: Profile, name: str, original: Callable[..., Any], before: Callable[[], None]) -> Callable[..., Any]:
    """The original, timed as a phase; a call inside itself is part of the outer one."""
    phase = threading.local()

    def timed(*args: Any, **kwargs: Any) -> Any:
        if getattr(phase, "inside", False):
            return original(*args, **kwargs)
        before()
        phase.inside = True
        try:
            with prof.phase(name):
                return original(*args, **kwargs)
        finally:
            phase.inside = False

    return timed


def _watch_collectives(undo: contextlib.ExitStack, prof: Profile) -> None:
    """Collectives that the script calls itself are "communication"; those of a backward pass are part of that."""
    import torch.distributed as dist

    for name in _COLLECTIVES if dist.is_available() else ():
        if hasattr(dist, name):
            _patch(undo, dist, name, lambda original: _timed(prof, "communication", original, lambda: None))


def _watch_forward(undo: contextlib.ExitStack, prof: Profile, loops: Loops) -> None:
    """The outermost module's call is "forward"; a call during backward (a recomputation) is part of that."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    here = threading.local()

    def enter(_module: Any, _inputs: Any) -> None:
        depth = getattr(here, "depth", 0)
        here.depth = depth + 1
        if depth == 0:
            loops.forward()
            here.phase = prof.phase("forward")
            here.phase.__enter__()

    def leave(_module: Any, _inputs: Any, _output: Any) -> None:
        # A forward that began before the hooks were there has nothing to close.
        here.depth = max(0, getattr(here, "depth", 0) - 1)
        if here.depth == 0 and getattr(here, "phase", None) is not None:
            here.phase.__exit__(None, None, None)
            here.phase = None

    undo.callback(register_module_forward_pre_hook(enter).remove)
    # always_call: a forward that raises is left too, or every later one would look nested.
    undo.callback(register_module_forward_hook(leave, always_call=True).remove)


def _watch_optimizers(undo: contextlib.ExitStack, prof: Profile, loops: Loops) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    here = threading.local()

    def enter(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        loops.optimized()
        here.phase = prof.phase("optimizer")
        here.phase.__enter__()

    def leave(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if getattr(here, "phase", None) is not None:
            here.phase.__exit__(None, None, None)
            here.phase = None

    undo.callback(register_optimizer_step_pre_hook(enter).remove)
    undo.callback(register_optimizer_step_post_hook(leave).remove)


def _watch_datapipe(undo: contextlib.ExitStack, loops: Loops, stand_ins: StandIns | None) -> None:
    """Our own loader: its threads record themselves, so only the consumer's waits are added here."""
    try:
        loader = importlib.import_module("datapipe.loader").DataLoader
    except (ImportError, AttributeError):
        return
    if not isinstance(loader, type):
        return

    def make(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def watched(self: Any) -> Any:
            # Whoever owns the loop records its waits: our own training loop and `Profile.steps` do.
            frame = sys._getframe(2)  # noqa: SLF001  (the caller of the patched __iter__)
            owned = str(frame.f_globals.get("__name__", "")).startswith("datapipe.")
            if stand_ins is not None and not loops.idle and (owned or stand_ins.mode != "as-is"):
                return stand_ins.iterate(self, lambda: original(self), owned=owned)
            if owned:
                return original(self)
            asked = time.perf_counter_ns()
            iterator = WatchedIterator(original(self), loops)
            loops.began(iterator, asked, loader=self)
            return iterator

        return watched

    _patch(undo, loader, "__iter__", make)
