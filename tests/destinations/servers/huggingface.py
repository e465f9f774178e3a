"""The Hugging Face Hub on loopback.

Calls, fields and refusals are those that huggingface_hub makes and knows, and that its users
report. Large files go to a storage of another name, with a signature.

Words for `Fault.kind` of its own: `ignore` (success, nothing done), `spoil` (other bytes are
kept), `refuse` (no room for a large file).
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.destinations.servers.faulty import Answer, FaultyServer, Request, json_answer

OWNER, TOKEN, SIGNATURE = "sayakpaul", "hf_5ecretTokenOfATest0123456789", "5ecret-signature"
ORGANIZATION = "a-group"
ATTRIBUTES = b"*.gz filter=lfs diff=lfs merge=lfs -text\n"
STALE = "A commit has happened since. Please refresh and try again."
LICENSES = ("apache-2.0", "mit", "other")
Fields = dict[str, Any]


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


class HubServer(FaultyServer):
    """`models` is what it holds; `strangers` are requests elsewhere that brought the token."""

    STATE = ("models", "objects", "parts")
    ASKING = "^(GET|HEAD)|^POST /api/validate-yaml"

    def __init__(self) -> None:
        super().__init__()
        self.api, self.storage = self.localhost, f"{self.address}/storage"
        self.begin()

    def begin(self) -> None:
        """Hold nothing, and behave as usual."""
        self.clear()
        self.models: dict[str, Held] = {}
        self.objects: dict[str, bytes] = {}  # what was uploaded, by what it was to be
        self.parts: dict[str, dict[int, bytes]] = {}
        self.strangers: list[str] = []
        self.access: Fields = {"role": "write"}
        self.user: Fields = {"type": "user", "name": OWNER, "orgs": [{"name": ORGANIZATION}]}
        self.may_write = True
        self.part_size: int | None = None  # bytes of a part of a large file, where it has parts
        self.page = 100  # entries of a list, at most
        self.lists = True  # whether new models are listed at once
        self.next_page = ""  # where lists lead on, in the place of here

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

    def refusal(self, status: int, message: str, headers: dict[str, str]) -> Answer:
        return json_answer({"error": message}, status, headers)

    def answer(self, request: Request, kind: str) -> Answer:
        try:
            return self._answer(request, request.call, kind)
        except RefusedError as error:
            status, code, message = error.args
            return self.refusal(status, message, {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, request: Request, call: str, kind: str) -> Answer:
        if request.path.startswith("/storage/"):
            if request.token is not None:
                self.strangers.append(call)
            return self._store(request, kind)
        if request.token not in (None, f"Bearer {TOKEN}"):
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        known = request.token is not None
        name = r"([\w.-]+/[\w.-]+)"
        routes: dict[str, Callable[..., Answer]] = {
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
                signed = route == self._complete and request.query.get("s") == SIGNATURE
                if writing and not signed and not (known and self.may_write):
                    raise RefusedError(403, "", "You don't have the rights for this action")
                return self._of_model(route, request, match.groups(), known or signed, kind)
        raise RefusedError(404, "", "Not Found")

    def _of_model(
        self,
        route: Callable[..., Answer],
        request: Request,
        parts: tuple[str, ...],
        known: bool,
        kind: str,
    ) -> Answer:
        if not parts:
            return route(request, known)
        model = self.models.get(parts[0])
        if model is None or (model.private and not known):
            raise RefusedError(404 if known else 401, "RepoNotFound", "Repository not found")
        if kind == "ignore":
            return json_answer(self._committed(parts[0], "f" * 40))
        try:
            return route(request, parts[0], *parts[1:], kind=kind)
        except KeyError:
            raise RefusedError(404, "RevisionNotFound", "Invalid rev id") from None

    def _whoami(self, request: Request, known: bool) -> Answer:
        if not known:
            raise RefusedError(401, "", "Invalid username or password.")
        return json_answer(
            {**self.user, "auth": {"type": "access_token", "accessToken": self.access}}
        )

    def _validate(self, request: Request, known: bool) -> Answer:
        errors = problems(request.json()["content"].encode())
        return json_answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _list(self, request: Request, known: bool) -> Answer:
        assert request.query["expand"] == "siblings"
        shown = [
            {"id": name, "siblings": [{"rfilename": path} for path in held.files]}
            for name, held in sorted(self.models.items())
            if name.startswith(f"{request.query['author']}/")
            and (known or not held.private)
            and self.lists
        ]
        return self._paged(request, shown)

    def _paged(self, request: Request, entries: list[Fields]) -> Answer:
        start = int(request.query.get("cursor", 0))
        answer = json_answer(entries[start : start + self.page])
        if start + self.page < len(entries):
            query = re.sub(r"&cursor=\d+", "", urlsplit(request.target).query)
            here = f"{self.api}{request.path}"
            address = f"{self.next_page or here}?{query}&cursor={start + self.page}"
            answer.headers["Link"] = f'<{address}>; rel="next"'
        return answer

    def _create(self, request: Request, known: bool) -> Answer:
        body = request.json()
        owner = body["organization"] or OWNER
        if owner not in (OWNER, ORGANIZATION):
            message = f"You don't have the rights to create a model under the namespace {owner!r}"
            raise RefusedError(403, "", message)
        name = f"{owner}/{body['name']}"
        url = {"url": f"{self.api}/{name}"}
        if name in self.models:
            return json_answer({**url, "error": "You already created this model repo"}, 409)
        self.models[name] = new_repository(private=body["visibility"] == "private")
        return json_answer(url)

    def _refs(self, request: Request, name: str, kind: str) -> Answer:
        held = self.models[name]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": held.head}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
            for tag, commit in held.tags.items()
        ]
        return json_answer({"branches": [main], "converts": [], "tags": tags})

    def _tree(self, request: Request, name: str, revision: str, kind: str) -> Answer:
        files = self.models[name].at(revision)
        folders = {path.rpartition("/")[0] for path in files if "/" in path}
        entries: list[Fields] = [
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

    def _preupload(self, request: Request, name: str, revision: str, kind: str) -> Answer:
        there = self.models[name].at(revision)
        attributes = there[".gitattributes"].content
        ignored = there.get(".gitignore", Stored(b"")).content.decode().split()
        files = []
        for file in request.json()["files"]:
            path = file["path"]
            large = path.endswith(".gz") and b"*.gz filter=lfs" in attributes
            answer = {"path": path, "uploadMode": "lfs" if large else "regular"}
            answer["shouldIgnore"] = any(path.endswith(end) for end in ignored)
            if path in there:
                answer["oid"] = there[path].oid
            files.append(answer)
        return json_answer({"files": files})

    def _batch(self, request: Request, name: str, kind: str) -> Answer:
        body = request.json()
        assert body["operation"] == "upload"
        assert body["hash_algo"] == "sha256"
        objects: list[Fields] = []
        for wanted in body["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            if kind == "refuse":
                error = {"code": 403, "message": "Private repository storage limit reached"}
                objects.append({**wanted, "error": error})
                continue
            if len(self.objects.get(oid, b"")) == size:
                objects.append(wanted)
                continue
            place = f"{self.storage}/{oid}?X-Amz-Signature={SIGNATURE}"
            upload: Fields = {"href": place}
            if self.part_size:
                number = -(-size // self.part_size)
                parts = {f"{n:05}": f"{place}&part={n}" for n in range(1, number + 1)}
                upload["header"] = {"chunk_size": str(self.part_size), **parts}
                upload["href"] = f"{self.api}/{name}/complete/{oid}?s={SIGNATURE}"
            verify = {"href": f"{self.api}/{name}/verify"}
            objects.append({**wanted, "actions": {"upload": upload, "verify": verify}})
        return json_answer({"transfer": "basic", "objects": objects})

    def _store(self, request: Request, kind: str) -> Answer:
        if request.query.get("X-Amz-Signature") != SIGNATURE:
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        oid = request.path.rpartition("/")[2]
        if request.method == "GET":
            return Answer(200, self.objects[oid])
        content = request.body
        if kind == "spoil":
            content = bytes(len(content))
        if kind != "ignore":
            if "part" in request.query:
                self.parts.setdefault(oid, {})[int(request.query["part"])] = content
            else:
                self.objects[oid] = content
        return Answer(200, b"", {"ETag": f'"{digest(content)}"'})

    def _complete(self, request: Request, name: str, oid: str, kind: str) -> Answer:
        body = request.json()
        assert body["oid"] == oid
        parts = self.parts.pop(oid, {})
        if [part["partNumber"] for part in body["parts"]] != sorted(parts):
            raise RefusedError(400, "", "Some parts are missing")
        self.objects[oid] = b"".join(parts[number] for number in sorted(parts))
        return json_answer({"success": True})

    def _verify(self, request: Request, name: str, kind: str) -> Answer:
        body = request.json()
        content = self.objects.get(body["oid"], b"")
        if len(content) != body["size"] or hashlib.sha256(content).hexdigest() != body["oid"]:
            raise RefusedError(422, "", "Error during lfs-verify")
        return json_answer({})

    def _commit(self, request: Request, name: str, revision: str, kind: str) -> Answer:
        assert request.headers["content-type"] == "application/x-ndjson"
        assert revision == "main"
        lines = [json.loads(line) for line in request.body.splitlines()]
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
        return json_answer(self._committed(name, commit))

    def _committed(self, name: str, commit: str) -> Fields:
        address = f"{self.api}/{name}/commit/{commit}"
        return {"success": True, "commitOid": commit, "commitUrl": address}

    def _large(self, value: Fields) -> Stored:
        if value["oid"] not in self.objects:
            message = "Your push was rejected because an LFS pointer pointed to a file that does"
            raise RefusedError(400, "", f"{message} not exist. Offending file: - {value['path']}")
        assert value["algo"] == "sha256"
        return Stored(self.objects[value["oid"]], large=True)

    def _tag(self, request: Request, name: str, revision: str, kind: str) -> Answer:
        held, tag = self.models[name], request.json()["tag"]
        if tag in held.tags:
            raise RefusedError(409, "", f"Reference already exists: {tag}")
        held.at(revision)
        held.tags[tag] = revision
        return json_answer({})

    def _resolve(self, request: Request, name: str, revision: str, path: str, kind: str) -> Answer:
        file = self.models[name].at(revision).get(path)
        if file is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        if file.large:
            address = f"{self.storage}/{file.oid}?X-Amz-Signature={SIGNATURE}"
            return Answer(302, b"", {"Location": address})
        place = f"/api/resolve-cache/models/{name}/{revision}/{path}"
        return Answer(307, b"", {"Location": place})

    def _cached(self, request: Request, name: str, revision: str, path: str, kind: str) -> Answer:
        content = self.models[name].at(revision)[path].content
        return Answer(200, content[::-1] if kind == "spoil" else content)


def new_repository(*, private: bool) -> Held:
    held = Held(private)
    held.add("initial commit", {".gitattributes": Stored(ATTRIBUTES)})
    return held


def problems(card: bytes) -> list[Fields]:
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
