"""Input and output on a real S3 API: the same bytes as on a disk, the same resume, and no credential in any of them."""

import uuid

import pytest

import datapipe

KEY, SECRET = "AKIALOOPBACKTEST0002", "aVerySecretKeyOfThisTestAlone/0123456789"


@pytest.fixture(scope="module")
def bucket():
    """A bucket on moto's server, on loopback: (name, storage options, client)."""
    pytest.importorskip("s3fs", reason="the s3 extra is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    client = boto3.client("s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, **endpoint)
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    yield name, {"key": KEY, "secret": SECRET, "client_kwargs": endpoint}, client
    server.stop()


def objects(client, name, prefix):
    """Every object below a prefix, by path."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_from_bucket_to_bucket(bucket, corpus, undisturbed, tools, workers):
    """Read from S3, written to S3, by this process and by workers: published bytes as on a disk, then all reused."""
    name, options, client = bucket
    for path in corpus.iterdir():
        client.put_object(Bucket=name, Key=f"in/{corpus.name}/{path.name}", Body=path.read_bytes())
    inputs, output = f"s3://{name}/in/{corpus.name}", f"s3://{name}/out{workers}"
    arguments = {"workers": workers, "overrides": tools.overrides, "storage_options": options}
    datapipe.preprocess(inputs, output, **arguments)
    found = objects(client, name, f"out{workers}/")
    assert {
        k: v for k, v in found.items() if k.split("/")[0] not in ("_work", "run.json", "report.html")
    } == undisturbed[0]
    assert not [key for key, data in found.items() if SECRET.encode() in data or KEY.encode() in data]
    assert datapipe.preprocess(inputs, output, **arguments).tasks_run == 0


def test_errors_hold_no_credential(bucket):
    """A wrong input and a wrong output name the place, not the key."""
    name, options, _ = bucket
    for inputs, output in ((f"s3://{name}/absent", f"s3://{name}/x"), (f"s3://{name}/in", f"s3://absent-{name}/x")):
        with pytest.raises(datapipe.DatapipeError) as caught:
            datapipe.preprocess(inputs, output, workers=0, storage_options=options)
        text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
        assert SECRET not in text
        assert KEY not in text
