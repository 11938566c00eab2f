"""Texts for the steps that judge them, and what a step says of one."""

import pyarrow as pa

from datapipe.steps import Keys, bind, run_steps


def column(texts):
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def reason_of(step, text, options):
    """The reason for which a step marks a text, through run_steps; None: it stays."""
    table = pa.table({"row_id": ["0"], "text": pa.array([text], pa.large_string())})
    marks = run_steps(table, [bind(step, options)], Keys()).marked.to_pylist()
    return marks[0]["reason"] if marks else None


def words(n, *, extra=()):
    """Make n words: 'the', 'of', then four-letter ones, with `extra` in place of the last ones."""
    base = ["the", "of"] + ["word"] * (n - 2)
    return " ".join([*base[: n - len(extra)], *extra])
