"""A bucket behind a real S3 API: what a run reads from it, and what it left there."""

import uuid
from pathlib import Path

KEY, SECRET = "AKIALOOPBACKTEST0002", "aVerySecretKeyOfThisTestAlone/0123456789"


class Bucket:
    """A new bucket: `name`, and the storage `options` to open it by."""

    def __init__(self, endpoint):
        import boto3

        server = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        self._client = boto3.client("s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, **server)
        self.name = f"bucket-{uuid.uuid4().hex[:8]}"
        self.options = {"key": KEY, "secret": SECRET, "client_kwargs": server}
        self._client.create_bucket(Bucket=self.name)

    def url(self, prefix):
        return f"s3://{self.name}/{prefix}"

    def upload(self, folder, prefix):
        """The files of a folder; the URL they are below."""
        for path in Path(folder).iterdir():
            self._client.put_object(Bucket=self.name, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
        return self.url(prefix)

    def objects(self, prefix):
        """Every object below a prefix, by path."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key.removeprefix(f"{prefix}/"): self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
            for key in keys
        }
