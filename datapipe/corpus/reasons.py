"""Why a row or a file was not taken: every reason that a reader or a discovery can give, in one place.

A ledger counts by these names, so they are part of the output's format: they may be added to, not renamed.
"""

from __future__ import annotations

from typing import Final

# Rows (Quarantined.reason)
INVALID_JSON: Final = "invalid_json"
NOT_AN_OBJECT: Final = "not_an_object"
MISSING_TEXT: Final = "missing_text"
TEXT_NOT_STRING: Final = "text_not_string"
MISSING_ID: Final = "missing_id"
ROW_TOO_LARGE: Final = "row_too_large"
MALFORMED_ROW: Final = "malformed_row"
MISSING_MEDIA: Final = "missing_media"
UNSAFE_PATH: Final = "unsafe_path"
NOT_REGULAR_FILE: Final = "not_regular_file"

# What is left of a file, or all of it; counted as one row (Quarantined.reason)
TRUNCATED_FILE: Final = "truncated_file"
DAMAGED_FILE: Final = "damaged_file"
UNREADABLE_FILE: Final = "unreadable_file"
CHANGED_FILE: Final = "changed_file"
NO_TEXT_COLUMN: Final = "no_text_column"
NO_COLUMNS: Final = "no_columns"

ROW_REASONS: Final = (
    INVALID_JSON, NOT_AN_OBJECT, MISSING_TEXT, TEXT_NOT_STRING, MISSING_ID, ROW_TOO_LARGE, MALFORMED_ROW,
    MISSING_MEDIA, UNSAFE_PATH, NOT_REGULAR_FILE,
)  # fmt: skip
FILE_REASONS: Final = (TRUNCATED_FILE, DAMAGED_FILE, UNREADABLE_FILE, CHANGED_FILE, NO_TEXT_COLUMN, NO_COLUMNS)

# Files that were not taken (Discovery.skipped); links and folders have further reasons, from `storage.walking`
HIDDEN: Final = "hidden"
UNKNOWN_FORMAT: Final = "unknown_format"
OTHER_MEDIUM: Final = "other_medium"
"""Pictures or sounds are read, and the file holds neither these nor rows or labels of them."""
