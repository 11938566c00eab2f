"""The answer of `explain`, as data and as text.

What enters: what was stored of a row. What leaves: frozen data, lines for a person. Invariant: nothing is computed
here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from datapipe.preprocess.row_in_shards import InShards
    from datapipe.preprocess.sound_windows import Window

_SHOWN: Final = 8
"""Rows, and windows, that are told one by one."""


@final
@dataclass(frozen=True, kw_only=True)
class Survivor:
    """The row that another repeats.

    Attributes:
        row_id: None where it is not known any more.
        outcome, reason: what became of it in turn: "kept", "dropped", "duplicate", "quarantined".
        last: the end of the chain, where it lost to another itself.
    """

    row_id: str | None
    split: int
    position: int
    outcome: str
    reason: str | None
    last: str | None


@final
@dataclass(frozen=True, kw_only=True)
class StepSaid:
    """What one step had to say of the row.

    Attributes:
        kind: "passed"; "drop", "duplicate" or "quarantine" of the step by which it went; "measured" of a step judged
            side by side with that one, which would have said `reason` (None: pass).
        signals: what it measured. thresholds: the options it was judged by.
    """

    step: str
    kind: str
    reason: str | None = None
    detail: str | None = None
    survivor: Survivor | None = None
    signals: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What happened to a row.

    Attributes:
        file: the input file's name; None where ids come from a column. split: the part of the input it was in.
        position: its number there; None of what the reader could not read. bytes: of its raw content.
        outcome: "kept", "dropped", "duplicate" or "quarantined"; step, reason, detail: by what, and why.
        survivor: of a duplicate, the row that stayed. steps: in order, up to the one by which it went.
        labels: language, n_tokens, where they were found out. redactions: counters that are not 0.
        where: of a kept row, the shard and rows that hold it.
        sound: of a window of a sound (`audio_windows`), the sound's id: what became of it is what is told.
        windows: that were cut of a sound, or the one that was asked for.
        same_id: further rows of the same id.
    """

    row_id: str
    file: str | None
    split: int
    position: int | None
    bytes: int | None
    outcome: str
    step: str | None
    reason: str | None
    detail: str | None
    survivor: Survivor | None
    steps: tuple[StepSaid, ...]
    labels: dict[str, Any]
    redactions: dict[str, int]
    where: InShards | None
    sound: str | None = None
    windows: tuple[Window, ...] = ()
    same_id: tuple[Explanation, ...] = ()

    def with_same_id(self, others: tuple[Explanation, ...]) -> Explanation:
        """The explanation with those of further rows of the same id."""
        return dataclasses.replace(self, same_id=others)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """For a person."""
        size = "" if self.bytes is None else f", {self.bytes:,} bytes"
        at = "" if self.position is None else f", row {self.position} of it"
        lines = [f"{self.row_id}: {self._headline()}", f"  split {self.split}{at}{size}"]
        lines += [f"  {name}: {value}" for name, value in self.labels.items()]
        for said in self.steps:
            lines += _said(said)
        if self.redactions:
            lines.append("  counted: " + ", ".join(f"{name} {n}" for name, n in self.redactions.items()))
        if self.where is not None:
            lines += _where(self.where)
        lines += self._windows()
        for other in self.same_id:
            lines += ["the same id once more", *other.lines()]
        return lines

    def _windows(self) -> list[str]:
        if self.sound is not None:
            told = [f"  a window of the sound {self.sound}, {each}" for each in self.windows]
            return told or [f"  {self.sound} is a sound of which there is no window"]
        if not self.windows:
            return []
        shown = [f"      {each.row_id}: {each}" for each in self.windows[:_SHOWN]]
        more = len(self.windows) - len(shown)
        return [
            f"  windows cut of it: {len(self.windows):,}",
            *shown,
            *([f"      and {more:,} more"] if more else ()),
        ]

    def _headline(self) -> str:
        if self.outcome == "kept":
            return "kept"
        if self.survivor is not None:
            return f"duplicate of {_name(self.survivor)} ({self.reason}, by {self.step})"
        return f"{self.outcome} by {self.step}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


def _name(survivor: Survivor) -> str:
    return survivor.row_id if survivor.row_id is not None else f"row {survivor.position} of split {survivor.split}"


def _said(said: StepSaid) -> list[str]:
    if said.kind == "measured":
        verdict = f"measured as well: {f'would drop it, {said.reason}' if said.reason else 'would let it pass'}"
    elif said.kind == "passed":
        verdict = "passed"
    else:
        verdict = f"{said.kind}: {said.reason}" + (f" ({said.detail})" if said.detail else "")
    lines = [f"  {said.step}: {verdict}"]
    if said.survivor is not None:
        one = said.survivor
        stayed = one.outcome == "kept"
        lines.append(
            f"      {_name(one)} {'stayed' if stayed else f'came first, and was {one.outcome} ({one.reason})'}"
        )
        if one.outcome == "duplicate":
            lines.append(f"      of which {one.last} stayed in the end")
    if said.signals:
        lines.append("      measured: " + _pairs({name.rpartition(".")[2]: v for name, v in said.signals.items()}))
    if said.thresholds:
        lines.append("      judged by: " + _pairs(said.thresholds))
    return lines


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _where(where: InShards) -> list[str]:
    if where.shard is None:
        return [f"  in no shard: {where.remark}"]
    if not where.rows:
        return [f"  in {where.shard}" + (f" ({where.remark})" if where.remark else "")]
    shown = where.rows[:_SHOWN]
    rows = ", ".join(
        f"{each.row} (row group {each.row_group}{'' if each.segment is None else f', segment {each.segment}'})"
        for each in shown
    )
    more = f" and {len(where.rows) - len(shown)} more" if len(where.rows) > len(shown) else ""
    plural = "rows" if len(where.rows) > 1 else "row"
    return [f"  in {where.shard}, {plural} {rows}{more}" + (f"; {where.remark}" if where.remark else "")]
