"""A published dataset's run, as it can be asked about afterwards: its steps, and the signals files of each split.

What enters: where the dataset is. What leaves: its recipe's steps with their specs, and signals tables. Invariant:
nothing is read but the manifest and the columns that are asked for; nothing is written.
"""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, final

from datapipe.errors import ConfigError, DatapipeError, DatasetError, IntegrityError, ManifestError
from datapipe.parquet_chunks import check_chunks
from datapipe.preprocess.signals_file import SIGNALS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.dataset import Keyring, Manifest
    from datapipe.steps import StepSpec
    from datapipe.storage import Store

P = ParamSpec("P")
T = TypeVar("T")

CLUSTERS: Final = "clusters"


@final
@dataclass(frozen=True, kw_only=True)
class StoredStep:
    """A step of the recipe that made the dataset.

    Attributes:
        place: in the recipe, from 0. plain: its options as the manifest has them.
        spec, options: as this installation has them; None where it does not (a user's own step).
        changed: whether this installation's version of the step is another than the one that ran.
    """

    place: int
    name: str
    plain: dict[str, Any]
    spec: StepSpec | None = field(repr=False)
    options: Any = field(repr=False)
    changed: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class StageFile:
    """The signals of one split by one stage: the places of its steps, and the file."""

    split: int
    places: tuple[int, ...]
    path: str


@final
@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """See the module.

    Attributes:
        files: by split, in the order of the stages. clusters: paths of tables of near duplicates.
        keyring: what encrypted columns of shards are read with.
    """

    store: Store = field(repr=False)
    manifest: Manifest = field(repr=False)
    steps: tuple[StoredStep, ...]
    files: dict[int, tuple[StageFile, ...]] = field(repr=False)
    clusters: tuple[str, ...] = field(default=(), repr=False)
    keyring: Keyring | None = field(default=None, repr=False)

    @property
    def moved(self) -> bool:
        """Whether rows were moved between splits (sort, shuffle): steps after that take no rows out."""
        return any(entry.moved_out for entry in self.manifest.ledger)

    def parquet(self, path: str) -> pq.ParquetFile:
        """A file of the index, open: its footer is read.

        Raises:
            IntegrityError: it is damaged. NotFoundError: it is not there.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        local = self.store.local_path(path)
        try:
            source = local if local is not None else io.BytesIO(self.store.read(path))
            opened = pq.ParquetFile(source, memory_map=local is not None)
            check_chunks(opened.metadata, self.store.info(path).size)
        except FileNotFoundError:
            self.store.info(path)  # says what is missing, in the words of the store
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(path, error) from error
        return opened

    def read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of a file of the index (those of them that it has); None: all."""
        import pyarrow as pa

        from datapipe.dataset.soundness import check_decoded

        with self.parquet(path) as opened:
            names = opened.schema_arrow.names
            try:
                found = opened.read(columns=None if columns is None else [name for name in columns if name in names])
                check_decoded(found)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise damaged(path, error) from error
        return found

    def table(self, file: StageFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of a signals file."""
        return self.read(file.path, columns)

    def groups(self, file: StageFile) -> list[list[StoredStep]]:
        """The stage's steps, those that were measured on the same rows together: runs of steps with a judge."""
        found: list[list[StoredStep]] = []
        for step in (self.steps[place] for place in file.places):
            judged = step.spec is not None and step.spec.judge is not None
            last = found[-1][-1].spec if found else None
            if judged and last is not None and last.judge is not None:
                found[-1].append(step)
            else:
                found.append([step])
        return found

    def signal_columns(self, file: StageFile, step: StoredStep) -> dict[str, str]:
        """The step's signals by name, and the file's column for each: the second time a step comes, "<signal>#2"."""
        if step.spec is None:
            return {}
        before = [self.steps[place] for place in file.places if place < step.place]
        found = {}
        for name in step.spec.signals:
            times = sum(each.spec is not None and name in each.spec.signals for each in before)
            found[name] = f"{name}#{times + 1}" if times else name
        return found


def damaged(path: str, error: BaseException) -> IntegrityError:
    """The error of a file of the index that cannot be read."""
    return IntegrityError(
        f"{path} cannot be read ({error})",
        expected="the file that the run wrote",
        fix="run `datapipe preprocess` again: it makes anew what is damaged",
    )


def of_stored_run(question: Callable[P, T]) -> Callable[P, T]:
    """A question to a stored run, whose index may be another's: what it stumbles on there is an error of ours.

    The index is read as the manifest lists it and not compared with its checksums, which takes as long as reading all
    of it; columns that lack, of other types or beyond their bounds are found where they are used.
    """

    @functools.wraps(question)
    def asked(*args: P.args, **options: P.kwargs) -> T:
        import pyarrow as pa

        try:
            return question(*args, **options)
        except DatapipeError:
            raise
        except (pa.ArrowException, LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
            raise damaged("a file of the dataset's index", error) from error

    return asked


def open_stored_run(
    dataset: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None, keys: Any = None
) -> StoredRun:
    """Open the run that made a dataset.

    Raises:
        DatasetError: there is none there, or it was not made by `preprocess`, or by one that kept no signals.
    """
    from datapipe.dataset import open_dataset

    opened = open_dataset(str(dataset), storage_options=storage_options, keys=keys)
    manifest = opened.manifest
    if manifest is None or manifest.recipe is None:
        raise DatasetError(
            f"{opened.url} was not made by preprocess",
            expected="a dataset with a manifest that holds a recipe",
            fix="make it by `datapipe preprocess INPUT... OUTPUT`",
        )
    run = replace(stored_run(opened.store, manifest), keyring=opened.keyring)
    if not run.files:
        raise DatasetError(
            f"{opened.url} has no signals", expected="what steps measured, stored with it", fix="run preprocess again"
        )
    return run


def stored_run(store: Store, manifest: Manifest, splits: Collection[int] | None = None) -> StoredRun:
    """The run of a manifest that is at hand; `splits`: those of one delivery, None: all.

    Raises:
        ManifestError: it does not fit together.
    """
    files: dict[int, list[StageFile]] = {}
    steps = (manifest.recipe or {}).get("steps", [])
    if not isinstance(steps, list) or not all(isinstance(each, dict) and "step" in each for each in steps):
        raise _unfit(store, "its recipe has no list of steps")
    for entry in manifest.index:
        kind, _, places = entry.name.partition(":")
        if kind == SIGNALS and (splits is None or entry.split in splits):
            numbers = tuple(int(place) for place in places.split(",") if place.isdecimal())
            if not all(number < len(steps) for number in numbers):
                raise _unfit(store, f"{entry.name!r} names a step that its recipe does not have")
            files.setdefault(entry.split, []).append(StageFile(split=entry.split, places=numbers, path=entry.file.path))
    return StoredRun(
        store=store,
        manifest=manifest,
        steps=tuple(_step(place, plain) for place, plain in enumerate(steps)),
        files={split: tuple(found) for split, found in sorted(files.items())},
        clusters=tuple(entry.file.path for entry in manifest.index if entry.name.rpartition(":")[2] == CLUSTERS),
    )


def _unfit(store: Store, got: str) -> ManifestError:
    return ManifestError(
        f"{store.url}: {got}", expected="a manifest as preprocess writes it", fix="restore manifest.json, or run again"
    )


def _step(place: int, plain: Mapping[str, Any]) -> StoredStep:
    from datapipe.steps import find_step, options_from

    name, options = str(plain["step"]), dict(plain.get("options", {}))
    spec, bound = None, None
    # A user's own step, or one of a later version of this package: what it did is stored, its code is not at hand.
    with contextlib.suppress(DatapipeError):
        found = find_step(name)
        bound = options_from(found, options)
        spec = found.resolved(bound)
    return StoredStep(
        place=place,
        name=name,
        plain=options,
        spec=spec,
        options=bound,
        changed=spec is not None and spec.version != plain.get("version"),
    )


def step_called(run: StoredRun, key: str) -> tuple[StoredStep, str]:
    """The step and the option that "step.option" means; a step may be called without the variant after "@".

    Raises:
        ConfigError: there is none, or more than one.
    """
    from datapipe.steps.options import nearest

    name, dot, option = key.rpartition(".")
    names = list(dict.fromkeys(step.name for step in run.steps))
    if not dot or not name:
        raise ConfigError(f"{key!r}", expected="step.option", fix=nearest(key, [f"{each}.…" for each in names]))
    found = [step for step in run.steps if step.name == name]
    found = found or [step for step in run.steps if step.name.split("@")[0] == name]
    if len(found) != 1:
        raise ConfigError(
            f"{key!r}: {f'{len(found)} steps are' if found else 'no step is'} called {name!r} in the recipe",
            expected=f"one of {', '.join(names)}",
            fix=nearest(name, names) if not found else "name the variant as well",
        )
    return found[0], option
