"""Work inside work: a stage recorded inside another's span takes its time from it.

What enters: spans as recorded; a "footer" read inside a "fetch", a "decompress" inside a "decode", a "pin" inside an
"h2d". What leaves: spans of which no two on a thread overlap for these stages, so that a walk along the path, a stage's
busy time and a replay count no moment twice.
Invariant: the pieces of an outer span and what ran inside it cover exactly the outer span; bytes, flags and the item
stay with its last piece, and the inner ones are on the outer's item.

A stage that is called by another does not know which block or batch it works for; the outer span does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.events import DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Spans = npt.NDArray[np.void]

INNER: Final = ("list", "footer", "filter", "decompress", "pin")
OUTER: Final = ("fetch", "decode", "quarantine", "prepare", "gather", "h2d")
_BRIEF_NS: Final = 20_000
"""What is left of an outer span before an inner one, and is shorter than this, is a function call: the inner's."""


def unnested(spans: Spans, stages: Sequence[str]) -> Spans:
    """The spans with inner ones cut out of the outer ones, sorted by start.

    Args:
        spans: structured array of `events.FIELDS`.
        stages: stage names by number.
    """
    import numpy as np

    host = spans["flags"] & DEVICE == 0
    inner = np.flatnonzero(host & np.isin(spans["stage"], [i for i, name in enumerate(stages) if name in INNER]))
    if not len(inner):
        return spans
    outer = np.flatnonzero(host & np.isin(spans["stage"], [i for i, name in enumerate(stages) if name in OUTER]))
    held = _holders(spans, inner, outer)
    inner, held = inner[held >= 0], held[held >= 0]
    _, which, many = np.unique(held, return_inverse=True, return_counts=True)
    alone = many[which] == 1
    by_outer: dict[int, list[int]] = {}
    for i, o in zip(inner[~alone].tolist(), held[~alone].tolist(), strict=True):
        by_outer.setdefault(o, []).append(i)
    pieces = spans.copy()
    more = [_cut_around_one(pieces, held[alone], inner[alone])] if alone.any() else []
    for o, inside in by_outer.items():
        more += [piece.reshape(1) for piece in _cut(pieces, o, inside)]
    if more:
        pieces = np.concatenate([pieces, *more])
    return pieces[np.lexsort((pieces["end"], pieces["start"]))]


def _holders(spans: Spans, inner: Ints, outer: Ints) -> Ints:
    """The outer span that holds each inner one, on its thread; -1: none, or it is held by another inner one."""
    import numpy as np

    held = np.full(len(inner), -1, dtype=np.int64)
    for thread in np.unique(spans["thread"][inner]).tolist():
        here = np.flatnonzero(spans["thread"][inner] == thread)
        hosts = outer[spans["thread"][outer] == thread]
        if not len(hosts):
            continue
        hosts = hosts[np.argsort(spans["start"][hosts], kind="stable")]
        place = np.searchsorted(spans["start"][hosts], spans["start"][inner[here]], side="right") - 1
        host = hosts[np.maximum(place, 0)]
        holds = (place >= 0) & (spans["end"][host] >= spans["end"][inner[here]])
        held[here[holds]] = host[holds]
    return held


def _cut_around_one(spans: Spans, outer: Ints, inner: Ints) -> Spans:
    """Cut outer spans, each around the only one that ran inside it, in place, all at once; the pieces that are new.

    Most are such, one a block or a batch: as `_cut` does it, one by one, a million took half a minute.
    """
    import numpy as np

    whole, one = spans[outer], spans[inner]
    at = whole["start"].copy()
    start, end = np.maximum(at, one["start"]), np.maximum(at, one["end"])
    first = start - at < _BRIEF_NS
    start[first] = at[first]
    piece: Spans = whole[~first]
    piece["end"] = piece["put"] = start[~first]
    piece["bytes"] = piece["cpu"] = piece["flags"] = 0
    one["get"] = np.where(first, whole["get"], start)
    one["start"], one["end"], one["put"], one["item"], one["cause"] = start, end, end, whole["item"], whole["cause"]
    whole["get"] = whole["start"] = end
    whole["cpu"] = np.maximum(0, whole["cpu"] - one["cpu"])
    spans[inner], spans[outer] = one, whole
    return piece


def _cut(spans: Spans, outer: int, inside: list[int]) -> list[np.void]:
    """Cut one outer span around what ran inside it, in place; the pieces that are new."""
    whole = spans[outer].copy()
    at, rest, new = int(whole["start"]), int(whole["cpu"]), []
    first = True
    for i in sorted(inside, key=lambda i: (int(spans["start"][i]), -int(spans["end"][i]))):
        start, end = max(at, int(spans["start"][i])), max(at, int(spans["end"][i]))
        if start - at < _BRIEF_NS:
            start = at
        else:
            piece = whole.copy()
            piece["start"], piece["end"], piece["put"] = at, start, start
            piece["get"] = whole["get"] if first else at
            piece["bytes"] = piece["cpu"] = piece["flags"] = 0
            new.append(piece)
        one = spans[i]
        one["get"] = whole["get"] if first and start == at else start
        one["start"], one["end"], one["put"], one["item"], one["cause"] = start, end, end, whole["item"], whole["cause"]
        rest -= int(one["cpu"])
        at, first = end, False
    last = spans[outer]
    last["get"] = last["start"] = at
    last["cpu"] = max(0, rest)
    return new
