"""Input and output on a real S3 API: the same bytes as on a disk, the same resume, and no credential in any of them."""

import pytest

import datapipe
from tests.preprocess.bucket import KEY, SECRET


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_from_bucket_to_bucket(bucket, corpus, undisturbed, tools, workers):
    """Read from S3, written to S3, by this process and by workers: published bytes as on a disk, then all reused."""
    inputs, output = bucket.upload(corpus, f"in/{corpus.name}"), bucket.url(f"out{workers}")
    arguments = {"workers": workers, "overrides": tools.overrides, "storage_options": bucket.options}
    datapipe.preprocess(inputs, output, **arguments)
    found = bucket.objects(f"out{workers}")
    assert tools.published_of(found) == undisturbed[0]
    assert not [key for key, data in found.items() if SECRET.encode() in data or KEY.encode() in data]
    assert datapipe.preprocess(inputs, output, **arguments).tasks_run == 0


def test_errors_hold_no_credential(bucket):
    """A wrong input and a wrong output name the place, not the key."""
    elsewhere = f"s3://absent-{bucket.name}/x"
    for inputs, output in ((bucket.url("absent"), bucket.url("x")), (bucket.url("in"), elsewhere)):
        with pytest.raises(datapipe.DatapipeError) as caught:
            datapipe.preprocess(inputs, output, workers=0, storage_options=bucket.options)
        text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
        assert SECRET not in text
        assert KEY not in text


@pytest.mark.slow  # it is the same code as on a disk, over a store that is tested
def test_a_dataset_grows_in_a_bucket(bucket, tmp_path):
    """Deliveries, merged shards, an earlier content, snapshots that go, a loader that follows: all as on a disk."""
    from datapipe.dataset import open_dataset, snapshots_of, verify_dataset
    from datapipe.preprocess.upkeep import compact, expire, rollback
    from datapipe.storage import open_store

    url, recipe = bucket.url("grown"), {"steps": ["decode", "exact_duplicates"]}
    more = {"storage_options": bucket.options}
    for number, text in enumerate(("one", "two", "one")):
        (tmp_path / f"{number}.txt").write_text(f"the text of {text}")
        summary = datapipe.preprocess(str(tmp_path), url, recipe, workers=0, append=True, **more)
        assert (summary.snapshot, summary.duplicates) == (number, number // 2)
        if number == 0:
            opened = open_dataset(url, columns=["text"], follow=True, **more)
            loader = datapipe.DataLoader(opened, 1, collate="numpy", num_threads=1)
            assert len(list(loader)) == 1
    assert len(list(loader)) == 2
    state = loader.state_dict()
    loader.close()
    assert compact(url, **more).shards == 1
    assert rollback(url, 0, **more).rows == 1
    kinds = [each.kind for each in snapshots_of(open_store(url, **more))]
    assert kinds == [*["delivery"] * 3, "compacted", "rolled back"]
    assert expire(url, keep=2, grace=0, **more).snapshots == (0, 1, 2)
    assert verify_dataset(url, **more).ok
    with datapipe.DataLoader(open_dataset(url, columns=["text"], follow=True, **more), 1, collate="numpy") as loader:
        loader.load_state_dict(state)
        assert len(list(loader)) == 2


def test_of_several_writers_one_writes(bucket):
    """A write on condition is refused once somebody else has written: made, replaced, removed."""
    from datapipe.storage import open_store

    store = open_store(bucket.url("conditions"), storage_options=bucket.options)
    assert store.put_if("a", b"1", None)
    assert not store.put_if("a", b"2", None)
    seen = store.info("a")
    assert store.put_if("a", b"33", seen)
    assert not store.put_if("a", b"4", seen)
    seen = store.info("a")
    store.delete("a")
    assert not store.put_if("a", b"5", seen)
    store.put("a", b"66")
    assert not store.put_if("a", b"7", seen)
    assert store.read("a") == b"66"
