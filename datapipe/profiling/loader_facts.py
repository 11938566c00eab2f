"""What a loader is and how it is set, read off the object by name: for the report, and for whoever gives advice.

What enters: any iterable of batches. What leaves: facts by name, "loader" first; none of a loader that is not known.
Invariant: nothing is imported, iterated or changed; an attribute that cannot be read is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Setting = str | int | float | bool | None

TORCH: Final = "torch.utils.data.DataLoader"
DATAPIPE: Final = "datapipe.DataLoader"
OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    TORCH: (
        "batch_size", "num_workers", "prefetch_factor", "pin_memory", "persistent_workers", "in_order",
    ),
    DATAPIPE: ("batch_size", "num_threads", "prefetch", "memory_budget"),
}  # fmt: skip
"""Loader → its attributes that are facts of a run. What can be set from outside is all but the batch size."""
_PREFIX: Final = "loader."


def loader_facts(loader: Any) -> dict[str, Setting]:
    """The facts of a loader: "loader", and "loader.num_workers" and the like; {} where it is none that is known."""
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(loader).__mro__}
    name = {"torch.DataLoader": TORCH, "datapipe.DataLoader": DATAPIPE}
    known = next((name[kind] for kind in name if kind in kinds), None)
    if known is None:
        return {}
    facts: dict[str, Setting] = {"loader": known}
    for option in OPTIONS[known]:
        value = getattr(loader, option, ...)
        if value is None or isinstance(value, str | int | float | bool):
            facts[_PREFIX + option] = value
    return facts


def loader_text(loader: Any) -> str:
    """A loader in a few words: its name, and how many workers or threads it has where it is one that is known."""
    facts = loader_facts(loader)
    name = facts.get("loader") or f"{type(loader).__module__.partition('.')[0]}.{type(loader).__name__}"
    made = [f"{key}={option_of(facts, key)}" for key in ("num_workers", "num_threads") if _PREFIX + key in facts]
    return f"{name}({', '.join(made)})" if made else str(name)


def option_of(facts: Mapping[str, Any], name: str) -> Any:
    """One setting of the loader that a run's notes describe; None where they do not say."""
    return facts.get(_PREFIX + name)
