"""Kaggle Models on loopback, as far as its clients call it.

Calls and fields are those of kagglesdk; downloads and uploads are those of Cloud Storage,
which Kaggle sends its clients to. Every call is `POST /api/v1/<service>/<call>`.

Words for `Fault.kind` of its own: `ignore` (success, nothing done), `corrupt` (other bytes),
`short` (a byte too few).
"""

import base64
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c

from tests.destinations.servers.faulty import Answer, FaultyServer, Request, json_answer

USER, KEY, TOKEN = "sayakpaul", "key-5ecret-0123456789", "KGAT_5ecret_9876543210"
SIGNATURE = "5ecret-signature"
LICENSES = ("Apache 2.0", "MIT", "BSD-3-Clause", "GPL 3")
# What is left out of a request is meant to have its default.
DEFAULTS: dict[str, Any] = {"trainingData": [], "fineTunable": False, "isPrivate": False}
SLUG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")

Fields = dict[str, Any]


class RefusedError(Exception):
    """A status and a message."""


@dataclass
class Blob:
    name: str
    size: int
    content: bytes = b""
    done: bool = False


class KaggleServer(FaultyServer):
    """`models` is what it holds; `spans` is what PUTs brought, a file's name and bytes."""

    STATE = ("models", "blobs")
    ASKING = r"^GET|/(Hello|(Get|List|Download)\w*)$"

    def __init__(self) -> None:
        super().__init__()
        self.api, self.storage = self.localhost, self.address
        self.begin()

    def begin(self) -> None:
        """Hold nothing, and behave as usual."""
        self.clear()
        self.models: dict[tuple[str, str], Fields] = {}
        self.blobs: dict[str, Blob] = {}
        self.spans: list[tuple[str, int]] = []
        self.delay = 0  # so many lists do not show a new version yet
        self.page = 2  # items on a page, at most
        self.enums = "MODEL_FRAMEWORK_TENSOR_FLOW_2"
        self.zips = False  # whether files are sent as zips
        self.tells_hashes = True

    def files(self, slug: str, number: int = 1, model: str = "bit") -> dict[str, bytes]:
        """The files of a version, by path."""
        files: dict[str, bytes] = self._instance(USER, model, slug)["versions"][number - 1]["files"]
        return files

    def numbers(self, slug: str, model: str = "bit") -> list[int]:
        there = self.models.get((USER, model), {"instances": {}})["instances"].get(slug)
        return [v["number"] for v in there["versions"]] if there else []

    def refusal(self, status: int, message: str, headers: dict[str, str]) -> Answer:
        return json_answer({"code": status, "message": message}, status, headers)

    def answer(self, request: Request, kind: str) -> Answer:
        name = request.path.rpartition("/")[2]
        try:
            if request.method == "PUT":
                return self._put(request, kind)
            if request.method == "GET":
                return self._file(request)
            if self._user(request) is None:
                raise RefusedError(401, "Unauthorized access")
            if kind == "ignore":
                return json_answer({"id": 1})
            call: Callable[[Fields], Any] = getattr(self, f"_{_snake(name)}")
            answer = call(request.json())
        except RefusedError as error:
            status, message = error.args
            return self.refusal(status, message, {})
        return answer if isinstance(answer, Answer) else json_answer(answer)

    def broken(self, request: Request, length: int) -> None:
        if request.method == "PUT":
            self._put(request, "")

    def _user(self, request: Request) -> str | None:
        said = request.token or ""
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return USER if said in (f"Basic {basic}", f"Bearer {TOKEN}") else None

    def _model(self, owner: str, slug: str) -> Fields:
        if (owner, slug) not in self.models:
            raise RefusedError(403, "Permission 'models.get' was denied")
        return self.models[owner, slug]

    def _instance(self, owner: str, model: str, slug: str) -> Fields:
        instances = self._model(owner, model)["instances"]
        if slug not in instances:
            raise RefusedError(404, "Not found")
        instance: Fields = instances[slug]
        return instance

    def _of(self, body: Fields) -> Fields:
        if body.get("framework") != "MODEL_FRAMEWORK_TENSOR_FLOW_2":
            raise RefusedError(400, "Invalid framework")
        return self._instance(body["ownerSlug"], body["modelSlug"], body["instanceSlug"])

    def _hello(self, body: Fields) -> Fields:
        return {"userName": USER}

    def _get_model(self, body: Fields) -> Fields:
        model = self._model(body["ownerSlug"], body["modelSlug"])
        shown = {key: value for key, value in model.items() if key != "instances" and value}
        return {"ref": f"{body['ownerSlug']}/{body['modelSlug']}", **shown}

    def _create_model(self, body: Fields) -> Fields:
        place = body["ownerSlug"], body["slug"]
        if place[0] not in (USER, "an-organization"):
            return {"error": "Permission 'models.create' was denied", "errorCode": 403}
        if place in self.models:
            return {"error": f"The model {place[1]} exists", "errorCode": 409}
        if not SLUG.fullmatch(place[1]):
            return {"error": "Invalid slug", "errorCode": 400}
        self.models[place] = {"isPrivate": False, "slug": place[1], **body, "instances": {}}
        return {"id": len(self.models)}

    def _update_model(self, body: Fields) -> Fields:
        return self._update(self._model(body["ownerSlug"], body["modelSlug"]), body)

    def _update_model_instance(self, body: Fields) -> Fields:
        return self._update(self._of(body), body)

    def _update(self, there: Fields, body: Fields) -> Fields:
        if body.get("licenseName", LICENSES[0]) not in LICENSES:
            return {"error": "Invalid license"}
        for name in body["updateMask"].split(","):
            there[name] = body.get(name, DEFAULTS.get(name, ""))
        return {"id": 1}

    def _create_model_instance(self, body: Fields) -> Fields:
        model = self._model(body["ownerSlug"], body["modelSlug"])
        given = body["body"]
        if given["instanceSlug"] in model["instances"]:
            return {"error": "The instance exists", "errorCode": 409}
        if given.get("licenseName", LICENSES[0]) not in LICENSES:
            return {"error": f"Invalid license {given['licenseName']!r}", "errorCode": 400}
        instance = {**given, "slug": given["instanceSlug"], "versions": []}
        self._add(instance, given, "")
        model["instances"][given["instanceSlug"]] = instance
        return {"id": 1}

    def _create_model_instance_version(self, body: Fields) -> Fields:
        self._add(self._of(body), body["body"], body["body"].get("versionNotes", ""))
        return {"id": 1}

    def _add(self, instance: Fields, given: Fields, notes: str) -> None:
        files = dict(self._collected(given, ""))
        number = len(instance["versions"]) + 1
        version = {"number": number, "notes": notes, "files": files, "waits": self.delay}
        instance["versions"].append(version)

    def _collected(self, given: Fields, folder: str) -> Iterator[tuple[str, bytes]]:
        for file in given.get("files", ()):
            blob = self.blobs.get(file["token"])
            if blob is None:
                raise RefusedError(400, "Unknown blob token")
            if blob.done:  # the real service takes it and never gets ready, it seems
                yield f"{folder}{blob.name}", blob.content
        for inner in given.get("directories", ()):
            yield from self._collected(inner, f"{folder}{inner['name']}/")

    def _ready(self, instance: Fields) -> list[Fields]:
        return [version for version in instance["versions"] if version["waits"] <= 0]

    def _get_model_instance(self, body: Fields) -> Fields:
        instance = self._of(body)
        hidden = ("files", "directories", "versions", "instanceSlug")
        shown = {key: value for key, value in instance.items() if key not in hidden}
        return {**shown, "framework": self.enums, "versionNumber": len(self._ready(instance))}

    def _list_model_instances(self, body: Fields) -> Fields:
        found = []
        for slug, instance in self._model(body["ownerSlug"], body["modelSlug"])[
            "instances"
        ].items():
            ready = self._ready(instance)
            newest = ready[-1] if ready else {"number": 0, "notes": ""}
            shown = {"versionNumber": newest["number"], "versionNotes": newest["notes"]}
            found.append({"slug": slug, "framework": self.enums, "status": "READY", **shown})
        return self._paged(body, "instances", found)

    def _list_model_instance_versions(self, body: Fields) -> Fields:
        instance = self._of(body)
        found = [{"versionNumber": version["number"]} for version in self._ready(instance)]
        for version in instance["versions"]:
            version["waits"] -= 1
        page = self._paged(body, "versions", found[::-1])
        return {"versionList": {"versions": page.pop("versions")}, **page}

    def _list_model_instance_version_files(self, body: Fields) -> Fields:
        files = self._version(body)["files"]
        found = [{"name": name, "size": len(content)} for name, content in files.items()]
        return self._paged(body, "files", found)

    def _version(self, body: Fields) -> Fields:
        for version in self._ready(self._of(body)):
            if version["number"] == body["versionNumber"]:
                return version
        raise RefusedError(404, "Not found")

    def _paged(self, body: Fields, name: str, items: list[Fields]) -> Fields:
        start = int(body.get("pageToken") or 0)
        end = start + min(self.page, body["pageSize"])
        more = {"nextPageToken": str(end)} if end < len(items) else {}
        return {name: items[start:end], **more}

    def _download_model_instance_version(self, body: Fields) -> Answer:
        if body["path"] not in self._version(body)["files"]:
            raise RefusedError(404, "Not found")
        place = "/".join(body[k] for k in ("ownerSlug", "modelSlug", "instanceSlug"))
        name = f"{body['versionNumber']}/{body['path']}{'.zip' if self.zips else ''}"
        query = f"X-Goog-Signature={SIGNATURE}"
        address = f"{self.storage}/storage/{place}/{name}?{query}"
        return Answer(302, b"", {"Location": address})

    def _file(self, request: Request) -> Answer:
        _, _, owner, model, slug, number, path = request.path.split("/", 6)
        if request.query.get("X-Goog-Signature") != SIGNATURE or request.token is not None:
            return Answer(403, b"AccessDenied")
        versions = self._instance(owner, model, slug)["versions"]
        content = versions[int(number) - 1]["files"][path.removesuffix(".zip")]
        checksum = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        headers = {"x-goog-hash": f"crc32c={checksum}"} if self.tells_hashes else {}
        if path.endswith(".zip"):
            content = zipped(path.removesuffix(".zip"), content)
        kind = "application/json" if path.endswith(".json") else "application/octet-stream"
        return Answer(200, content, {**headers, "Content-Type": kind})

    def _start_blob_upload(self, body: Fields) -> Fields:
        if body["type"] != "MODEL" or "/" in body["name"]:
            raise RefusedError(400, "Invalid blob")
        token = f"blob-{len(self.blobs)}"
        self.blobs[token] = Blob(body["name"], body.get("contentLength", 0))
        return {"token": token, "createUrl": f"{self.storage}/upload/{token}?upload_id={SIGNATURE}"}

    def _put(self, request: Request, kind: str) -> Answer:
        blob = self.blobs.get(request.path.rpartition("/")[2])
        if blob is None or request.query.get("upload_id") != SIGNATURE:
            return Answer(404, b"no such upload")
        span = re.fullmatch(
            r"bytes (\*|(\d+)-(\d+))/(\d+)", request.headers.get("content-range", "")
        )
        content = b"" if kind == "ignore" else request.body
        self.spans += [(blob.name, len(content))] if content else []
        if kind == "ignore":
            return Answer(200)
        if span and int(span[4]) != blob.size:
            return Answer(400, b"another size")
        if span and span[1] != "*":
            if int(span[2]) != len(blob.content):
                return Answer(400, b"another offset")
            blob.content += content
        if kind == "corrupt":
            blob.content = bytes(byte ^ 1 for byte in blob.content)
        if len(blob.content) < blob.size:
            last = {"Range": f"bytes=0-{len(blob.content) - 1}"} if blob.content else {}
            return Answer(308, b"", last)
        blob.content = blob.content[:-1] if kind == "short" else blob.content
        blob.done = True
        return Answer(200)


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name.rpartition("/")[2], content)
    return buffer.getvalue()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
