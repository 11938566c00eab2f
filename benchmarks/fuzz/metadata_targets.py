"""Targets: what datapipe writes and reads again: manifests, snapshots, recipes, states, profiles, traces, tokenizers.

The promise: a file that somebody altered is refused by an error that says so, or it is what it says.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from mutations import json_mutation, lines_mutation, mutated_tree, plain_mutation, within
from place import scratch, written
from target import Target

import datapipe
from datapipe.dataset import LedgerEntry, build_manifest, open_dataset, publish, verify_dataset, write_shard
from datapipe.dataset.manifest import parse_manifest
from datapipe.storage import open_store

if TYPE_CHECKING:
    import random
    from pathlib import Path


@functools.cache
def _dataset() -> Path:
    """A dataset of two shards whose manifest the targets alter."""
    folder = scratch() / "own"
    store = open_store(str(folder))
    tokens, n_tokens = pa.array([[1, 2, 3]] * 40, pa.list_(pa.uint16())), pa.array([3] * 40, pa.int32())
    table = pa.table({"tokens": tokens, "n_tokens": n_tokens})
    shards = [write_shard(store, f"data/part-{i}", [table], schema=table.schema, row_group_rows=10) for i in range(2)]
    entries = tuple(shard for shard in shards if shard is not None)
    ledger = tuple(
        LedgerEntry(split=i, documents_in=42, out=40, dropped={"short": 1}, duplicates=1, shard=shard.path)
        for i, shard in enumerate(entries)
    )
    recipe = {"name": "r", "steps": [{"name": "sample", "options": {}}]}
    publish(store, build_manifest(table.schema, entries, ledger=ledger, recipe=recipe, statistics={"x": {"mean": 1.5}}))
    return folder


def _manifest_seeds() -> list[bytes]:
    return [(_dataset() / "manifest.json").read_bytes()]


def _read_manifest(data: bytes) -> None:
    """A manifest that is taken names paths inside the folder alone, and the dataset is read by it, or refused."""
    manifest = parse_manifest(data, where="manifest.json")
    names = [shard.path for shard in manifest.shards] + [shard.shard for shard in manifest.ledger if shard.shard]
    for path in names:
        assert not {"..", "", "."} & set(path.split("/")), path
        assert "\\" not in path, path
    folder = scratch() / "other"
    if not folder.exists():
        shutil.copytree(_dataset(), folder)
    (folder / "manifest.json").write_bytes(data)
    verify_dataset(str(folder))
    ds = open_dataset(str(folder))
    for block in range(min(8, len(ds.row_groups))):
        ds.fetch(block).decode()


def _read_snapshots(data: bytes) -> None:
    """A kept snapshot and the chain of parents that it claims."""
    folder = scratch() / "snapshots-of"
    if not folder.exists():
        shutil.copytree(_dataset(), folder)
        (folder / "snapshots").mkdir()
    for each in (folder / "snapshots").iterdir():
        each.unlink()
    (folder / "snapshots" / "00000-00000000.json").write_bytes(data)
    newest = json.loads((folder / "manifest.json").read_bytes())
    newest["snapshot"] = 1
    (folder / "manifest.json").write_text(json.dumps(newest))
    verify_dataset(str(folder))
    open_dataset(str(folder), snapshot=0)


MANIFEST = Target(seeds=_manifest_seeds, check=_read_manifest, mutate=json_mutation)
SNAPSHOTS = Target(seeds=_manifest_seeds, check=_read_snapshots, mutate=json_mutation)


def _recipe_seeds() -> list[bytes]:
    from datapipe.preprocess.recipe_file import _find, shipped_recipes

    return [_find(name)[0].encode() for name in shipped_recipes()] + [
        b"name: a\nseed: 1\ninput: {text_column: text}\nsteps:\n  - decode\n  - pack: {seq_len: 16}\n",
        b"steps: [unicode, {sample: {rate: 0.5}}]\noutput: {shard_bytes: 1000000}\n",
    ]


def _read_recipe(data: bytes) -> None:
    """A recipe, or an override of one."""
    from datapipe.preprocess.recipe_file import load_recipe, parse_overrides

    load_recipe(str(written("recipe.yaml", data)))
    with contextlib.suppress(datapipe.DatapipeError):
        load_recipe("text", parse_overrides([data[:200].decode("utf-8", "replace")]))


RECIPE = Target(seeds=_recipe_seeds, check=_read_recipe, mutate=lines_mutation)


@functools.cache
def _loaders() -> tuple[tuple[Any, ...], list[bytes]]:
    ds = open_dataset(str(_dataset()))
    both = datapipe.mix({"a": ds, "b": ds}, weights={"a": 0.5, "b": 0.5})
    common = {"prefetch": 0, "rank": 0, "world_size": 1, "seed": 0}
    loaders = (
        datapipe.DataLoader(ds, 4, **common), datapipe.DataLoader(ds, 2, pack=datapipe.Pack(16), **common),
        datapipe.DataLoader(ds, 4, bucket=datapipe.Bucket([2, 4]), **common), datapipe.DataLoader(both, 4, **common),
    )  # fmt: skip
    states = []
    for loader in loaders:
        batches = iter(loader)
        next(batches)
        next(batches)
        states.append(json.dumps(loader.state_dict()).encode())
        loader.skip(1)
        states.append(json.dumps(loader.state_dict()).encode())
    return loaders, states


def _load_state(data: bytes) -> None:
    """A state that is taken is gone on from: the next batch is there, or the epoch's end."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        state = data.decode("latin-1")
    for loader in _loaders()[0]:
        try:
            loader.load_state_dict(state)
            next(iter(loader), None)
            loader.state_dict()
        except datapipe.DatapipeError:
            continue
        finally:
            loader.set_epoch(0)


STATE = Target(seeds=lambda: _loaders()[1], check=_load_state, mutate=json_mutation)


@functools.cache
def _run() -> Path:
    """The folder of a recorded run."""
    folder = scratch() / "run"
    ds = open_dataset(str(_dataset()))
    with datapipe.profile(str(folder)) as prof:
        for _ in prof.steps(datapipe.DataLoader(ds, 4, rank=0, world_size=1)):
            pass
    return folder


def _profile_seeds() -> list[bytes]:
    return [(_run() / "profile.json").read_bytes()]


def _read_profile(data: bytes) -> None:
    """A profile, and what the commands make of it: the terminal's report, the page, a comparison."""
    from datapipe.profiling.profile_file import load_profile
    from datapipe.profiling.report import write_report
    from datapipe.profiling.terminal import render

    folder = scratch() / "profile"
    written("profile/profile.json", data)
    summary = load_profile(str(folder))
    render(summary)
    write_report(summary, str(folder))


PROFILE = Target(seeds=_profile_seeds, check=_read_profile, mutate=json_mutation)


def _span_seeds() -> list[bytes]:
    from datapipe.profiling.span_file import NAME

    return [(_run() / NAME).read_bytes()]


def _unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return json.dumps({name: archive.read(name).decode("latin-1") for name in archive.namelist()}).encode()


def _zip(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, value in json.loads(data).items():
            archive.writestr(name, value.encode("latin-1", "replace"))
    return sink.getvalue()


def _inside_npz(data: bytes, chance: random.Random) -> bytes:
    members = json.loads(data)
    name = chance.choice(list(members))
    raw = members[name].encode("latin-1")
    if name.startswith("about") and chance.random() < 0.8:
        about = json.loads(np.lib.format.read_array(io.BytesIO(raw)).tobytes())
        text = json.dumps(mutated_tree(about, chance)).encode("utf-8", "replace")
        sink = io.BytesIO()
        np.lib.format.write_array(sink, np.frombuffer(text, np.uint8))
        raw = sink.getvalue()
    else:
        raw = plain_mutation(raw, chance)
    return json.dumps({**members, name: raw.decode("latin-1")}).encode()


def _read_spans(data: bytes) -> None:
    """The spans of a run, and the replay that is made of them."""
    from datapipe.profiling.span_file import NAME, load_spans

    written(f"spans/{NAME}", data)
    load_spans(str(scratch() / "spans"))


SPANS = Target(seeds=_span_seeds, check=_read_spans, mutate=within(_unzip, _zip, _inside_npz, share=0.7))


def _trace_seeds() -> list[bytes]:
    plain = gzip.decompress((_run() / "trace.json.gz").read_bytes())
    tree = json.loads(plain)
    tree["traceEvents"] = tree["traceEvents"][:12]
    return [json.dumps(tree).encode(), gzip.compress(json.dumps(tree).encode()), gzip.compress(bytes(8 << 20))]


def _merge(data: bytes) -> None:
    """A trace is merged with another and the result is a trace, or it is refused."""
    from datapipe.profiling.trace_merge import merge_traces

    path = written("trace.json", data)
    out = merge_traces([path, path], scratch() / "merged.json.gz")
    json.loads(gzip.decompress(out.read_bytes()))


TRACE = Target(
    seeds=_trace_seeds,
    check=_merge,
    mutate=within(lambda data: gzip.decompress(data)[: 1 << 18], gzip.compress, json_mutation),
)


@functools.cache
def _tokenizer_seeds() -> list[bytes]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = []
    common = {"special_tokens": ["<u>"], "show_progress": False}
    for model, trainer in (
        (models.BPE(unk_token="<u>"), trainers.BpeTrainer(vocab_size=300, **common)),
        (models.WordPiece(unk_token="<u>"), trainers.WordPieceTrainer(vocab_size=300, **common)),
        (models.Unigram(), trainers.UnigramTrainer(vocab_size=60, unk_token="<u>", **common)),
    ):
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(["some words to learn from", "other words, again"] * 5, trainer)
        found.append(tokenizer.to_str().encode())
    return found


def _tokenize(data: bytes) -> None:
    """A tokenizer that loads encodes texts, or is refused."""
    from datapipe.steps.tokenize_text import Tokenize, TokenizeOptions

    step = Tokenize(TokenizeOptions(tokenizer=str(written("tokenizer.json", data)), end_of_text=None))
    table = pa.table({"row_id": ["a", "b"], "text": pa.array(["some words ß 三", ""], pa.large_string())})
    step(table, _no_keys()).validate(full=True)


def _no_keys() -> Any:
    return None


TOKENIZER = Target(seeds=_tokenizer_seeds, check=_tokenize, mutate=json_mutation)
