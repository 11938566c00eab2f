"""A run with encrypted columns: which recipes it refuses, and by which secret the rows between its stages lie.

What enters: a recipe with `output.encryption`. What leaves: a `SealingPlace` that travels with every task. Invariant:
no value of an encrypted column rests anywhere in the open: not in shards, not in rows between stages, not in samples of
rejects, signals, statistics, vocabularies or reports; what could hold one is withheld, or the recipe is refused.

What stays in the open: row ids, lengths, languages, scores, and hashes of texts by which duplicates are found (a text
that can be guessed can be recognised by its hash).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datapipe.dataset import EncryptionEntry, Keyring, Sealing
    from datapipe.dataset.encryption import EncryptionSettings
    from datapipe.preprocess.recipe import Recipe
    from datapipe.storage import Store

WITHHELD: Final = "(withheld: the dataset has encrypted columns)"
KEPT_SECRET: Final = "_work/secret"  # noqa: S105  (a path)
"""Where a service's keys are used: the run's secret, wrapped; a key is needed to open it."""
_TEXT: Final = ("text", "raw")
_PASSING: Final = os.urandom(32)


@final
@dataclass(frozen=True, kw_only=True)
class SealingPlace:
    """What an output is encrypted by, as a worker finds it: names alone, keys are asked for where they are used."""

    settings: EncryptionSettings
    wrapped: str | None = field(default=None, repr=False)

    def keyring(self) -> Keyring:
        """The keys."""
        return _keyring(self.settings.keys)

    def secret(self) -> bytes:
        """What rows between stages, and digests of rows, are keyed by."""
        return self.keyring().secret(self.settings.footer_key, self.wrapped)[0]

    def shard(self) -> Sealing:
        """What a shard is encrypted by."""
        from datapipe.dataset import Sealing

        return Sealing(settings=self.settings, keyring=self.keyring(), secret=self.secret())

    def entry(self) -> EncryptionEntry:
        """What the manifest says of it."""
        from datapipe.dataset import EncryptionEntry

        settings = self.settings
        return EncryptionEntry(
            columns=settings.columns,
            footer=settings.footer,
            column_key=settings.column_key,
            footer_key=settings.footer_key,
            secret=self.wrapped,
        )


@cache
def _keyring(keys: str) -> Keyring:
    from datapipe.dataset import Keyring

    return Keyring(keys)


def sealing_of(recipe: Recipe, store: Store) -> SealingPlace | None:
    """What a run of the recipe encrypts by; None where it does not. Both keys are asked for.

    A service's secret is that of the dataset that is there, or of a run that was interrupted, so that the same rows
    keep their name; it is stored, wrapped, before anything is made with it.

    Raises:
        EncryptionError: a key is not to be had. ConfigError: keys cannot be loaded.
    """
    from datapipe.dataset import read_snapshot
    from datapipe.errors import DatapipeError, NotFoundError

    settings = recipe.output.encryption
    if settings is None:
        return None
    keyring = _keyring(settings.keys)
    keyring.check(settings)
    wrapped: str | None = None
    try:
        before = read_snapshot(store).encryption
        wrapped = before.secret if before is not None and before.footer_key == settings.footer_key else None
    except DatapipeError:
        pass  # there is none, or it is damaged, and about to be replaced
    if wrapped is None:
        try:
            wrapped = store.read(KEPT_SECRET).decode()
        except NotFoundError:
            wrapped = keyring.secret(settings.footer_key, None)[1]
            if wrapped is not None:
                store.put(KEPT_SECRET, wrapped.encode())
    return SealingPlace(settings=settings, wrapped=wrapped)


def passing_key(name: str) -> bytes:
    """A key of this process, which ends with it: what a trial writes can be read by nobody afterwards."""
    del name
    return _PASSING


def sealing_of_trial(recipe: Recipe) -> SealingPlace | None:
    """What a trial run in this process encrypts by, which asks no one for keys; None where the recipe does not."""
    settings = recipe.output.encryption
    return None if settings is None else SealingPlace(settings=replace(settings, keys=f"{__name__}:passing_key"))


def check_encryption(recipe: Recipe, columns: Sequence[str]) -> None:
    """Refuse a recipe that would let values of encrypted columns out.

    Args:
        columns: of the shards, from `check_order`; "*": and others.

    Raises:
        ConfigError: and what to do about it.
    """
    from datapipe.dataset.encryption import check_columns

    settings = recipe.output.encryption
    if settings is None:
        return
    if recipe.output.format != "parquet":
        raise ConfigError(
            f"output.encryption, and output.format = {recipe.output.format!r}",
            expected="output.format: parquet: Arrow files cannot be encrypted by column",
            fix="--set output.format=parquet",
        )
    locked = set(settings.columns)
    if "row_id" in locked or (recipe.input.id_column is not None and recipe.input.id_column in locked):
        raise ConfigError(
            "the rows' ids are to be encrypted",
            expected="ids that say nothing of a person: reports, signals and rejects name rows by them",
            fix="leave input.id_column out (a row's place is its id then), or use another column",
        )
    kept = recipe.output.columns
    text = not locked.isdisjoint(_TEXT)
    tokenized = any(step.name == "tokenize" for step in recipe.steps)
    if text and tokenized and "tokens" not in locked and (kept is None or "tokens" in kept):
        raise ConfigError(
            "output.encryption.columns has the text, and not the tokens that are made of it",
            expected="both",
            fix=f"output.encryption.columns: [{', '.join([*settings.columns, 'tokens'])}]",
        )
    for step, names in _told_in_the_open(recipe):
        found = locked.intersection(names)
        if found:
            raise ConfigError(
                f"{step} would tell of the encrypted column {min(found)!r} in files that are not encrypted",
                expected="a column that is not encrypted, or what the step learns given as a file",
                fix=f"take {step} out of the recipe, or {min(found)} out of output.encryption.columns",
            )
    if "*" not in columns:
        check_columns(settings.columns, columns)


def _told_in_the_open(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """(step, columns) whose values stand, in some form, in the manifest, in a vocabulary or in a label's file."""
    for step in recipe.steps:
        options = step.options
        if step.name == "vocabulary":
            yield step.name, (*_TEXT, "tokens")
        elif step.name in ("normalise", "categories") and not getattr(options, "statistics", ""):
            yield step.name, tuple(options.columns)
        elif step.name == "mix":
            yield step.name, (options.by,)
        elif step.name == "join":
            # What is joined is copied to where workers read it, and cut into files by key.
            yield step.name, [name for pairs in (options.keys, options.given) for name, _ in pairs]


def without_place(settings: EncryptionSettings) -> EncryptionSettings:
    """The settings without the folder that a file of keys lies in: a recipe says nothing of a machine."""
    from pathlib import PurePath

    place, _, called = settings.keys.rpartition(":")
    return replace(settings, keys=f"{PurePath(place).name}:{called}")
