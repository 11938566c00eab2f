"""What to do with a corpus, as data: where the rows' text is, which steps, what shards to write.

What enters: checked values (recipe_file.py reads them from YAML). What leaves: a frozen `Recipe`.
Invariant: `Recipe.fingerprint` is a function of everything that shapes the rows, and of nothing else: no path, no line
number, no order of keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from datapipe.dataset.encryption import EncryptionSettings  # noqa: TC001  (options are checked by their types)
from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus import ReadOptions
    from datapipe.steps import StepSpec


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """How rows are read.

    Attributes:
        text_column: the field with the text, in formats that have fields; media_type: what that text is. None: rows are
            records of a table, without a text.
        id_column: the field with the row's id; None: its place, "<file>:<position>".
        columns: further fields to carry along; of a table, the fields, or "*" for all that a file has.
        max_row_bytes: a longer row is quarantined, and never held in memory.
        media: "image" or "audio": rows are pictures or sounds: files of their own in folders (the label is the
            folder's name, or stands in a metadata.csv), tar files of WebDataset, columns of Parquet; without a text.
        format: of files whose names do not say it ("jsonl", "parquet", "text", …); None: names must.
    """

    text_column: str | None = "text"
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    media_type: str = "text/plain"
    max_row_bytes: int = 64 << 20
    media: Literal["image", "audio"] | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if self.text_column == "" or self.id_column == "":
            raise ConfigError(
                "a column without a name", expected="input.text_column and input.id_column to name columns"
            )
        if self.media is not None and self.text_column is not None:
            raise ConfigError(
                f"input.media = {self.media!r}, and input.text_column = {self.text_column!r}",
                expected="rows of a medium, or of text",
                fix="--set input.text_column=null",
            )
        if self.text_column is None and self.media is None and not self.columns:
            raise ConfigError(
                "input.text_column is null, and input.columns names nothing",
                expected="the columns of the table",
                fix="--set 'input.columns=[\"*\"]' reads all",
            )
        if "*" in self.columns and (len(self.columns) > 1 or self.text_column is not None):
            raise ConfigError(
                f"input.columns = {list(self.columns)}",
                expected='names; or "*" alone, where input.text_column is null: all columns',
                fix="name the columns, or read a table without a text",
            )
        if self.max_row_bytes < 1:
            raise ConfigError(f"input.max_row_bytes = {self.max_row_bytes}", expected="at least 1")
        if self.format is not None:
            from datapipe.corpus import FORMATS

            if self.format not in FORMATS:
                raise ConfigError(f"input.format = {self.format!r}", expected=f"null, or one of {', '.join(FORMATS)}")

    def read_options(self) -> ReadOptions:
        """As the readers take them."""
        from datapipe.corpus import ReadOptions

        return ReadOptions(
            text_column=self.text_column,
            id_column=self.id_column,
            columns=self.columns,
            media_type=self.media_type,
            media=self.media,
            max_row_bytes=self.max_row_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """How shards are written.

    Attributes:
        format: of the shards.
        compression: a codec of the format ("zstd", "snappy", "lz4", "none", …).
        row_group_rows: rows in a row group, the unit that a loader reads.
        split_bytes: stored input bytes that one task reads; None: chosen from the size of the input.
        columns: which columns the shards hold; None: all that the steps leave.
        signals: which rows rules that stand in a row are measured on: "all" that reach the first of them, so that
            `retune` knows what each would have said; "seen": what the rules before left, which is up to twice as fast.
        encryption: columns that only who has the keys may read; None: none.
    """

    format: Literal["parquet", "arrow"] = "parquet"
    compression: str = "zstd"
    row_group_rows: int = 1024
    split_bytes: int | None = None
    columns: tuple[str, ...] | None = None
    signals: Literal["all", "seen"] = "all"
    encryption: EncryptionSettings | None = None

    def __post_init__(self) -> None:
        if self.row_group_rows < 1:
            raise ConfigError(f"output.row_group_rows = {self.row_group_rows}", expected="at least 1")
        if self.split_bytes is not None and self.split_bytes < 1:
            raise ConfigError(f"output.split_bytes = {self.split_bytes}", expected="at least 1, or null")
        known = (
            ("none", "snappy", "gzip", "brotli", "lz4", "zstd") if self.format == "parquet" else ("none", "lz4", "zstd")
        )
        if self.compression not in known:
            raise ConfigError(
                f"output.compression = {self.compression!r}", expected=f"for {self.format}: {', '.join(known)}"
            )


@dataclass(frozen=True, kw_only=True)
class RecipeStep:
    """One step of a recipe: its spec and its options, and where it was written (for messages alone)."""

    spec: StepSpec
    options: Any
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """As the registry has it."""
        return self.spec.name

    def plain(self) -> dict[str, Any]:
        """Options as JSON-able values; of a path to a file only the file's name, so that no machine shows."""
        from datapipe.steps import plain_options

        options = plain_options(self.options)
        for option in self.spec.resources:
            value = options[option]
            options[option] = (
                PurePath(value).name if isinstance(value, str) else [PurePath(each).name for each in value]
            )
        return options


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe, checked value by value (that the order of its steps makes sense is `plan`'s to say)."""

    name: str
    steps: tuple[RecipeStep, ...]
    seed: int = 0
    input: InputSettings = field(default_factory=InputSettings)
    output: OutputSettings = field(default_factory=OutputSettings)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, complete, with nothing of this machine: what the manifest keeps."""
        from datapipe.preprocess.encrypting import without_place
        from datapipe.steps import plain_options

        reading = plain_options(self.input)
        if self.input.media is None:
            del reading["media"]  # recipes of texts and tables are called what they were before there was a choice
        output = plain_options(self.output)
        if self.output.encryption is None:
            del output["encryption"]
        else:
            output["encryption"] = plain_options(without_place(self.output.encryption))
        return {
            "name": self.name,
            "seed": self.seed,
            "input": reading,
            "steps": [
                {"step": step.name, "version": step.spec.version, "options": step.plain()} for step in self.steps
            ],
            "output": output,
        }

    def reading(self) -> InputSettings:
        """How rows are read: of "*", where the first step is a schema that drops what it does not name, its columns."""
        first = self.steps[0] if self.steps else None
        if self.input.columns != ("*",) or first is None or first.name != "schema" or first.options.extra == "keep":
            return self.input
        return replace(self.input, columns=tuple(first.options.columns) or ("*",))

    @property
    def fingerprint(self) -> str:
        """32 hex digits: the same for two recipes that ask for the same."""
        return digest_of(self.as_dict())

    def find(self, name: str) -> list[int]:
        """Places of the steps called `name`, exactly or without the variant after '@'."""
        exact = [i for i, step in enumerate(self.steps) if step.name == name]
        return exact or [i for i, step in enumerate(self.steps) if step.name.split("@")[0] == name]

    def with_step(self, place: int, options: Any) -> Recipe:
        """The recipe with other options for the step at `place`."""
        from datapipe.steps import find_step

        before = self.steps[place]
        # From the registry's spec: the one at hand is resolved for the options that it had.
        spec = before.spec if before.spec.resolve is None else find_step(before.name).resolved(options)
        step = replace(before, spec=spec, options=options)
        return replace(self, steps=(*self.steps[:place], step, *self.steps[place + 1 :]))

    def __iter__(self) -> Iterator[RecipeStep]:
        return iter(self.steps)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """xxh3_128 of the canonical JSON: 32 hex digits."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(canonical(value))
