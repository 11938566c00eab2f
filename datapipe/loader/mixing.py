"""From a mixture to the sequence that a loader walks, and to what its state records of it.

What enters: a mixture, and how one source's sequence is made. What leaves: geometry, sequence, record, and what differs
between two records. Invariant: sources of no weight are in the fingerprint alone; the others' sequences know nothing of
each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.loader.bijection import derive_key
from datapipe.loader.geometry import Geometry, choose_geometry
from datapipe.loader.mix_order import MixOrder
from datapipe.loader.mix_shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.mix_weights import Weights
    from datapipe.loader.mixture import Mixture
    from datapipe.loader.sequence import Sequence, Tail

    SequenceOf = Callable[[int, str, Geometry], Sequence]
    """(number of the source, its name within the mix, its geometry) → its sequence, of units one by one."""

_TOLD: Final = 32
"""Sources that a state tells one by one; of more it holds digests."""


def active(mixture: Mixture) -> list[int]:
    """The sources that are read at all.

    Raises:
        ConfigError: one of them has no rows.
    """
    found = [k for k in range(len(mixture.names)) if any(row[k] for row in mixture.weights.rows)]
    cuts, rows = mixture.index.cuts, mixture.index.rows
    for k in found:
        if not rows[cuts[k] : cuts[k + 1]].any():
            name = mixture.names[k]
            raise ConfigError(
                f"source {name!r} has no rows, and a weight above 0",
                expected="a row or more of every source that is read",
                fix=f"weights={{{name!r}: 0, …}}, or another filter",
            )
    return found


def mixed_geometry(mixture: Mixture, *, shuffle: bool, lanes: int | None, window: int | None) -> Geometry:
    """Each source's geometry, as its own loader would choose it with its part of the memory.

    Args:
        lanes, window: of every source, where they are asked for.
    """
    cuts, index, read = mixture.index.cuts, mixture.index, active(mixture)
    parts = []
    for k in read:
        own = slice(int(cuts[k]), int(cuts[k + 1]))
        rows, nbytes = index.rows[own], index.bytes[own]
        parts.append(
            choose_geometry(rows, nbytes, shuffle=shuffle, lanes=lanes, window=window, beside=len(read)),
        )
    return Geometry(
        lanes=sum(part.lanes for part in parts),
        window=max((part.window for part in parts), default=1),
        parts=tuple((part.lanes, part.window) for part in parts),
    )


def can_be_mixed(mixture: Mixture, geometry: Geometry) -> bool:
    """Whether the sources that are read can be cut so."""
    cuts, index, read = mixture.index.cuts, mixture.index, active(mixture)
    if len(read) != len(geometry.parts) or min(map(min, geometry.parts)) < 1:
        return False
    for k, (lanes, window) in zip(read, geometry.parts, strict=True):
        own = slice(int(cuts[k]), int(cuts[k + 1]))
        found = choose_geometry(index.rows[own], index.bytes[own], shuffle=True, lanes=lanes, window=window)
        if (found.lanes, found.window) != (lanes, window):
            return False
    lanes, window = sum(part[0] for part in geometry.parts), max(part[1] for part in geometry.parts)
    return (geometry.lanes, geometry.window) == (lanes, window)


def mixed_sequence(
    mixture: Mixture,
    make: SequenceOf,
    *,
    geometry: Geometry,
    global_batch: int,
    tail: Tail,
    shuffle: bool,
    seed: int,
    of_rows: bool,
) -> MixOrder:
    """The sequence of a mixture whose sources' sequences `make` makes.

    Args:
        seed: the loader's. of_rows: units are rows, of which sources may have more or fewer tokens.
    """
    read = active(mixture)
    names = tuple(mixture.names[k] for k in read)
    shares = mixture.shares(of_rows=of_rows)
    key = derive_key("mix-1", mixture.fingerprint, seed, mixture.seed) if shuffle else None
    sources = [
        make(k, f"{names[i]}|{mixture.seed}|{mixture.sources[k].fingerprint}", Geometry(lanes=lanes, window=window))
        for i, (k, (lanes, window)) in enumerate(zip(read, geometry.parts, strict=True))
    ]
    return MixOrder(
        names,
        sources,
        Shares([step * global_batch for step in shares.steps], [[row[k] for k in read] for row in shares.rows], key),
        offsets=[int(mixture.index.cuts[k]) for k in read],
        until=mixture.until,
        geometry=geometry,
        global_batch=global_batch,
        tail=tail,
    )


def record_of(mixture: Mixture, geometry: Geometry) -> dict[str, Any]:
    """What a state holds of a mixture."""
    sources: Any = {name: data.fingerprint for name, data in zip(mixture.names, mixture.sources, strict=True)}
    if len(sources) > _TOLD:
        sources = f"{derive_key('sources', *(each for pair in sources.items() for each in pair)):016x}"
    return {
        "sources": sources,
        "weights": _told(mixture.weights),
        "by": mixture.by,
        "until": mixture.until,
        "seed": mixture.seed,
        "geometry": [list(part) for part in geometry.parts],
    }


def _told(weights: Weights) -> Any:
    """Shares where they are few and stay, else the digest of the table."""
    if len(weights.steps) == 1 and len(weights.names) <= _TOLD:
        return weights.at(0)
    return weights.digest


def differences(saved: Any, here: Any) -> list[tuple[str, str]]:
    """(what differs, what to do) for each difference between two records, either of which may be None."""
    if not isinstance(saved, dict) or not isinstance(here, dict):
        what = "a mix and here one dataset" if here is None else "one dataset and here a mix"
        return [(f"it is of {what}", "give the loader what the state was saved with")]
    found = []
    for name in here:
        was, now = saved.get(name), here[name]
        if was == now:
            continue
        if name == "sources" and isinstance(was, dict) and isinstance(now, dict):
            found += [_of_source(each, was.get(each), now.get(each)) for each in sorted({*was, *now})]
        elif name == "weights" and not isinstance(was, dict) and not isinstance(now, dict):
            found.append(("the curriculum differs", "the weights, or the function of them, that it was saved with"))
        elif name == "geometry":
            found.append((f"lanes and windows of the sources {was}, here {now}", "lanes=None, window=None"))
        else:
            found.append((f"{name} of the mix {_shown(was)}, here {_shown(now)}", f"mix(..., {name}={_shown(was)})"))
    return [each for each in found if each[0]]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        shares = (f"{each:.6g}" if isinstance(each, float) else repr(each) for each in value.values())
        return "{" + ", ".join(f"{name!r}: {share}" for name, share in zip(value, shares, strict=True)) + "}"
    return repr(value)


def _of_source(name: str, was: str | None, now: str | None) -> tuple[str, str]:
    if was == now:
        return "", ""
    if was is None:
        return f"source {name!r} is new", f"leave source {name!r} out: a mix of other sources has another order"
    if now is None:
        return f"source {name!r} is missing", f"give the mix its source {name!r} again"
    return f"source {name!r} was {was}, here {now}", f"open source {name!r} as it was (its files or filter changed)"
