"""Every kind of destination behind one interface: opened, filled, broken and looked into.

A `Place` is a fresh, empty destination on a server of the test's own. What it shows is told
past the code under test, in the server's own terms.
"""

import copy
import json
import os
import shutil
import tarfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from google.cloud.storage.retry import DEFAULT_RETRY
from moto.s3.models import s3_backends

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.bucket.google_cloud_storage import GoogleCloudStorage
from publisher.destinations.bucket.s3 import S3
from publisher.destinations.github.destination import GitHub
from publisher.destinations.huggingface.destination import HuggingFace
from publisher.destinations.kaggle.client import KaggleRetry
from publisher.destinations.kaggle.destination import Kaggle
from publisher.destinations.local.directory import NamedDirectory
from publisher.destinations.local.tfhub import TfhubCheckout
from publisher.registry.models import Target
from publisher.util.http import Retry
from tests.destinations.servers import github, huggingface, kaggle
from tests.destinations.servers.cloud_storage import SECRET, CloudStorage
from tests.destinations.servers.faulty import S3Proxy
from tests.destinations.versions import FOLDER, MODEL, PAGE, Files, contents, version_files
from tests.releases import CHANGES, CLASSIFIER, tree

NAME = "there"
PART = 256 << 10  # bytes of a part of an upload
KEY, SESSION = "5ecret/key+0123456789", "5ecret-session-token"
PREFIX = "models-of/sayakpaul"

Stored = dict[str, bytes]
Versions = Mapping[str, Files]


@dataclass(frozen=True)
class Given:
    """What a destination is opened with."""

    target: Target
    environment: Mapping[str, str]
    folder: Path
    attempts: int
    timeout: float
    options: Mapping[str, Any]

    @property
    def four(self) -> tuple[str, Target, Mapping[str, str], Path]:
        return NAME, self.target, self.environment, self.folder


class Place(ABC):
    """A destination that holds nothing. `traits` are its properties, `secrets` all it is told.

    `unrepeated` are requests that are made once only, for they could be carried out twice.
    `address` and `tokens` are the variables with the service's address and with a token.
    `deep` says that not even what its errors came from repeats what the service said.
    `stranger` and `nobody` are environments with wrong credentials and with none.
    """

    traits: ClassVar[dict[str, Any]]
    secrets: ClassVar[tuple[str, ...]] = ()
    unrepeated = "^$"
    deep = False
    address = ""
    tokens: ClassVar[tuple[str, ...]] = ()
    page, model = PAGE, MODEL
    target: Target
    environment: Any = MappingProxyType({})
    stranger: ClassVar[Any] = None
    nobody: Any = None
    served = True
    server: Any

    def __init__(self, folder: Path, pauses: list[float]) -> None:
        self.folder, self.pauses = folder, pauses

    def open(
        self,
        target: Target | None = None,
        *,
        attempts: int = 3,
        timeout: float = 20.0,
        kept: str = "kept",
        **more: Any,
    ) -> Any:
        """Open the destination as a new run does. `kept` is the folder that it may use.

        Names in capitals are variables of its environment; others are what one kind takes.
        """
        variables = {name: value for name, value in more.items() if name.isupper()}
        options = {name: value for name, value in more.items() if name not in variables}
        environment = {**self.environment, **variables}
        target, folder = target or self.target, self.folder / kept
        return self.opened(Given(target, environment, folder, attempts, timeout, options))

    @abstractmethod
    def opened(self, given: Given) -> Any: ...

    @abstractmethod
    def shown(self) -> Stored:
        """What everybody sees of whole versions, in the service's own terms."""

    @abstractmethod
    def expected(self, versions: Versions) -> Stored:
        """What `shown` should return for these versions, the newest last."""

    @abstractmethod
    def put(self, name: str, content: bytes | None) -> None:
        """Replace or remove a file of the version behind the destination's back."""

    def files(self, handle: str = CLASSIFIER, **facts: Any) -> dict[str, Path | bytes]:
        """The files of a version as a build leaves them."""
        build = self.folder / "build"
        return version_files(self.traits["style"], self.target, build, handle, **facts)

    def leftovers(self) -> list[str]:
        """What is there and no part of a version, and what this machine keeps of uploads."""
        return list(tree(self.folder / "kept"))

    def uploads(self) -> list[str]:
        """What began and did not end, and takes space until it is old enough to be cleared."""
        return []

    def writes(self) -> list[str]:
        return list(self.server.writes)

    def state(self) -> Any:
        return self.server.state()

    def restore(self, state: Any) -> None:
        self.server.restore(state)

    @contextmanager
    def watched(self, record: Callable[[str], None]) -> Iterator[None]:
        """Call `record` after each step that changed something, with what it was."""
        with self.server.recorded(lambda request: record(request.call)):
            yield

    def states(self, run: Callable[[], object]) -> list[tuple[str, Callable[[], None]]]:
        """Run, and return each step with what puts back all that was there right after it."""
        found: list[tuple[str, Callable[[], None]]] = []

        def record(step: str) -> None:
            there, kept = self.state(), tree(self.folder / "kept")

            def back() -> None:
                self.restore(there)
                shutil.rmtree(self.folder / "kept", ignore_errors=True)
                for name, content in kept.items():
                    (self.folder / "kept").mkdir(mode=0o700, exist_ok=True)
                    (self.folder / "kept" / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.folder / "kept" / name).write_bytes(content)
                    (self.folder / "kept" / name).chmod(0o600)

            found.append((step, back))

        with self.watched(record):
            run()
        return found

    def retry(self, given: Given) -> Retry:
        return Retry(
            attempts=given.attempts,
            first_pause=1.0,
            longest_pause=8.0,
            connect_timeout=20.0,
            read_timeout=given.timeout,
            sleep=self.pauses.append,
        )

    def refused(
        self, call: Callable[[], object], kind: type[DestinationError] = DestinationError
    ) -> str:
        """Return the message of what a call raises; nothing in it or behind it tells a secret."""
        with pytest.raises(kind) as caught:
            call()
        told = "".join(traceback.format_exception(caught.value))
        error = caught.value if self.deep else None
        while error is not None:
            told += f"{error} {error!r} {error.args!r}"
            error = error.__cause__ or error.__context__  # type: ignore[assignment]
        assert [secret for secret in self.secrets if secret in told] == []
        message = str(caught.value)
        assert "\n" not in message
        return message

    def run(self, files: Files, handle: str = CLASSIFIER, **options: Any) -> None:
        """Publish as a release does: what is there is left alone, but for its page."""
        destination: Destination = self.open(**options)
        if handle not in destination.manifests():
            destination.add_version(handle, files)
        destination.read(page_path(handle))
        destination.write(page_path(handle), contents(files)["README.md"])


def page_path(handle: str) -> str:
    return f"models/{handle}/README.md"


class DirectoryPlace(Place):
    served = False
    traits: ClassVar[dict[str, Any]] = {
        "local": True,
        "style": "tfhub",
        "holds_versions": True,
        "holds_index": True,
        "shares_page": False,
        "seals_versions": False,
    }

    def __init__(self, folder: Path, pauses: list[float]) -> None:
        super().__init__(folder, pauses)
        self.root = folder / "dist"
        self.target = Target(kind="directory", to=str(self.root))
        self._changes: list[str] = []

    def opened(self, given: Given) -> NamedDirectory | TfhubCheckout:
        return NamedDirectory(*given.four)

    def shown(self) -> Stored:
        return {n: content for n, content in tree(self.root).items() if not n.startswith(".")}

    def expected(self, versions: Versions) -> Stored:
        return in_release(versions)

    def put(self, name: str, content: bytes | None) -> None:
        path = self.root / FOLDER / name
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.root.glob(".*")] + super().leftovers()

    def writes(self) -> list[str]:
        return []

    def state(self) -> Stored:
        return tree(self.root)

    def restore(self, state: Any) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for name, content in state.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(content)

    @contextmanager
    def watched(self, record: Callable[[str], None]) -> Iterator[None]:
        def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                result = function(*args, **kwargs)
                record(name)
                return result

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, told(name, getattr(os, name)))
            yield


class TfhubPlace(DirectoryPlace):
    traits: ClassVar[dict[str, Any]] = DirectoryPlace.traits | {
        "holds_versions": False,
        "holds_index": False,
    }
    page = f"assets/docs/{CLASSIFIER}.md"
    theirs: ClassVar[Stored] = {
        "README.md": b"# TF Hub\n",
        "assets/docs/google/google.md": b"# Publisher google\n",
    }

    def __init__(self, folder: Path, pauses: list[float]) -> None:
        super().__init__(folder, pauses)
        self.root = folder / "tfhub.dev"
        self.target = Target(kind="tfhub", to=str(self.root))
        self.restore(self.theirs)

    def opened(self, given: Given) -> TfhubCheckout:
        return TfhubCheckout(*given.four)


class BucketPlace(Place):
    traits: ClassVar[dict[str, Any]] = DirectoryPlace.traits | {"local": False}

    def __init__(self, folder: Path, pauses: list[float], bucket: str, scheme: str) -> None:
        super().__init__(folder, pauses)
        self.bucket = bucket
        kind: Any = {"gs": "google-cloud-storage", "s3": "s3"}[scheme]
        self.target = Target(kind=kind, to=f"{scheme}://{bucket}/{PREFIX}")

    @abstractmethod
    def objects(self) -> Stored: ...

    @abstractmethod
    def set(self, path: str, content: bytes | None) -> None:
        """Store or remove an object past the server in front."""

    @abstractmethod
    def headers(self, path: str) -> dict[str, Any]: ...

    def shown(self) -> Stored:
        there = self.objects()
        return {
            path.removeprefix(f"{PREFIX}/"): content
            for path, content in there.items()
            if "/models/" not in path or f"{path.rpartition('/')[0]}/manifest.json" in there
        }

    def expected(self, versions: Versions) -> Stored:
        return in_release(versions)

    def put(self, name: str, content: bytes | None) -> None:
        self.set(f"{PREFIX}/{FOLDER}/{name}", None)
        if content is not None:
            self.set(f"{PREFIX}/{FOLDER}/{name}", content)

    def leftovers(self) -> list[str]:
        hidden = set(self.objects()) - {f"{PREFIX}/{path}" for path in self.shown()}
        return [*hidden, *self.uploads(), *super().leftovers()]


class GcsPlace(BucketPlace):
    server: CloudStorage
    address = "STORAGE_EMULATOR_HOST"
    secrets = (SECRET,)

    def __init__(
        self, folder: Path, pauses: list[float], bucket: str, server: CloudStorage, client: Any
    ) -> None:
        super().__init__(folder, pauses, bucket, "gs")
        self.server, self._bucket = server, client.create_bucket(bucket)
        self._client = client
        self.environment = {"STORAGE_EMULATOR_HOST": server.address}
        # At the service itself, which no test comes so far as to ask.
        self.nobody = {
            "STORAGE_EMULATOR_HOST": "",
            "CLOUDSDK_CONFIG": str(folder / "no-config"),
            "NO_GCE_CHECK": "true",
        }

    def opened(self, given: Given) -> GoogleCloudStorage:
        there = GoogleCloudStorage(*given.four)
        there.simple = there.piece = given.options.get("part", PART)
        there.timeout = (given.timeout, given.timeout)
        quick = DEFAULT_RETRY.with_delay(0.001, 0.01, 2.0)
        there.retry = quick.with_timeout(0.0 if given.attempts < 3 else 60.0)
        there.abandoned_after = given.options.get("patience", there.abandoned_after)
        return there

    def objects(self) -> Stored:
        return {b.name: b.download_as_bytes() for b in self._client.list_blobs(self.bucket)}

    def set(self, path: str, content: bytes | None) -> None:
        blob = self._bucket.blob(path)
        if content is None:
            blob.delete()
        else:
            blob.upload_from_string(content)

    def uploads(self) -> list[str]:
        return self.server.unfinished()

    def headers(self, path: str) -> dict[str, Any]:
        blob = self._bucket.get_blob(path)
        known = {"Content-Type": blob.content_type, "Cache-Control": blob.cache_control}
        return {**known, "Content-Encoding": blob.content_encoding}

    def state(self) -> Any:
        blobs = [
            (b.name, b.download_as_bytes(), b.metadata, b.content_type, b.cache_control)
            for b in self._client.list_blobs(self.bucket)
        ]
        return blobs, copy.deepcopy(self.server.uploads)

    def restore(self, state: Any) -> None:
        blobs, uploads = state
        for blob in self._client.list_blobs(self.bucket):
            blob.delete()
        for name, content, metadata, kind, control in blobs:
            blob = self._bucket.blob(name)
            blob.metadata, blob.cache_control = metadata, control
            blob.upload_from_string(content, content_type=kind)
        self.server.uploads = copy.deepcopy(uploads)


class S3Place(BucketPlace):
    server: S3Proxy
    address = "AWS_ENDPOINT_URL_S3"
    secrets = (KEY, SESSION)
    NOBODY: ClassVar[dict[str, str]] = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SESSION_TOKEN": "",
    }

    def __init__(
        self, folder: Path, pauses: list[float], bucket: str, server: S3Proxy, client: Any
    ) -> None:
        super().__init__(folder, pauses, bucket, "s3")
        self.server, self.client = server, client
        client.create_bucket(Bucket=bucket)
        # The service has one permission for both; this server takes them apart.
        reading = ["s3:GetObject", "s3:HeadObject"]
        public = {"Effect": "Allow", "Principal": "*", "Action": reading, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [public]})
        client.put_bucket_policy(Bucket=bucket, Policy=policy)
        self.environment = {
            "AWS_ENDPOINT_URL_S3": server.address,
            "AWS_ACCESS_KEY_ID": "AKIA0123456789",
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_SESSION_TOKEN": SESSION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
        }
        self.nobody = self.NOBODY

    def opened(self, given: Given) -> S3:
        there = S3(*given.four)
        there.part = given.options.get("part", PART)
        there.stale = given.options.get("stale", there.stale)
        there.attempts = given.attempts
        there.connect_timeout = there.read_timeout = given.timeout
        there.abandoned_after = given.options.get("patience", there.abandoned_after)
        return there

    def objects(self) -> Stored:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        keys = [entry["Key"] for entry in found]
        get = self.client.get_object
        return {key: get(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def set(self, path: str, content: bytes | None) -> None:
        at = {"Bucket": self.bucket, "Key": path}
        if content is None:
            self.client.delete_object(**at)
        else:
            self.client.put_object(**at, Body=content, ChecksumAlgorithm="SHA256")

    def uploads(self) -> list[str]:
        answer = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["UploadId"] for upload in answer.get("Uploads", ())]

    def headers(self, path: str) -> dict[str, Any]:
        facts = self.client.head_object(Bucket=self.bucket, Key=path)
        known = {"Content-Type": facts["ContentType"], "Cache-Control": facts["CacheControl"]}
        return {**known, "Content-Encoding": facts.get("ContentEncoding")}

    def state(self) -> Any:
        return copy.deepcopy(self._buckets[self.bucket])

    def restore(self, state: Any) -> None:
        self._buckets[self.bucket] = copy.deepcopy(state)

    @property
    def _buckets(self) -> dict[str, Any]:
        """What the server holds, which runs in this process."""
        buckets: dict[str, Any] = s3_backends["123456789012"]["aws"].buckets
        return buckets


class KagglePlace(Place):
    server: kaggle.KaggleServer
    traits: ClassVar[dict[str, Any]] = {
        "local": False,
        "style": "kaggle",
        "holds_versions": True,
        "holds_index": False,
        "shares_page": True,
        "seals_versions": True,
    }
    secrets = (kaggle.KEY, kaggle.TOKEN, kaggle.SIGNATURE)
    deep = True
    unrepeated = r"Create\w+$"
    model = "small-classification"
    target = Target(kind="kaggle", to="sayakpaul/bit")
    environment: Any = MappingProxyType(
        {
            "KAGGLE_API_ENVIRONMENT": "TEST",
            "KAGGLE_USERNAME": kaggle.USER,
            "KAGGLE_KEY": kaggle.KEY,
        }
    )
    stranger: ClassVar[Any] = {"KAGGLE_KEY": "wrong-key-1"}
    nobody: Any = MappingProxyType({"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""})

    def __init__(self, folder: Path, pauses: list[float], server: kaggle.KaggleServer) -> None:
        super().__init__(folder, pauses)
        self.server = server

    def opened(self, given: Given) -> Kaggle:
        known = {"processing": 20.0, "settling": 0.1, "poll_interval": 0.001}
        waits: Any = {**known, "sleep": self.pauses.append, **given.options.get("patience", {})}
        quick = KaggleRetry(
            attempts=given.attempts, connect_timeout=20.0, read_timeout=given.timeout, **waits
        )
        return Kaggle(*given.four, quick)

    def shown(self) -> Stored:
        there = self.server.models.get((kaggle.USER, "bit"), {"instances": {}})
        return {
            f"{slug}/{version['number']}/{path}": content
            for slug, instance in there["instances"].items()
            for version in instance["versions"]
            for path, content in version["files"].items()
        }

    def expected(self, versions: Versions) -> Stored:
        found = {}
        for number, files in enumerate(versions.values(), 1):
            archive = files["model.tar.gz"]
            assert isinstance(archive, Path)
            with tarfile.open(archive) as tar:
                model = {m.name: tar.extractfile(m) for m in tar.getmembers() if m.isfile()}
                inner = {name: file.read() for name, file in model.items() if file}
            small = {n: c for n, c in files.items() if isinstance(c, bytes) and n != "README.md"}
            for name, content in {**inner, **small}.items():
                found[f"{self.model}/{number}/{name.removeprefix('./')}"] = content
        return found

    def put(self, name: str, content: bytes | None) -> None:
        there = self.server.models[kaggle.USER, "bit"]["instances"][self.model]["versions"][0]
        name = "saved_model.pb" if name == "model.tar.gz" else name
        there["files"].pop(name)
        if content is not None:
            there["files"][name] = content


class HuggingFacePlace(Place):
    server: huggingface.HubServer
    traits: ClassVar[dict[str, Any]] = {
        "local": False,
        "style": "huggingface",
        "holds_versions": True,
        "holds_index": False,
        "shares_page": False,
        "seals_versions": False,
    }
    secrets = (huggingface.TOKEN, huggingface.SIGNATURE)
    deep = True
    address = "HF_ENDPOINT"
    tokens = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    model = "small_classification"
    target = Target(kind="huggingface", to=huggingface.OWNER)
    stranger: ClassVar[Any] = {"HF_TOKEN": "hf_wrong"}
    nobody: Any = MappingProxyType({"HF_TOKEN": ""})

    def __init__(self, folder: Path, pauses: list[float], server: huggingface.HubServer) -> None:
        super().__init__(folder, pauses)
        self.server = server
        self.environment = {"HF_ENDPOINT": server.api, "HF_TOKEN": huggingface.TOKEN}

    def opened(self, given: Given) -> HuggingFace:
        return HuggingFace(*given.four, retry=self.retry(given))

    def shown(self) -> Stored:
        return {
            f"{name.partition('/')[2]}/{path}": content
            for name in self.server.models
            for path, content in self.server.files(name.partition("/")[2]).items()
        }

    def expected(self, versions: Versions) -> Stored:
        found = {}
        for handle, files in versions.items():
            for name, content in contents(files).items():
                found[f"{self.model}/v{handle.rpartition('/')[2]}/{name}"] = content
            found[f"{self.model}/README.md"] = contents(files)["README.md"]
        return found

    def put(self, name: str, content: bytes | None) -> None:
        (held,) = self.server.models.values()
        old = held.files.pop(f"v1/{name}")
        if content is not None:
            held.files[f"v1/{name}"] = huggingface.Stored(content, old.large)


class GitHubPlace(Place):
    server: github.GitHubServer
    traits: ClassVar[dict[str, Any]] = HuggingFacePlace.traits | {"style": "github"}
    secrets = (github.TOKEN, github.SIGNATURE)
    address = "GITHUB_API_URL"
    tokens = ("GITHUB_TOKEN", "GH_TOKEN")
    model = "small_classification"
    target = Target(kind="github", to=github.REPOSITORY)
    stranger: ClassVar[Any] = {"GITHUB_TOKEN": "github_pat_wrong"}
    nobody: Any = MappingProxyType({"GITHUB_TOKEN": ""})

    def __init__(self, folder: Path, pauses: list[float], server: github.GitHubServer) -> None:
        super().__init__(folder, pauses)
        self.server = server
        self.environment = {"GITHUB_API_URL": server.api, "GITHUB_TOKEN": github.TOKEN}

    def opened(self, given: Given) -> GitHub:
        return GitHub(*given.four, retry=self.retry(given))

    def shown(self) -> Stored:
        return {
            f"{tag}/{name}": content
            for tag, files in self.server.public.items()
            for name, content in files.items()
        }

    def expected(self, versions: Versions) -> Stored:
        return {
            f"{self.model}-v{handle.rpartition('/')[2]}/{name}": content
            for handle, files in versions.items()
            for name, content in contents(files).items()
        }

    def put(self, name: str, content: bytes | None) -> None:
        (release,) = self.server.releases.values()
        (asset,) = [asset for asset in release.assets if asset.name == name]
        if content is None:
            release.assets.remove(asset)
        else:
            asset.content = content

    def leftovers(self) -> list[str]:
        drafts = [held.fields["tag_name"] for held in self.server.drafts]
        shown = self.server.public
        return [*drafts, *(set(self.server.tags) - set(shown)), *super().leftovers()]


def in_release(versions: Versions) -> Stored:
    return {
        f"models/{handle}/{name}": content
        for handle, files in versions.items()
        for name, content in contents(files).items()
    }
