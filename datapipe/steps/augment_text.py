"""augment_text: the text of each row, edited by chance; another edit in each epoch.

What enters: `row_id, text`. What leaves: the same rows, texts edited. Invariant: what becomes of a text is a function
of it, the options, their files and (seed, row id, epoch): the same offline and online, on any number of workers, in
batches of any size; each edit draws by itself, so that one's rate changes nothing of another's draws.

The edits are in `augment_text_edits`; rates default to the 0.1 of EDA (Wei & Zou 2019, arXiv:1901.11196, section 4),
and a text is given one of them, as there. Case, letters and phrases are not EDA's, and are off unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.steps.augment_text_edits import (
    change_case,
    delete_words,
    insert_synonyms,
    mistype,
    rephrase,
    replace_synonyms,
    swap_words,
)
from datapipe.steps.augment_text_tables import read_synonyms, read_templates
from datapipe.steps.columns import TEXT, row_ids, set_column, text_of
from datapipe.steps.draws import bits, uniform
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

    Edit = Callable[..., tuple[str, int]]

EDITS: Final = ("template", "synonym", "insert", "swap", "delete", "case", "typo")
"""In the order in which they are made where a text is given all of them."""
SIGNALS: Final = tuple(f"augment_text.{name}" for name in EDITS)


@dataclass(frozen=True, kw_only=True)
class AugmentTextOptions:
    """Options of augment_text. A rate of 0 switches an edit off, and so does a table that is not given.

    Attributes:
        share: share of the rows that are edited at all.
        edits: one: each text is given one of the edits that are on, drawn by chance. all: each in turn.
        synonyms: file of synonyms: a word, a tab, its synonyms with tabs between.
        templates: file of templates: a phrase in which {name} stands for one to five words, a tab, what it may become.
        template_rate: chance of each phrase that a template fits to be rewritten.
        synonym_rate: share of the words that become synonyms of theirs, one word at least.
        insert_rate: synonyms that are inserted for each word, one at least.
        swap_rate: swaps for each word, one at least.
        delete_rate: chance of each word to go.
        case_rate: chance of each word to change its case.
        typo_rate: chance of each letter from a to z to be mistyped.
    """

    share: float = 1.0
    edits: Literal["one", "all"] = "one"
    synonyms: str = ""
    templates: str = ""
    template_rate: float = 0.0
    synonym_rate: float = 0.1
    insert_rate: float = 0.1
    swap_rate: float = 0.1
    delete_rate: float = 0.1
    case_rate: float = 0.0
    typo_rate: float = 0.0

    def __post_init__(self) -> None:
        in_range("augment_text.share", self.share, 0, 1)
        for name in EDITS:
            in_range(f"augment_text.{name}_rate", self.rate(name), 0, 1)
        if self.template_rate and not self.templates:
            raise ConfigError(
                f"augment_text.template_rate = {self.template_rate}, and no templates",
                expected="a file of templates",
                fix="name it in templates, or set template_rate to 0",
            )

    def rate(self, name: str) -> float:
        """The rate of one of EDITS."""
        return float(getattr(self, f"{name}_rate"))


@final
class AugmentText:
    """The step: it holds the user's tables, read at the first table; a pickle of it holds the options."""

    def __init__(self, options: AugmentTextOptions) -> None:
        self.options = options
        self._edits: dict[str, Edit] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (AugmentText, (self.options,))

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Edit the texts.

        Args:
            table: `row_id: string, text: string`.
            keys: seed and epoch.

        Returns:
            The table with `text` edited, and for each edit the signal `augment_text.<name>: int64`, how many the row
            was given.

        Raises:
            ConfigError: a table cannot be read.
        """
        import numpy as np
        import pyarrow as pa

        options = self.options
        ids = row_ids(table).to_pylist()
        texts: list[Any] = text_of(table).to_pylist()
        edits = self.edits()
        counts = {name: np.zeros(len(texts), np.int64) for name in EDITS}
        chosen = uniform(ids, keys, "augment_text.share") < options.share
        which = (uniform(ids, keys, "augment_text.edit") * len(edits)).astype(np.int64)
        for number, (name, edit) in enumerate(edits.items()):
            meant = chosen & (which == number) if options.edits == "one" else chosen
            rows = np.flatnonzero(meant).tolist()
            seeds = bits([ids[row] for row in rows], keys, f"augment_text.{name}").tolist()
            for row, seed in zip(rows, seeds, strict=True):
                # Python promises that random() gives the same numbers for a seed in every version.
                draw = Random(seed).random  # noqa: S311  (no secret)
                texts[row], counts[name][row] = edit(texts[row], options.rate(name), draw)
        table = set_column(table, TEXT, pa.chunked_array([pa.array(texts, pa.large_string())]))
        for name, values in counts.items():
            table = set_column(table, f"augment_text.{name}", pa.array(values))
        return table

    def edits(self) -> dict[str, Edit]:
        """The edits that are on, in order, their tables bound."""
        if self._edits is None:
            options = self.options
            known: dict[str, Edit] = {"swap": swap_words, "delete": delete_words, "case": change_case, "typo": mistype}
            if options.templates and options.template_rate:
                known["template"] = partial(rephrase, templates=read_templates(options.templates))
            if options.synonyms and (options.synonym_rate or options.insert_rate):
                synonyms = read_synonyms(options.synonyms)
                known["synonym"] = partial(replace_synonyms, synonyms=synonyms)
                known["insert"] = partial(insert_synonyms, synonyms=synonyms)
            self._edits = {name: known[name] for name in EDITS if name in known and options.rate(name)}
        return self._edits


def build(options: AugmentTextOptions) -> Step:
    """The step with its options bound."""
    return AugmentText(options)


SPEC: Final = StepSpec(
    name="augment_text",
    version=1,
    kind="map",
    options=AugmentTextOptions,
    build=build,
    summary="texts edited by chance: synonyms, swaps, insertions, deletions, case, typos, templates",
    needs=("row_id", "text"),
    gives=("text",),
    signals=SIGNALS,
    counters=SIGNALS,
    resources=("synonyms", "templates"),
)
