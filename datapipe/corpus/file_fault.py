"""The fault that ends the reading of a piece, without ending the run.

What enters: a reason and what is known of the place. What leaves: an exception. Invariant: it never leaves the room:
`read_piece` makes a counted reason of it.
"""

from __future__ import annotations


class FileFault(Exception):  # noqa: N818  (it never leaves the room: `read_piece` makes a Quarantined of it)
    """What is left of a file cannot be read.

    Args:
        reason: one of `reasons.FILE_REASONS`.
        detail: what went wrong, in words.
        position: how far the reading had come, as in row ids; None: not known, the piece's start is taken.
        excerpt: what stood there.
    """

    def __init__(self, reason: str, detail: str, *, position: int | None = None, excerpt: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.position = position
        self.excerpt = excerpt
