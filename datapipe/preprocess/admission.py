"""Whether a worker of a cluster can take part in a run: the same code, and the same places, as the driver's.

What enters: what the driver is and sees. What leaves: nothing, or the error that names the worker and what it lacks.
Invariant: no task runs in a process whose libraries would write other bytes under the same key, whose output is another
folder of the same name, or that cannot read the input: a file that is not there would count as unreadable, row by row,
instead of ending the run.

A worker that a user started knows nothing of us: it is also told here to use one thread a library, and to keep scratch
files in its own folder, which Dask clears when a worker that was killed is started again.
"""

from __future__ import annotations

import os
import platform
import socket
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, DatapipeError, StorageError, in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus import SourceFile
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.tasks import Place

LOOKED_AT: Final = 3
"""Input files that a worker is to see: the first, one in the middle, the last."""

ASKED_AT_ONCE: Final = 32
"""Workers that are asked before the first task. All are asked with their first; this tells it sooner."""

_admitted: set[str] = set()


@final
@dataclass(frozen=True, kw_only=True)
class Admission:
    """What a worker must have.

    Attributes:
        run: names the run, and the object in the output that says it is there.
        software: as `software()` gives it, of the driver.
        output: of the run. inputs: files that must be readable, as the driver found them.
    """

    run: str
    software: dict[str, str] = field(repr=False)
    output: Place
    inputs: tuple[SourceFile, ...] = field(default=(), repr=False)
    input_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def sign(self) -> str:
        """Path of the object by which a worker knows the output again."""
        from datapipe.preprocess.work import WORK

        return f"{WORK}/here-{self.run}"

    def put_sign(self) -> None:
        """Before any worker looks for it."""
        self.output.open().put(self.sign, b"")

    def remove_sign(self) -> None:
        """When the run is over."""
        self.output.open().delete(self.sign)


def admission_for(plan: Plan, output: Place, input_options: Mapping[str, Any] | None) -> Admission:
    """What a run asks of its workers."""
    files = [split.pieces[0].file for split in plan.splits if split.pieces]
    places = sorted({len(files) * place // LOOKED_AT for place in range(LOOKED_AT - 1)} | {len(files) - 1})
    return Admission(
        run=uuid.uuid4().hex[:12],
        software=software(),
        output=output,
        inputs=tuple(files[place] for place in places if 0 <= place < len(files)),
        input_options=input_options,
    )


def software() -> dict[str, str]:
    """What shapes output bytes, and what tasks are written in: versions by name."""
    import datapipe
    from datapipe.preprocess.tasks import code_version

    code, *libraries = code_version().split("; ")
    found = dict(each.rsplit(" ", 1) for each in libraries)
    # Python's minor version brings its own Unicode tables.
    return {"python": ".".join(platform.python_version_tuple()[:2]), "datapipe": f"{datapipe.__version__}.{code}"} | {
        name: version for name, version in sorted(found.items()) if version != "none"
    }


def admit_all(client: Any, wanted: Admission) -> None:
    """Ask workers that are there, before anything is done.

    Raises:
        ConfigError: some cannot take part; the first few are named.
    """
    workers = sorted(client.nthreads())[:ASKED_AT_ONCE]
    said = client.run(_admit_here, wanted, workers=workers, on_error="return")
    errors = {worker: answer for worker, answer in said.items() if isinstance(answer, Exception)}
    if not errors:
        return
    first = errors[min(errors)]
    if isinstance(first, ConfigError):
        more = f"; so for {len(errors)} of {len(said)} workers" if len(errors) > 1 else ""
        raise ConfigError(f"{first.got}{more}", expected=first.expected, fix=first.fix)
    raise ConfigError(
        f"{len(errors)} of {len(said)} workers cannot be asked; {min(errors)}: {in_words(first)}",
        expected="workers with datapipe-toolkit[preprocess], as it is installed here",
        fix="install the same package versions on every worker (one image, one lock file)",
    )


def _admit_here(wanted: Admission, dask_worker: Any) -> None:
    admit(wanted, dask_worker.address, dask_worker.local_directory)


def admit(wanted: Admission, worker: str, scratch: str | None = None) -> None:
    """See whether this process can take part; looked at once for each run.

    Args:
        wanted: by the driver. worker: the address of this process, for the error.
        scratch: the worker's own folder.

    Raises:
        ConfigError: it cannot.
    """
    from datapipe.preprocess.execute import WORKER_ENVIRONMENT
    from datapipe.preprocess.work import SCRATCH_FOLDER

    if wanted.run in _admitted:
        return
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if scratch is not None:
        os.environ[SCRATCH_FOLDER] = scratch
    who = f"worker {worker} on {socket.gethostname()}"
    if other := differences(wanted.software, software()):
        raise ConfigError(
            f"{who} has {other}",
            expected="the same versions as where the run was started: others would write other bytes",
            fix="install the same package versions on every worker (one image, one lock file) and run again: what is"
            " done is kept",
        )
    _see_output(wanted, who)
    _see_inputs(wanted, who)
    _admitted.add(wanted.run)


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words; nothing where nothing does."""
    names = [name for name in dict.fromkeys([*wanted, *found]) if wanted.get(name) != found.get(name)]
    return ", ".join(f"{name} {found.get(name, 'missing')} (not {wanted.get(name, 'installed')})" for name in names)


def _see_output(wanted: Admission, who: str) -> None:
    store = wanted.output.open()
    try:
        there = store.exists(wanted.sign)
    except StorageError as error:
        there, why = False, f" ({error.got})"
    else:
        why = ""
    if not there:
        raise ConfigError(
            f"{who} does not see the output {store.url}{why}",
            expected="a place that all machines share, and credentials for it on each of them",
            fix="name an object store (s3://…) or a disk that is mounted everywhere",
        )


def _see_inputs(wanted: Admission, who: str) -> None:
    from datapipe.storage import open_store

    for file in wanted.inputs:
        try:
            found = open_store(file.root, storage_options=wanted.input_options).info(file.path)
        except DatapipeError as error:
            raise _unseen(file, who, error.got) from None
        if found.size != file.size or found.etag != file.etag:
            raise _unseen(file, who, "it is another one there")


def _unseen(file: SourceFile, who: str, why: str) -> ConfigError:
    return ConfigError(
        f"{who} cannot read the input {file.name} ({why})",
        expected="an input that all machines share, and credentials for it on each of them",
        fix="put it into an object store (s3://…) or on a disk that is mounted everywhere",
    )
