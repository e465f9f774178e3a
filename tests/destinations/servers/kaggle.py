"""Kaggle Models on loopback, as far as its clients call it, with faults on request.

Calls and fields are those of kagglesdk; downloads and uploads are those of Cloud Storage,
which Kaggle sends its clients to. Every call is `POST /api/v1/<service>/<call>`.

Words for `Fault.kind`: `drop` (no answer, nothing done), `lose` (done, no answer), `half` (half
of a body is kept, no answer), `stall` (no answer until the test ends), `ignore` (success,
nothing done), `corrupt` (other bytes), `cut` (a byte too few), `error` (status 200, and a
message).
"""

import base64
import io
import json
import re
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.destinations.servers.faults import Fault, struck

USER, KEY, TOKEN = "sayakpaul", "key-5ecret-0123456789", "KGAT_5ecret_9876543210"
SIGNATURE = "5ecret-signature"
LICENSES = ("Apache 2.0", "MIT", "BSD-3-Clause", "GPL 3")
READING = ("Hello", "GetModel", "GetModelInstance", "ListModelInstances", "DOWNLOAD", "FILE")
READING += ("ListModelInstanceVersions", "ListModelInstanceVersionFiles")
# What is left out of a request is meant to have its default.
DEFAULTS: dict[str, Any] = {"trainingData": [], "fineTunable": False, "isPrivate": False}
SLUG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")

Answer = dict[str, Any]


class RefusedError(Exception):
    """A status and a message."""


@dataclass
class Blob:
    name: str
    size: int
    content: bytes = b""
    done: bool = False


class KaggleServer:
    """`models` is what it holds; `calls` are the names of all requests so far."""

    def __init__(self, server: HTTPServer) -> None:
        # Two names of one place: credentials for the first must not reach the second.
        self.api = f"http://localhost:{server.port}"
        self.storage = f"http://127.0.0.1:{server.port}"
        self.models: dict[tuple[str, str], Answer] = {}
        self.blobs: dict[str, Blob] = {}
        self.calls: list[str] = []
        self.bodies: list[Answer] = []
        self.spans: list[tuple[str, int]] = []  # what PUTs brought: name of the file, bytes
        self.faults: list[Fault] = []
        self.dies_at: int | None = None  # this request is done and not answered, no later one is
        self.delay = 0  # so many lists do not show a new version yet
        self.page = 2  # items on a page, at most
        self.enums = "MODEL_FRAMEWORK_TENSOR_FLOW_2"
        self.zips = False  # whether files are sent as zips
        self.tells_hashes = True
        self.released = threading.Event()
        self._lock = threading.RLock()
        server.expect_request(re.compile("/.*")).respond_with_handler(self._handle)

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if call not in READING]

    def files(self, slug: str, number: int = 1, model: str = "bit") -> dict[str, bytes]:
        """The files of a version, by path."""
        files: dict[str, bytes] = self._instance(USER, model, slug)["versions"][number - 1]["files"]
        return files

    def numbers(self, slug: str, model: str = "bit") -> list[int]:
        there = self.models.get((USER, model), {"instances": {}})["instances"].get(slug)
        return [v["number"] for v in there["versions"]] if there else []

    def _handle(self, request: Request) -> Response:
        name = {"PUT": "PUT", "GET": "FILE"}.get(request.method, request.path.rpartition("/")[2])
        name = "DOWNLOAD" if name == "DownloadModelInstanceVersion" else name
        with self._lock:
            number = len(self.calls)
            self.calls.append(name)
            fault = struck(self.faults, name, whole=True)
        kind = fault.kind if fault else None
        if self.dies_at is not None and number >= self.dies_at:
            kind = "lose" if number == self.dies_at else "drop"
        if kind == "stall":
            self.released.wait(30)
            kind = "drop"
        if kind == "drop":
            return self._dropped(request)
        if callable(kind):
            kind()
        with self._lock:
            if kind in (404, 410) and name == "PUT":  # the storage has forgotten the upload
                self.blobs[request.path.rpartition("/")[2]].name = ""
            if isinstance(kind, int) and fault:
                answer = _json({"code": kind, "message": fault.message}, kind, fault.headers)
            elif kind == "error" and fault:
                answer = _json({"error": fault.message, "errorCode": 0})
            elif kind == "ignore":
                answer = _json({"id": 1})
            else:
                answer = self._answer(request, name, kind)
        return self._dropped(request) if kind in ("lose", "half") else answer

    def _dropped(self, request: Request) -> Response:
        connection: socket.socket = request.environ["werkzeug.socket"]

        def body() -> Iterator[bytes]:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionError
            yield b""

        return Response(body(), 200)

    def _answer(self, request: Request, name: str, kind: Any) -> Response:
        try:
            if name == "PUT":
                return self._put(request, kind)
            if name == "FILE":
                return self._file(request)
            if self._user(request) is None:
                raise RefusedError(401, "Unauthorized access")
            body = request.get_json()
            self.bodies.append(body)
            call: Callable[[Answer], Any] = getattr(self, f"_{_snake(name)}")
            answer = call(body)
        except RefusedError as error:
            return _json({"code": error.args[0], "message": error.args[1]}, error.args[0])
        return answer if isinstance(answer, Response) else _json(answer)

    def _user(self, request: Request) -> str | None:
        said = request.headers.get("Authorization", "")
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return USER if said in (f"Basic {basic}", f"Bearer {TOKEN}") else None

    def _model(self, owner: str, slug: str) -> Answer:
        if (owner, slug) not in self.models:
            raise RefusedError(403, "Permission 'models.get' was denied")
        return self.models[owner, slug]

    def _instance(self, owner: str, model: str, slug: str) -> Answer:
        instances = self._model(owner, model)["instances"]
        if slug not in instances:
            raise RefusedError(404, "Not found")
        instance: Answer = instances[slug]
        return instance

    def _of(self, body: Answer) -> Answer:
        if body.get("framework") != "MODEL_FRAMEWORK_TENSOR_FLOW_2":
            raise RefusedError(400, "Invalid framework")
        return self._instance(body["ownerSlug"], body["modelSlug"], body["instanceSlug"])

    def _hello(self, body: Answer) -> Answer:
        return {"userName": USER}

    def _get_model(self, body: Answer) -> Answer:
        model = self._model(body["ownerSlug"], body["modelSlug"])
        shown = {key: value for key, value in model.items() if key != "instances" and value}
        return {"ref": f"{body['ownerSlug']}/{body['modelSlug']}", **shown}

    def _create_model(self, body: Answer) -> Answer:
        place = body["ownerSlug"], body["slug"]
        if place[0] not in (USER, "an-organization"):
            return {"error": "Permission 'models.create' was denied", "errorCode": 403}
        if place in self.models:
            return {"error": f"The model {place[1]} exists", "errorCode": 409}
        if not SLUG.fullmatch(place[1]):
            return {"error": "Invalid slug", "errorCode": 400}
        self.models[place] = {"isPrivate": False, "slug": place[1], **body, "instances": {}}
        return {"id": len(self.models)}

    def _update_model(self, body: Answer) -> Answer:
        return self._update(self._model(body["ownerSlug"], body["modelSlug"]), body)

    def _update_model_instance(self, body: Answer) -> Answer:
        return self._update(self._of(body), body)

    def _update(self, there: Answer, body: Answer) -> Answer:
        if body.get("licenseName", LICENSES[0]) not in LICENSES:
            return {"error": "Invalid license"}
        for name in body["updateMask"].split(","):
            there[name] = body.get(name, DEFAULTS.get(name, ""))
        return {"id": 1}

    def _create_model_instance(self, body: Answer) -> Answer:
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

    def _create_model_instance_version(self, body: Answer) -> Answer:
        self._add(self._of(body), body["body"], body["body"].get("versionNotes", ""))
        return {"id": 1}

    def _add(self, instance: Answer, given: Answer, notes: str) -> None:
        files = dict(self._collected(given, ""))
        number = len(instance["versions"]) + 1
        version = {"number": number, "notes": notes, "files": files, "waits": self.delay}
        instance["versions"].append(version)

    def _collected(self, given: Answer, folder: str) -> Iterator[tuple[str, bytes]]:
        for file in given.get("files", ()):
            blob = self.blobs.get(file["token"])
            if blob is None:
                raise RefusedError(400, "Unknown blob token")
            if blob.done:  # the real service takes it and never gets ready, it seems
                yield f"{folder}{blob.name}", blob.content
        for inner in given.get("directories", ()):
            yield from self._collected(inner, f"{folder}{inner['name']}/")

    def _ready(self, instance: Answer) -> list[Answer]:
        return [version for version in instance["versions"] if version["waits"] <= 0]

    def _get_model_instance(self, body: Answer) -> Answer:
        instance = self._of(body)
        hidden = ("files", "directories", "versions", "instanceSlug")
        shown = {key: value for key, value in instance.items() if key not in hidden}
        return {**shown, "framework": self.enums, "versionNumber": len(self._ready(instance))}

    def _list_model_instances(self, body: Answer) -> Answer:
        found = []
        for slug, instance in self._model(body["ownerSlug"], body["modelSlug"])[
            "instances"
        ].items():
            ready = self._ready(instance)
            newest = ready[-1] if ready else {"number": 0, "notes": ""}
            shown = {"versionNumber": newest["number"], "versionNotes": newest["notes"]}
            found.append({"slug": slug, "framework": self.enums, "status": "READY", **shown})
        return self._paged(body, "instances", found)

    def _list_model_instance_versions(self, body: Answer) -> Answer:
        instance = self._of(body)
        found = [{"versionNumber": version["number"]} for version in self._ready(instance)]
        for version in instance["versions"]:
            version["waits"] -= 1
        page = self._paged(body, "versions", found[::-1])
        return {"versionList": {"versions": page.pop("versions")}, **page}

    def _list_model_instance_version_files(self, body: Answer) -> Answer:
        files = self._version(body)["files"]
        found = [{"name": name, "size": len(content)} for name, content in files.items()]
        return self._paged(body, "files", found)

    def _version(self, body: Answer) -> Answer:
        for version in self._ready(self._of(body)):
            if version["number"] == body["versionNumber"]:
                return version
        raise RefusedError(404, "Not found")

    def _paged(self, body: Answer, name: str, items: list[Answer]) -> Answer:
        start = int(body.get("pageToken") or 0)
        end = start + min(self.page, body["pageSize"])
        more = {"nextPageToken": str(end)} if end < len(items) else {}
        return {name: items[start:end], **more}

    def _download(self, body: Answer) -> Response:
        if body["path"] not in self._version(body)["files"]:
            raise RefusedError(404, "Not found")
        place = "/".join(body[k] for k in ("ownerSlug", "modelSlug", "instanceSlug"))
        name = f"{body['versionNumber']}/{body['path']}{'.zip' if self.zips else ''}"
        query = f"X-Goog-Signature={SIGNATURE}"
        address = f"{self.storage}/storage/{place}/{name}?{query}"
        return Response(status=302, headers={"Location": address})

    def _file(self, request: Request) -> Response:
        _, _, owner, model, slug, number, path = request.path.split("/", 6)
        if request.args.get("X-Goog-Signature") != SIGNATURE or "Authorization" in request.headers:
            return Response("AccessDenied", 403)
        versions = self._instance(owner, model, slug)["versions"]
        content = versions[int(number) - 1]["files"][path.removesuffix(".zip")]
        checksum = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        headers = {"x-goog-hash": f"crc32c={checksum}"} if self.tells_hashes else {}
        if path.endswith(".zip"):
            content = zipped(path.removesuffix(".zip"), content)
        kind = "application/json" if path.endswith(".json") else "application/octet-stream"
        return Response(content, 200, headers, content_type=kind)

    def _start_blob_upload(self, body: Answer) -> Answer:
        if body["type"] != "MODEL" or "/" in body["name"]:
            raise RefusedError(400, "Invalid blob")
        token = f"blob-{len(self.blobs)}"
        self.blobs[token] = Blob(body["name"], body.get("contentLength", 0))
        return {"token": token, "createUrl": f"{self.storage}/upload/{token}?upload_id={SIGNATURE}"}

    def _put(self, request: Request, kind: Any) -> Response:
        blob = self.blobs.get(request.path.rpartition("/")[2])
        if blob is None or not blob.name or request.args.get("upload_id") != SIGNATURE:
            return Response("no such upload", 404)
        span = re.fullmatch(
            r"bytes (\*|(\d+)-(\d+))/(\d+)", request.headers.get("Content-Range", "")
        )
        content = request.get_data()
        content = content[: len(content) // 2] if kind == "half" else content
        self.spans += [(blob.name, len(content))] if content else []
        if span and int(span[4]) != blob.size:
            return Response("another size", 400)
        if span and span[1] != "*":
            if int(span[2]) != len(blob.content):
                return Response("another offset", 400)
            blob.content += content
        if kind == "corrupt":
            blob.content = bytes(byte ^ 1 for byte in blob.content)
        if len(blob.content) < blob.size:
            last = {"Range": f"bytes=0-{len(blob.content) - 1}"} if blob.content else {}
            return Response(status=308, headers=last)
        blob.content = blob.content[:-1] if kind == "cut" else blob.content
        blob.done = True
        return Response(status=200)


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name.rpartition("/")[2], content)
    return buffer.getvalue()


def _json(answer: Answer, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(answer), status, headers, content_type="application/json")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
