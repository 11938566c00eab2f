"""The exception tree. What enters is a fault; what leaves says what was got, what was expected and what to do.

    DatapipeError
    ├── ConfigError            an argument, option or recipe is wrong (exit code 2)
    │   └── RecipeError        … in a recipe file; the message carries the line
    ├── StorageError           bytes could not be listed, read or written
    │   ├── NotFoundError      there is nothing by that name
    │   ├── AccessError        there is, and these credentials may not touch it
    │   ├── IntegrityError     the bytes are not those promised: length, checksum or a truncated file
    │   └── NoSpaceError       the disk or the bucket is full
    ├── CorpusError            the raw input holds nothing that can be read
    │   └── InputError         an input that was named is not there (exit code 2)
    ├── DatasetError           a dataset on disk is not what its manifest says
    │   ├── ManifestError      the manifest itself: version, a missing field, a path that leaves the dataset
    │   ├── SchemaError        a column is missing or of another type
    │   └── EncryptionError    columns are encrypted, and the right key is not to be had
    ├── PreprocessError        a run could not finish
    │   ├── StepError          a step raised; the notes name step, shard and row
    │   ├── OutputError        the output folder holds something else, or another run holds it
    │   └── LedgerError        in ≠ out + dropped + duplicates + quarantined
    ├── LoaderError            the loader could not deliver a batch
    │   ├── StateError         a state does not fit this loader; the message names each difference
    │   └── ClosedError        a closed loader was used
    ├── DecodeError            an image or a sound cannot be decoded; `reason` is the word by which it is counted
    ├── TrainError             the training loop could not go on
    │   └── CheckpointError    a checkpoint could not be written, or is not one
    └── ProfileError           a profile is damaged or was recorded by another version
        └── NoProfileError     a profile or a trace that was named is not there (exit code 2)

Invariant: every error raised on purpose is one of these. `assert` is left to our own bugs.
"""

from __future__ import annotations

from typing import Final

MOST_WORDS: Final = 500
"""Characters of an error that is not ours: it may hold a document."""


class DatapipeError(Exception):
    """The root: `except datapipe.DatapipeError` catches everything the toolkit raises on purpose.

    Args:
        got: what was found, in a few words or a value. Credentials must already be masked.
        expected: what would have been right.
        fix: what the reader can do about it, as a command, an argument or a sentence.
    """

    def __init__(self, got: str, *, expected: str | None = None, fix: str | None = None) -> None:
        self.got = got
        self.expected = expected
        self.fix = fix
        super().__init__(got, expected, fix)

    def __str__(self) -> str:
        text = self.got
        if self.expected:
            text += f"\n  expected: {self.expected}"
        if self.fix:
            text += f"\n  to do: {self.fix}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # An error crosses process boundaries (Dask workers), notes included.
        state = {"__notes__": list(notes)} if (notes := getattr(self, "__notes__", None)) else None
        return (_rebuild, (type(self), self.got, self.expected, self.fix), state)


def _rebuild(kind: type[DatapipeError], got: str, expected: str | None, fix: str | None) -> DatapipeError:
    return kind(got, expected=expected, fix=fix)


def in_words(error: BaseException) -> str:
    """Type and message of anybody's error: at most 500 characters, which can be stored as UTF-8.

    A message may be of any length, hold halves of surrogate pairs, or raise when it is asked for.
    """
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be read)"
    return f"{type(error).__name__}: {said}"[:MOST_WORDS].encode("utf-8", "backslashreplace").decode()


class ConfigError(DatapipeError):
    """An argument, an option or a recipe is wrong."""


class RecipeError(ConfigError):
    """A recipe file is wrong; the message carries the line and the nearest valid name."""


class StorageError(DatapipeError):
    """Bytes could not be listed, read or written."""


class NotFoundError(StorageError):
    """There is nothing by that name."""


class AccessError(StorageError):
    """It is there, and these credentials or permissions do not allow the operation."""


class IntegrityError(StorageError):
    """The bytes are not those promised: wrong length, wrong checksum, or a truncated file."""


class NoSpaceError(StorageError):
    """There is no space left to write to."""


class CorpusError(DatapipeError):
    """The raw input holds nothing that can be read."""


class InputError(CorpusError):
    """An input that was named is not there, or a pattern matches nothing."""


class DatasetError(DatapipeError):
    """A dataset on disk is not what its manifest says."""


class ManifestError(DatasetError):
    """The manifest is damaged, of another version, or names a path outside the dataset."""


class SchemaError(DatasetError):
    """A column is missing or is of another type."""


class EncryptionError(DatasetError):
    """Columns are encrypted, and the right key is not to be had; of the key the message says nothing but its name."""


class PreprocessError(DatapipeError):
    """A preprocessing run could not finish."""


class StepError(PreprocessError):
    """A step raised; the notes name the step, the shard and the row."""


class OutputError(PreprocessError):
    """The output folder holds something else, or another run holds it."""


class LedgerError(PreprocessError):
    """Rows are unaccounted for: in ≠ out + dropped + duplicates + quarantined."""


class LoaderError(DatapipeError):
    """The loader could not deliver a batch."""


class StateError(LoaderError):
    """A loader state does not fit this loader; the message names each difference."""


class ClosedError(LoaderError):
    """A closed loader was used."""


class DecodeError(DatapipeError):
    """An image or a sound cannot be decoded.

    Attributes:
        reason: why, in a word, as ledgers count it ("truncated", "too_large"); who raises it lists the words.
    """

    def __init__(
        self, got: str, *, reason: str = "damaged", expected: str | None = None, fix: str | None = None
    ) -> None:
        self.reason = reason
        super().__init__(got, expected=expected, fix=fix)

    def __reduce__(self) -> tuple[object, ...]:
        rebuild, arguments, state = super().__reduce__()
        return (rebuild, arguments, {**(state if isinstance(state, dict) else {}), "reason": self.reason})


class TrainError(DatapipeError):
    """The training loop could not go on."""


class CheckpointError(TrainError):
    """A checkpoint could not be written, or is not one."""


class ProfileError(DatapipeError):
    """A profile is damaged or was recorded by another version."""


class NoProfileError(ProfileError):
    """A profile, or a trace, that was named is not there."""
