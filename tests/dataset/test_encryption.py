"""Encrypted columns of a dataset: read by who has the keys, and by nobody else; nothing tells of a key."""

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from datapipe import Cache, DataLoader, open_dataset
from datapipe.dataset import (
    EncryptionEntry,
    EncryptionSettings,
    Keyring,
    Sealing,
    build_manifest,
    compacted,
    publish,
    verify_dataset,
    write_shard,
)
from datapipe.errors import ConfigError, DatasetError, EncryptionError
from datapipe.storage import open_store

KEYS = {"columns": bytes(range(32)), "footer": b"0123456789abcdef"}
TABLE = pa.table(
    {
        "id": list(range(300)),
        "email": [f"PLANTED{i}@example.org" for i in range(300)],
        "tags": [["PLANTED", None, str(i)] for i in range(300)],
    }
)


def keys(name):
    return KEYS[name]


def other_keys(name):
    return bytes(reversed(KEYS[name]))


def no_keys(name):
    raise RuntimeError(f"the vault says {KEYS[name].hex()}")


def make(folder, footer="plain", source=keys, secret=None):
    """A dataset of two columns that are encrypted, and one that is not."""
    store = open_store(str(folder))
    settings = EncryptionSettings(columns=("email", "tags"), keys="m:k", footer=footer)
    keyring = Keyring(source)
    secret, wrapped = keyring.secret("footer", secret)
    sealing = Sealing(settings=settings, keyring=keyring, secret=secret)
    entry = write_shard(store, "data/part-0", [TABLE], schema=TABLE.schema, row_group_rows=50, sealing=sealing)
    about = EncryptionEntry(
        columns=settings.columns, footer=footer, column_key="columns", footer_key="footer", secret=wrapped
    )
    publish(store, build_manifest(TABLE.schema, (entry,), encryption=about))
    return open_dataset(folder, keys=source)


@pytest.mark.parametrize("footer", ["plain", "encrypted"])
def test_who_has_the_keys_reads_and_nobody_else(tmp_path, footer):
    """Take, filter, fetch, verify with the keys; without, only columns in the open, and only if the footer is."""
    made = make(tmp_path, footer)
    assert made.take([3, 299]).equals(TABLE.take([3, 299]))
    assert open_dataset(tmp_path, ["id"], filters=[("email", "==", "PLANTED7@example.org")], keys=keys).num_rows == 1
    copy = pickle.loads(pickle.dumps(made))
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda n: copy.fetch(n % 6).decode().num_rows, range(48))) == 48 * 50
    assert verify_dataset(tmp_path, keys=keys).faults == ()
    assert "encrypted" in verify_dataset(tmp_path).notes[0]
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"PLANTED" in p.read_bytes()]
    with pytest.raises(EncryptionError, match="no keys were given") as caught:
        open_dataset(tmp_path, ["id", "email"]).take([1])
    assert footer == "encrypted" or "parquet: email is" in str(caught.value)
    with pytest.raises(EncryptionError, match="no keys were given") as caught:
        open_dataset(tmp_path, ["tags", "email"]).take([1])
    assert footer == "encrypted" or "parquet: email, tags are encrypted, and" in str(caught.value)
    with pytest.raises(EncryptionError, match="no keys were given"):
        _ = open_dataset(tmp_path, ["id"], filters=[("email", ">", "a")]).num_rows
    if footer == "plain":
        assert open_dataset(tmp_path, ["id"]).take([1]).to_pylist() == [{"id": 1}]
    else:
        with pytest.raises(EncryptionError):
            open_dataset(tmp_path, ["id"]).take([1])


@pytest.mark.parametrize("source", [other_keys, no_keys], ids=["wrong", "failing"])
def test_errors_name_the_dataset_and_never_a_key(tmp_path, source):
    make(tmp_path)
    with pytest.raises(EncryptionError) as caught:
        open_dataset(tmp_path, keys=source).take([1])
    fault = dict(verify_dataset(tmp_path, keys=source).faults)["data/" + next((tmp_path / "data").iterdir()).name]
    for said in (str(caught.value), *getattr(caught.value, "__notes__", ()), fault):
        assert not any(key.hex() in said or repr(key) in said for key in [*KEYS.values(), *map(other_keys, KEYS)])
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_same_rows_have_the_same_name_and_other_bytes(tmp_path):
    """Random keys of files make every file another one; the fingerprint is of the rows, under the key."""
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    assert a.fingerprint == b.fingerprint
    assert a.manifest.shards[0].checksum != b.manifest.shards[0].checksum
    assert a.manifest.shards[0].content == b.manifest.shards[0].content
    assert make(tmp_path / "c", source=other_keys).fingerprint != a.fingerprint
    assert "content" not in build_manifest(TABLE.schema, ()).to_json().decode()


class Vault(pe.KmsClient):
    """A service that wraps keys so that no two wrappings are alike, as services do."""

    def __init__(self, config=None):
        super().__init__()

    def wrap_key(self, key_bytes, master_key_identifier):
        nonce = os.urandom(32)
        body = bytes(a ^ b for a, b in zip(key_bytes, nonce, strict=False))
        return master_key_identifier + ":" + (nonce + body).hex()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        name, _, rest = wrapped_key.partition(":")
        assert name == master_key_identifier
        data = bytes.fromhex(rest)
        return bytes(a ^ b for a, b in zip(data[32:], data[:32], strict=False))


def test_keys_of_a_service(tmp_path):
    """A KmsClient class, or one: its secret is kept wrapped, and gives the same rows the same name."""
    made = make(tmp_path / "a", source=Vault)
    again = make(tmp_path / "b", source=Vault(), secret=made.manifest.encryption.secret)
    assert made.fingerprint == again.fingerprint
    assert verify_dataset(tmp_path / "a", keys=Vault).faults == ()
    assert made.manifest.encryption.secret.startswith("footer:")


def test_a_cache_keeps_what_is_stored_and_no_row(tmp_path):
    """Of encrypted columns a cache of decoded rows would be plain text on a disk."""
    make(tmp_path / "data")
    cache = Cache(tmp_path / "cache", "10 MB", content="decoded")
    for _ in range(2):
        assert open_dataset(tmp_path / "data", keys=keys, cache=cache).take([5, 250]).num_rows == 2
    assert cache.stats()["hits"] > 0
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and b"PLANTED" in p.read_bytes()]
    assert cache.clear() > 0
    assert cache.nbytes() == 0


def test_a_bare_folder_and_a_loader(tmp_path):
    """Any encrypted Parquet is read with its keys; without, it is refused and the process lives on."""
    make(tmp_path / "made")
    (tmp_path / "bare").mkdir()
    shutil.copy(next((tmp_path / "made" / "data").iterdir()), tmp_path / "bare" / "x.parquet")
    with pytest.raises(EncryptionError):
        open_dataset(tmp_path / "bare")
    assert open_dataset(tmp_path / "bare", keys=keys).num_rows == 300
    made = open_dataset(tmp_path / "made", ["email"], keys=keys)
    with DataLoader(made, batch_size=50, seed=0) as loader:
        seen = [value for batch in loader for value in batch["email"]]
    assert sorted(seen) == sorted(TABLE.column("email").to_pylist())


def test_what_cannot_be_is_refused(tmp_path):
    store = open_store(str(tmp_path))
    settings = EncryptionSettings(columns=("email",), keys="m:k")
    sealing = Sealing(settings=settings, keyring=Keyring(keys), secret=b"s" * 32)
    options = {"schema": TABLE.schema, "row_group_rows": 50}
    with pytest.raises(ConfigError, match="Arrow"):
        write_shard(store, "x", [TABLE], format="arrow", sealing=sealing, **options)
    missing = Sealing(settings=EncryptionSettings(columns=("nope",), keys="m:k"), keyring=Keyring(keys), secret=b"s")
    with pytest.raises(ConfigError, match="nope"):
        write_shard(store, "x", [TABLE], sealing=missing, **options)
    with pytest.raises(DatasetError, match="encrypted"):
        compacted(store, make(tmp_path / "d").manifest)
    for wrong in ({"columns": ()}, {"columns": ("a", "a")}, {"columns": ("a",), "keys": "k"}):
        with pytest.raises(ConfigError):
            EncryptionSettings(**{"keys": "m:k", **wrong})
    assert not list(tmp_path.glob("*.arrow"))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (lambda name: b"short", EncryptionError),
        (lambda name: "text", EncryptionError),
        (17, ConfigError),
        ("no.such.module:keys", ConfigError),
        ("/no/such/file.py:keys", ConfigError),
        ("nothing", ConfigError),
    ],
)
def test_what_gives_no_key_is_said_so(source, error):
    with pytest.raises(error):
        Keyring(source).check(EncryptionSettings(columns=("a",), keys="m:k"))


def test_keys_from_a_file(tmp_path):
    """As a recipe and a command line name them."""
    (tmp_path / "vault.py").write_text(f"K = {KEYS!r}\ndef keys(name): return K[name]\n")
    make(tmp_path / "d")
    read = open_dataset(tmp_path / "d", ["email"], keys=f"{tmp_path}/vault.py:keys").take([0])
    assert read.to_pylist() == [{"email": "PLANTED0@example.org"}]
    assert pq.read_schema(next((tmp_path / "d" / "data").iterdir())).names == TABLE.schema.names
