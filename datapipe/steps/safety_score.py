"""safety_score: a score for each text from the user's own classifier, and a threshold.

What enters: `text`. What leaves: the same with the column `safety_score`, rows above the threshold marked. Invariant:
the score is the classifier's, of the text alone; nothing is loaded that could run code but a Python file that the user
named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.steps.columns import mark, set_column, text_of
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.text_classifier import Classifier, load_classifier, scores_of

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

TOO_HIGH: Final = "safety_score_too_high"
SCORE: Final = "safety.score"
COLUMN: Final = "safety_score"


@dataclass(frozen=True, kw_only=True)
class SafetyScoreOptions:
    """Options of safety_score.

    Attributes:
        model: path of a Python file (`function` takes a list of texts and gives as many numbers), an ONNX model (input:
            one string tensor [n], or token ids int64 [n, T] and perhaps a mask), or a torch model saved by
            torch.jit.save or torch.export.save (input: token ids). "" with a `function`: an installed one.
        function: its name in the file; or "package.module:function".
        tokenizer: a tokenizer.json, for models that take token ids.
        label: of a matrix of scores [n, k], which column; -1 is the last.
        max_tokens: texts are cut to so many, for models that take token ids.
        batch_rows: texts given to the classifier at a time.
        threshold: rows above it are dropped; null: none are, the score alone is kept.
    """

    model: str = ""
    function: str = ""
    tokenizer: str = ""
    label: int = -1
    max_tokens: int = 512
    batch_rows: int = 64
    threshold: float | None = None

    def __post_init__(self) -> None:
        in_range("safety_score.max_tokens", self.max_tokens, 1)
        in_range("safety_score.batch_rows", self.batch_rows, 1)
        in_range("safety_score.threshold", self.threshold)


def has_classifier(options: object) -> bool:
    """Whether the options are of this step, and name a classifier: code that is not ours will run."""
    return isinstance(options, SafetyScoreOptions) and bool(options.model or options.function)


def judge(signals: pa.Table, options: SafetyScoreOptions) -> pa.Array:
    """TOO_HIGH where the score lies above the threshold: string[n]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if options.threshold is None:
        return pa.nulls(signals.num_rows, pa.string())
    high = pc.greater(signals.column(SCORE), options.threshold)
    reasons = pc.if_else(high, pa.scalar(TOO_HIGH), pa.scalar(None, pa.string()))
    return reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons


@final
class SafetyScore:
    """The step: it holds the classifier, loaded at the first table; a pickle of it holds the options."""

    def __init__(self, options: SafetyScoreOptions) -> None:
        self.options = options
        self._classifier: Classifier | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (SafetyScore, (self.options,))

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Score and mark.

        Args:
            table: `text: string`.
            keys: not used.

        Returns:
            The table with `safety_score: float64`, and the same as the signal `safety.score`.

        Raises:
            ConfigError: the classifier cannot be loaded. StepError: it gave something else than a number a text.
        """
        del keys
        import numpy as np
        import pyarrow as pa

        options = self.options
        if not has_classifier(options):
            scores: Any = np.zeros(table.num_rows)
        else:
            if self._classifier is None:
                self._classifier = load_classifier(
                    options.model,
                    options.function,
                    options.tokenizer,
                    label=options.label,
                    max_tokens=options.max_tokens,
                )
            name = options.function or "safety_score.model"
            scores = scores_of(self._classifier, text_of(table).to_pylist(), options.batch_rows, name)
        found = pa.array(scores, pa.float64())
        reasons = judge(pa.table({SCORE: found}), options)
        table = set_column(set_column(table, COLUMN, found), SCORE, found)
        return mark(table, reasons)


def build(options: SafetyScoreOptions) -> Step:
    """The step with its options bound."""
    return SafetyScore(options)


SPEC: Final = StepSpec(
    name="safety_score",
    version=1,
    kind="map",
    options=SafetyScoreOptions,
    build=build,
    summary="a score from your own classifier (Python, ONNX, torch), and a threshold",
    reasons=(TOO_HIGH,),
    needs=("text",),
    gives=(COLUMN,),
    signals=(SCORE,),
    judge=judge,
    measured_by=("model", "function", "tokenizer", "label", "max_tokens", "batch_rows"),
    resources=("model", "tokenizer"),
)
