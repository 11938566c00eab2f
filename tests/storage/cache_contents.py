"""What lies in a cache, and how the tests of its parts put it there."""

from pathlib import Path

from datapipe.storage.cache import CachedBytes
from datapipe.storage.cache_entry import entry_name


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def put(cache, key, data=b"x" * 1000):
    found = cache.lookup(entry_name(key))
    assert not isinstance(found, CachedBytes)
    found.store(len(data), lambda file: file.write(data))


def has(cache, key):
    return (Path(cache.path) / "entries" / entry_name(key)).exists()
