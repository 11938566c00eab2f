"""What tells of a delivery, put aside before it is published, so that a kill in between loses none of it.

    _work/telling.json    {"fingerprint": …, "snapshot": …, "files": {path: text}}

What enters: the files of a run (a sample of rejects, the report, `run.json`), and the snapshot that it publishes. What
leaves: the files, in place. Invariant: once a snapshot is there, what tells of it is there, or is here and is put in
place by whoever holds the output next, whatever that run was given to do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from datapipe.errors import DatasetError, NotFoundError
from datapipe.preprocess.publishing import RUN, sweep_rejects
from datapipe.preprocess.work import WORK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.dataset import Manifest
    from datapipe.storage import Store

TELLING: Final = f"{WORK}/telling.json"


def put_aside(store: Store, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Keep the files that tell of a snapshot which is about to be published; `run.json` is the last of them."""
    texts = {path: data.decode("utf-8", "surrogateescape") for path, data in files.items()}
    told = {"fingerprint": manifest.fingerprint, "snapshot": manifest.snapshot, "files": texts}
    store.put(TELLING, json.dumps(told).encode())


def put_in_place(store: Store, files: Mapping[str, bytes]) -> None:
    """The files where they belong, and what was put aside away; of earlier samples of rejects nothing is left."""
    for path, data in sorted(files.items(), key=lambda item: item[0] == RUN):
        store.put(path, data)
    sweep_rejects(store, files)
    if store.exists(TELLING):
        store.delete(TELLING)


def finish_telling(store: Store) -> bool:
    """Put in place what a run put aside that was killed once it had published; whether there was anything.

    For who holds the output, and is about to publish another snapshot or to change this one.
    """
    from datapipe.dataset import read_snapshot

    try:
        found = json.loads(store.read(TELLING))
        manifest = read_snapshot(store)
        files = {str(path): str(text).encode("utf-8", "surrogateescape") for path, text in found["files"].items()}
        published = (found["fingerprint"], found["snapshot"]) == (manifest.fingerprint, manifest.snapshot)
    except NotFoundError:
        return False
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DatasetError):
        return False  # not what was written here: a damaged dataset is told of by who opens it
    if published:
        put_in_place(store, files)
    else:
        store.delete(TELLING)
    return published
