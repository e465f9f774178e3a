"""The Hugging Face Hub on loopback, with faults on request.

Calls, fields and refusals are those that huggingface_hub makes and knows, and that its users
report. Large files go to a storage of another name, with a signature.

Words for `Fault.kind`: `drop` (no answer, nothing done), `lose` (done, no answer), `half` (half
of a file is read, no answer), `cut` (half of an answer), `stall` (no answer until the test
ends), `ignore` (success, nothing done), `spoil` (other bytes are kept).
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.destinations.servers.faults import Fault, struck

OWNER, TOKEN, SIGNATURE = "sayakpaul", "hf_5ecretTokenOfATest0123456789", "5ecret-signature"
ORGANIZATION = "a-group"
ATTRIBUTES = b"*.gz filter=lfs diff=lfs merge=lfs -text\n"
STALE = "A commit has happened since. Please refresh and try again."
LICENSES = ("apache-2.0", "mit", "other")
READING = ("GET", "HEAD")
# Calls that look like writing and change nothing that anybody sees.
ASKING = ("POST /api/validate-yaml",)

Answer = dict[str, Any]
Kind = int | str | Callable[[], None]


@dataclass(frozen=True)
class Stored:
    content: bytes
    large: bool = False

    @property
    def oid(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.large else blob(self.content)


@dataclass
class Held:
    """A repository: its files at each commit, the newest commit last, and its tags."""

    private: bool
    commits: dict[str, dict[str, Stored]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, Stored]:
        return self.commits[self.head]

    def add(self, message: str, files: dict[str, Stored]) -> str:
        commit = digest(f"{len(self.commits)} {message}".encode())
        self.commits[commit] = files
        self.messages.append(message)
        return commit

    def at(self, revision: str) -> dict[str, Stored]:
        named = {"main": self.head, **self.tags}
        return self.commits[named.get(revision, revision)]


class RefusedError(Exception):
    """`args`: status, the Hub's code, message."""


class HubServer:
    """`models` is what it holds, `calls` are all requests so far."""

    def __init__(self, server: HTTPServer) -> None:
        # Two names of one place: the token must not reach the second.
        self.api = f"http://localhost:{server.port}"
        self.storage = f"http://127.0.0.1:{server.port}/storage"
        self.models: dict[str, Held] = {}
        self.objects: dict[str, bytes] = {}  # what was uploaded, by what it was to be
        self.parts: dict[str, dict[int, bytes]] = {}
        self.received = 0  # bytes of large files
        self.calls: list[str] = []
        self.agents: set[str] = set()
        self.strangers: list[str] = []  # requests elsewhere that brought the token
        self.faults: list[Fault] = []
        self.dies_at: int | None = None  # this request is done and not answered, no later one is
        self.access = {"role": "write"}
        self.user: Answer = {"type": "user", "name": OWNER, "orgs": [{"name": ORGANIZATION}]}
        self.may_write = True
        self.part_size: int | None = None  # bytes of a part of a large file, where it has parts
        self.page = 100  # entries of a list, at most
        self.lists = True  # whether new models are listed at once
        self.next_page = ""  # where lists lead on, in the place of here
        self.storage_href = ""  # where uploads lead, in the place of the storage
        self.released = threading.Event()
        self._lock = threading.Lock()
        server.expect_request(re.compile("^/")).respond_with_handler(self._handle)

    @property
    def writes(self) -> list[str]:
        """The requests that could have changed something."""
        return [c for c in self.calls if c.split()[0] not in READING and c not in ASKING]

    def files(self, model: str) -> dict[str, bytes]:
        """The files of a repository as everybody sees them, less what was there first."""
        stored = self.models[f"{OWNER}/{model}"].files
        return {path: file.content for path, file in stored.items() if path != ".gitattributes"}

    def put(self, model: str, files: dict[str, bytes], *, owner: str = OWNER) -> Held:
        """Put files into a repository by hand; it is made if it is not there."""
        held = self.models.setdefault(f"{owner}/{model}", new_repository(private=False))
        large = {path for path, file in held.files.items() if file.large}
        new = {
            path: Stored(content, path in large or path.endswith(".gz"))
            for path, content in files.items()
        }
        held.add("by hand", {**held.files, **new})
        return held

    def _handle(self, request: Request) -> Response:
        call = f"{request.method} {request.path}"
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
            self.agents.add(request.headers.get("User-Agent", ""))
            fault = struck(self.faults, call)
        kind = fault.kind if fault else None
        if self.dies_at is not None and number > self.dies_at:
            return _dropped(request)
        if kind == "stall":
            self.released.wait(30)
            kind = "drop"
        if kind == "half":
            request.stream.read(int(request.headers["Content-Length"]) // 2)
        if kind in ("drop", "half"):
            return _dropped(request)
        if isinstance(kind, int) and fault:
            request.get_data()
            return _json({"error": fault.message}, kind, fault.headers)
        if callable(kind):
            kind()
        with self._lock:
            try:
                answer = self._answer(request, call, kind)
            except RefusedError as error:
                status, code, message = error.args
                headers = {"X-Error-Code": code, "X-Error-Message": message}
                answer = _json({"error": message}, status, headers)
        if kind == "lose" or number == self.dies_at:
            return _dropped(request)
        if kind == "cut":
            whole = answer.get_data()
            headers = {"Content-Length": str(len(whole))}
            return Response(iter([whole[: len(whole) // 2]]), answer.status_code, headers)
        return answer

    def _answer(self, request: Request, call: str, kind: Kind | None) -> Response:
        given = request.headers.get("Authorization")
        if request.path.startswith("/storage/"):
            if given is not None:
                self.strangers.append(call)
            return self._store(request, kind)
        if given not in (None, f"Bearer {TOKEN}"):
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        known = given is not None
        name = r"([\w.-]+/[\w.-]+)"
        routes: dict[str, Callable[..., Response]] = {
            r"GET /api/whoami-v2": self._whoami,
            r"POST /api/validate-yaml": self._validate,
            r"GET /api/models": self._list,
            r"POST /api/repos/create": self._create,
            rf"GET /api/models/{name}/refs": self._refs,
            rf"GET /api/models/{name}/tree/([^/]+)": self._tree,
            rf"POST /api/models/{name}/preupload/([^/]+)": self._preupload,
            rf"POST /{name}\.git/info/lfs/objects/batch": self._batch,
            rf"POST /{name}/verify": self._verify,
            rf"POST /{name}/complete/([0-9a-f]+)": self._complete,
            rf"POST /api/models/{name}/commit/([^/]+)": self._commit,
            rf"POST /api/models/{name}/tag/([^/]+)": self._tag,
            rf"GET /{name}/resolve/([^/]+)/(.+)": self._resolve,
            rf"GET /api/resolve-cache/models/{name}/([^/]+)/(.+)": self._cached,
        }
        for pattern, route in routes.items():
            match = re.fullmatch(pattern, call)
            if match:
                writing = request.method == "POST" and route != self._validate
                signed = route == self._complete and request.args.get("s") == SIGNATURE
                if writing and not signed and not (known and self.may_write):
                    raise RefusedError(403, "", "You don't have the rights for this action")
                return self._of_model(route, request, match.groups(), known or signed, kind)
        raise RefusedError(404, "", "Not Found")

    def _of_model(
        self,
        route: Callable[..., Response],
        request: Request,
        parts: tuple[str, ...],
        known: bool,
        kind: Kind | None,
    ) -> Response:
        if not parts:
            return route(request, known)
        model = self.models.get(parts[0])
        if model is None or (model.private and not known):
            raise RefusedError(404 if known else 401, "RepoNotFound", "Repository not found")
        if kind == "ignore":
            return _json(self._committed(parts[0], "f" * 40))
        try:
            return route(request, parts[0], *parts[1:], kind=kind)
        except KeyError:
            raise RefusedError(404, "RevisionNotFound", "Invalid rev id") from None

    def _whoami(self, request: Request, known: bool) -> Response:
        if not known:
            raise RefusedError(401, "", "Invalid username or password.")
        return _json({**self.user, "auth": {"type": "access_token", "accessToken": self.access}})

    def _validate(self, request: Request, known: bool) -> Response:
        errors = problems(request.get_json()["content"].encode())
        return _json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _list(self, request: Request, known: bool) -> Response:
        assert request.args.getlist("expand") == ["siblings"]
        shown = [
            {"id": name, "siblings": [{"rfilename": path} for path in held.files]}
            for name, held in sorted(self.models.items())
            if name.startswith(f"{request.args['author']}/")
            and (known or not held.private)
            and self.lists
        ]
        return self._paged(request, shown)

    def _paged(self, request: Request, entries: list[Answer]) -> Response:
        start = int(request.args.get("cursor", 0))
        answer = _json(entries[start : start + self.page])
        if start + self.page < len(entries):
            query = re.sub(r"&cursor=\d+", "", request.query_string.decode())
            here = f"{self.api}{request.path}"
            address = f"{self.next_page or here}?{query}&cursor={start + self.page}"
            answer.headers["Link"] = f'<{address}>; rel="next"'
        return answer

    def _create(self, request: Request, known: bool) -> Response:
        body = request.get_json()
        owner = body["organization"] or OWNER
        if owner not in (OWNER, ORGANIZATION):
            message = f"You don't have the rights to create a model under the namespace {owner!r}"
            raise RefusedError(403, "", message)
        name = f"{owner}/{body['name']}"
        url = {"url": f"{self.api}/{name}"}
        if name in self.models:
            return _json({**url, "error": "You already created this model repo"}, 409)
        self.models[name] = new_repository(private=body["visibility"] == "private")
        return _json(url)

    def _refs(self, request: Request, name: str, kind: Kind | None) -> Response:
        held = self.models[name]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": held.head}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
            for tag, commit in held.tags.items()
        ]
        return _json({"branches": [main], "converts": [], "tags": tags})

    def _tree(self, request: Request, name: str, revision: str, kind: Kind | None) -> Response:
        files = self.models[name].at(revision)
        folders = {path.rpartition("/")[0] for path in files if "/" in path}
        entries: list[Answer] = [
            {"type": "directory", "oid": "d" * 40, "size": 0, "path": folder}
            for folder in sorted(folders)
        ]
        for path, file in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
            if file.large:
                large = {"oid": file.oid, "size": len(file.content), "pointerSize": 134}
                entry |= {"oid": blob(b"pointer to " + file.oid.encode()), "lfs": large}
            entries.append(entry)
        return self._paged(request, entries)

    def _preupload(self, request: Request, name: str, revision: str, kind: Kind | None) -> Response:
        there = self.models[name].at(revision)
        attributes = there[".gitattributes"].content
        ignored = there.get(".gitignore", Stored(b"")).content.decode().split()
        files = []
        for file in request.get_json()["files"]:
            path = file["path"]
            large = path.endswith(".gz") and b"*.gz filter=lfs" in attributes
            answer = {"path": path, "uploadMode": "lfs" if large else "regular"}
            answer["shouldIgnore"] = any(path.endswith(end) for end in ignored)
            if path in there:
                answer["oid"] = there[path].oid
            files.append(answer)
        return _json({"files": files})

    def _batch(self, request: Request, name: str, kind: Kind | None) -> Response:
        body = request.get_json(force=True)
        assert body["operation"] == "upload"
        assert body["hash_algo"] == "sha256"
        objects: list[Answer] = []
        for wanted in body["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            if kind == "refuse":
                error = {"code": 403, "message": "Private repository storage limit reached"}
                objects.append({**wanted, "error": error})
                continue
            if len(self.objects.get(oid, b"")) == size:
                objects.append(wanted)
                continue
            place = f"{self.storage_href or self.storage}/{oid}?X-Amz-Signature={SIGNATURE}"
            upload: Answer = {"href": place}
            if self.part_size:
                number = -(-size // self.part_size)
                parts = {f"{n:05}": f"{place}&part={n}" for n in range(1, number + 1)}
                upload["header"] = {"chunk_size": str(self.part_size), **parts}
                upload["href"] = f"{self.api}/{name}/complete/{oid}?s={SIGNATURE}"
            verify = {"href": f"{self.api}/{name}/verify"}
            objects.append({**wanted, "actions": {"upload": upload, "verify": verify}})
        return _json({"transfer": "basic", "objects": objects})

    def _store(self, request: Request, kind: Kind | None) -> Response:
        if request.args.get("X-Amz-Signature") != SIGNATURE:
            return Response("<Error><Code>AccessDenied</Code></Error>", 403)
        oid = request.path.rpartition("/")[2]
        if request.method == "GET":
            return Response(self.objects[oid])
        content = request.get_data()
        self.received += len(content)
        if kind == "spoil":
            content = bytes(len(content))
        if kind != "ignore":
            if "part" in request.args:
                self.parts.setdefault(oid, {})[int(request.args["part"])] = content
            else:
                self.objects[oid] = content
        return Response(b"", 200, {"ETag": f'"{digest(content)}"'})

    def _complete(self, request: Request, name: str, oid: str, kind: Kind | None) -> Response:
        body = request.get_json(force=True)
        assert body["oid"] == oid
        parts = self.parts.pop(oid, {})
        if [part["partNumber"] for part in body["parts"]] != sorted(parts):
            raise RefusedError(400, "", "Some parts are missing")
        self.objects[oid] = b"".join(parts[number] for number in sorted(parts))
        return _json({"success": True})

    def _verify(self, request: Request, name: str, kind: Kind | None) -> Response:
        body = request.get_json()
        content = self.objects.get(body["oid"], b"")
        if len(content) != body["size"] or hashlib.sha256(content).hexdigest() != body["oid"]:
            raise RefusedError(422, "", "Error during lfs-verify")
        return _json({})

    def _commit(self, request: Request, name: str, revision: str, kind: Kind | None) -> Response:
        assert request.content_type == "application/x-ndjson"
        assert revision == "main"
        lines = [json.loads(line) for line in request.get_data().splitlines()]
        assert lines[0]["key"] == "header"
        header, held = lines[0]["value"], self.models[name]
        parent = header.get("parentCommit")
        if parent is not None and parent != held.head:
            raise RefusedError(412, "", STALE)
        files = dict(held.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                content = base64.b64decode(value["content"])
                if value["path"] == "README.md" and problems(content):
                    raise RefusedError(400, "", problems(content)[0]["message"])
                files[value["path"]] = Stored(content)
            else:
                assert line["key"] == "lfsFile"
                files[value["path"]] = self._large(value)
        if kind == "spoil":
            files = {path: Stored(f.content[::-1], f.large) for path, f in files.items()}
        commit = held.add(header["summary"], files)
        return _json(self._committed(name, commit))

    def _committed(self, name: str, commit: str) -> Answer:
        address = f"{self.api}/{name}/commit/{commit}"
        return {"success": True, "commitOid": commit, "commitUrl": address}

    def _large(self, value: Answer) -> Stored:
        if value["oid"] not in self.objects:
            message = "Your push was rejected because an LFS pointer pointed to a file that does"
            raise RefusedError(400, "", f"{message} not exist. Offending file: - {value['path']}")
        assert value["algo"] == "sha256"
        return Stored(self.objects[value["oid"]], large=True)

    def _tag(self, request: Request, name: str, revision: str, kind: Kind | None) -> Response:
        held, tag = self.models[name], request.get_json()["tag"]
        if tag in held.tags:
            raise RefusedError(409, "", f"Reference already exists: {tag}")
        held.at(revision)
        held.tags[tag] = revision
        return _json({})

    def _resolve(
        self, request: Request, name: str, revision: str, path: str, kind: Kind | None
    ) -> Response:
        file = self.models[name].at(revision).get(path)
        if file is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        if file.large:
            address = f"{self.storage}/{file.oid}?X-Amz-Signature={SIGNATURE}"
            return Response(b"", 302, {"Location": address})
        place = f"/api/resolve-cache/models/{name}/{revision}/{path}"
        return Response(b"", 307, {"Location": place})

    def _cached(
        self, request: Request, name: str, revision: str, path: str, kind: Kind | None
    ) -> Response:
        content = self.models[name].at(revision)[path].content
        return Response(content[::-1] if kind == "spoil" else content)


def new_repository(*, private: bool) -> Held:
    held = Held(private)
    held.add("initial commit", {".gitattributes": Stored(ATTRIBUTES)})
    return held


def problems(card: bytes) -> list[Answer]:
    """What the Hub has against the metadata of a card."""
    match = re.match(r"---\n(.*?)\n---\n", card.decode(), re.DOTALL)
    try:
        metadata = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError:
        return [{"message": "Bad YAML"}]
    if metadata.get("license", "mit") not in LICENSES:
        return [{"message": f'"license" must be one of {", ".join(LICENSES)}'}]
    return []


def blob(content: bytes) -> str:
    return digest(b"blob %d\0%s" % (len(content), content))


def digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _json(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(answer), status, headers, content_type="application/json")


def _dropped(request: Request) -> Response:
    connection: socket.socket = request.environ["werkzeug.socket"]

    def body() -> Iterator[bytes]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionError
        yield b""

    return Response(body(), 200)
