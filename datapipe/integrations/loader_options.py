"""Loaders of a script, set from outside: what a command line asks for, in place of what the script says.

What enters: options by name ("num_workers": 4). What leaves: loaders that are made with them, and the facts of the
loader that is iterated first, as notes of the profile.
Invariant: only options that change when a batch is ready are set, never what is in it (`in_order` says otherwise of
itself); an option that a loader does not have is left alone; leaving the context puts everything back.

A loader's arguments are checked by the loader itself: what it refuses is its own error, in the script.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.profiling.loader_facts import loader_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datapipe.profiling import Profile
    from datapipe.profiling.loader_facts import Setting

SETTABLE: Final = (
    "num_workers", "prefetch_factor", "pin_memory", "persistent_workers", "in_order",  # torch's
    "num_threads", "prefetch", "workers", "memory_budget",  # datapipe's
)  # fmt: skip
_NEED_WORKERS: Final = ("prefetch_factor", "persistent_workers", "in_order")
"""Options of torch's that mean something only beside workers; without any, torch refuses the first two."""


def parse_options(texts: Sequence[str]) -> dict[str, Setting]:
    """Options from "name=value" as on a command line: numbers, true and false, else a word.

    Raises:
        ConfigError: one is not of that form, or no such option can be set from outside.
    """
    options: dict[str, Setting] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or name not in SETTABLE:
            raise ConfigError(f"no such loader option: {text!r}", expected=f"NAME=VALUE, of {', '.join(SETTABLE)}")
        word = value.strip()
        known: dict[str, Setting] = {"true": True, "false": False, "none": None}
        options[name] = known.get(word.lower(), int(word) if word.lstrip("-").isdecimal() else word)
    return options


@contextlib.contextmanager
def loader_options(prof: Profile, options: Mapping[str, Setting]) -> Iterator[list[Any]]:
    """Set the options of every loader made inside the block, and note the facts of the first that is iterated.

    What is given fills with that loader's dataset.
    """
    datasets: list[Any] = []
    with contextlib.ExitStack() as undo:
        for module in ("torch.utils.data", "datapipe.loader"):
            owner = _loader(module)
            if owner is None:
                continue
            if options:
                _set(undo, owner, "__init__", _made_with(owner.__init__, options))
            _set(undo, owner, "__iter__", _noted(owner.__iter__, prof, datasets))
        yield datasets


def _loader(module: str) -> Any:
    """The loader's class, where its package is installed."""
    try:
        return importlib.import_module(module).DataLoader
    except (ImportError, AttributeError):
        return None


def _set(undo: contextlib.ExitStack, owner: Any, name: str, made: Callable[..., Any]) -> None:
    original = vars(owner)[name]
    setattr(owner, name, made)
    undo.callback(setattr, owner, name, original)


def _made_with(original: Callable[..., None], options: Mapping[str, Setting]) -> Callable[..., None]:
    signature = inspect.signature(original)
    own = {name: value for name, value in options.items() if name in signature.parameters}

    @functools.wraps(original)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.arguments.update(own)
        if "num_workers" in signature.parameters and not bound.arguments.get("num_workers"):
            for name in _NEED_WORKERS:
                if name in own:
                    bound.arguments.pop(name)
        original(*bound.args, **bound.kwargs)

    return made


def _noted(original: Callable[[Any], Any], prof: Profile, datasets: list[Any]) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def noted(self: Any) -> Any:
        for name, value in loader_facts(self).items():
            prof.recorder.notes.setdefault(name, value)
        if not datasets:
            datasets.append(getattr(self, "dataset", None))
        return original(self)

    return noted
