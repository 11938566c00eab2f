"""What the processes of the cache's tests do: `python cache_job.py JOB CACHE …`, one line of output per step."""

import os
import sys
import time
from pathlib import Path

from datapipe.storage import cache_folder
from datapipe.storage.cache import Cache, CachedBytes
from datapipe.storage.cache_entry import entry_name


def payload(key):
    return bytes([key % 251]) * (5_000 + key)


def say(text):
    print(text, flush=True)


def bring(cache, key, log, slowly=lambda: None):
    """The entry's payload, fetched if need be: each fetch is a line in the log, and takes as long as `slowly`."""
    found = cache.lookup(entry_name(key))
    if isinstance(found, CachedBytes):
        return found.buffer
    with Path(log).open("a") as file:
        file.write(f"{key}\n")
    slowly()
    data = payload(key)
    found.store(len(data), lambda file: file.write(data))
    return data


def fetch_all(path, log):
    """Every key, once all others are ready too; the first is not there before somebody waits for it."""
    cache, waited, wait_for_part = Cache(path, "1 GB"), Path(f"{log}.waited"), cache_folder.wait_for_part

    def noted(*arguments):
        waited.touch()
        return wait_for_part(*arguments)

    def slowly():
        time.sleep(0.05)
        while not waited.exists():
            time.sleep(0.005)

    cache_folder.wait_for_part = noted
    say("ready")
    sys.stdin.readline()
    for key in range(12):
        assert bytes(bring(cache, key, log, slowly)) == payload(key)
    say(f"done {cache.stats()['waits']}")


def die_writing(path):
    """Half an entry, and then nothing more until killed."""
    cache = Cache(path, "1 GB")
    data = payload(1)

    def half(file):
        file.write(data[: len(data) // 2])
        say("half")
        time.sleep(600)

    cache.lookup(entry_name(1)).store(len(data), half)


def die_holding(path):
    """An entry in use until killed."""
    cache = Cache(path, "1 GB")
    bring(cache, 1, os.devnull)
    found = cache.lookup(entry_name(1))
    assert isinstance(found, CachedBytes)
    say("holding")
    time.sleep(600)


def churn(path, limit, seed):
    """Reads and writes in a cache that has room for a third, each byte checked, some held on to."""
    import random

    cache, choose, held = Cache(path, int(limit)), random.Random(int(seed)), []
    for _ in range(400):
        key = choose.randrange(30)
        data = bring(cache, key, os.devnull)
        held.append((key, data))
        for k, d in held:
            assert bytes(d[:1]) == payload(k)[:1]
            assert len(d) == len(payload(k))
        if len(held) > 4:
            k, d = held.pop(choose.randrange(len(held)))
            assert bytes(d) == payload(k)
    counts = cache.stats()
    say(f"done {counts['evictions']} {counts['damaged']}")


if __name__ == "__main__":
    {"fetch": fetch_all, "die_writing": die_writing, "die_holding": die_holding, "churn": churn}[sys.argv[1]](
        *sys.argv[2:]
    )
