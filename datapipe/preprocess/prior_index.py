"""What earlier deliveries left in `index/`, looked through before a new one is compared with it.

What enters: the store and the files that the manifest names. What leaves: nothing, or an IntegrityError that names the
first damaged file. Invariant: no row is called new because the file that knows it was damaged.

The passes read these files by buckets: a checksum is of a whole file, so it is taken here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from datapipe.errors import IntegrityError
from datapipe.preprocess.prior_runs import is_run, prior_of
from datapipe.preprocess.signals_file import SIGNALS
from datapipe.preprocess.stage import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from datapipe.preprocess.tasks import OutputFile
    from datapipe.storage import Store

SETS: Final = "sets"
_BLOCK: Final = 4 << 20
_THREADS: Final = 4
"""A store far away answers several at once; a disk is read at its speed by one."""


def read_whole(index: Mapping[str, Sequence[tuple[int, OutputFile]]]) -> Iterator[OutputFile]:
    """The files of the index that a delivery reads from end to end.

    Not runs, nor sets of shingles: of those it reads a little, and what it reads has a checksum of its own. Not what
    rows were measured by, which it does not read.
    """
    for name, entries in index.items():
        kind = name.rpartition(":")[2]
        if is_run(name) or kind == SETS or name.startswith(f"{SIGNALS}:"):
            continue
        yield from (file for _, file in prior_of(index, f"{name}{RUNS}", entries)[0])


def check_index(store: Store, files: Iterable[OutputFile]) -> None:
    """Read every file and compare it with its checksum.

    Raises:
        IntegrityError, NotFoundError: a file is damaged or gone.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda file: _check(store, file), files))


def _check(store: Store, file: OutputFile) -> None:
    import xxhash

    digest, size = xxhash.xxh3_128(), 0
    with store.open(file.path) as source:
        while block := source.read(_BLOCK):
            digest.update(block)
            size += len(block)
    if (size, digest.hexdigest()) != (file.bytes, file.checksum):
        raise IntegrityError(
            f"{store.url}/{file.path}: {size:,} bytes, checksum {digest.hexdigest()}",
            expected=f"{file.bytes:,} bytes, checksum {file.checksum}, as the manifest says",
            fix="restore the file from a copy, or run without --append to make the dataset anew",
        )
