"""GitHub's releases on loopback.

Calls, fields and refusals are those of the REST API documentation and of what its users
report; uploads have an address of their own, and downloads lead elsewhere with a signature.

Words for `Fault.kind` of its own: `ignore` (success, nothing kept), `spoil` (other bytes are
kept).
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.destinations.servers.faulty import Answer, FaultyServer, Request, json_answer

REPOSITORY, TOKEN = "sayakpaul/models", "github_pat_5ecret_0123456789"
SIGNATURE = "5ecret-signature"
HEAD = "c" * 40
EMPTY = {"message": "Git Repository is empty."}
FORBIDDEN = {"message": "Resource not accessible by personal access token"}

Fields = dict[str, Any]


def refusal(resource: str, code: str, name: str) -> Fields:
    error = {"resource": resource, "code": code, "field": name}
    return {"message": "Validation Failed", "errors": [error]}


@dataclass
class Stored:
    number: int
    name: str
    content: bytes
    state: str = "uploaded"
    announced: int = 0  # size of an upload that broke


@dataclass
class Held:
    """A release: the fields that are set, and its assets."""

    number: int
    fields: Fields
    assets: list[Stored] = field(default_factory=list)
    immutable: bool = False


class GitHubServer(FaultyServer):
    """`releases` is what it holds; `strangers` are requests elsewhere that brought the token."""

    STATE = ("releases", "tags", "objects")

    def __init__(self) -> None:
        super().__init__()
        self.api, self.storage = f"{self.localhost}/api", f"{self.address}/storage"
        self._numbers = iter(range(1, 1_000_000))
        self.begin()

    def begin(self) -> None:
        """Hold nothing, and behave as usual."""
        self.clear()
        self.releases: dict[int, Held] = {}
        self.tags: dict[str, str] = {}  # name -> object
        self.objects: dict[str, str] = {}  # tag object -> message
        self.strangers: list[str] = []
        self.delay = 0  # so many lists do not show a new release yet
        self.may_write = True
        self.scopes: str | None = None  # of a classic token
        self.push = True  # what is said of the permissions
        self.repository: Fields = {"archived": False}
        self.empty = False
        self.immutable = False  # the repository's setting
        self.digests = True
        self.line_end = "\n"
        self.page = 100  # releases in a list, at most

    @property
    def public(self) -> dict[str, dict[str, bytes]]:
        """What everybody sees: text and assets of the published releases, by tag."""
        return {
            held.fields["tag_name"]: {"README.md": held.fields["body"].encode()}
            | {a.name: a.content for a in held.assets if a.state == "uploaded"}
            for held in self.releases.values()
            if not held.fields["draft"]
        }

    @property
    def drafts(self) -> list[Held]:
        return [held for held in self.releases.values() if held.fields["draft"]]

    def put(self, tag: str, *, body: str = "", draft: bool = False, **assets: bytes) -> Held:
        """Put a release there by hand; `_` in an asset's name stands for a dot."""
        fields = {"tag_name": tag, "name": tag, "body": body, "draft": draft}
        held = Held(next(self._numbers), fields)
        held.assets = [
            Stored(next(self._numbers), name.replace("_", "."), content)
            for name, content in assets.items()
        ]
        self.releases[held.number] = held
        return held

    def answer(self, request: Request, kind: str) -> Answer:
        given, arguments, call = request.token, request.query, request.call
        stored = re.fullmatch(r"GET /storage/(\d+)", call)
        if stored:
            if given is not None:
                self.strangers.append(call)
            signed = arguments.get("signature") == SIGNATURE
            return Answer(200 if signed else 403, self._asset(int(stored[1]))[1].content)
        if given is not None and given != f"Bearer {TOKEN}":
            return json_answer({"message": "Bad credentials"}, 401)
        known = given is not None and self.may_write
        match = re.fullmatch(rf"(\w+) /(api|uploads)/repos/{REPOSITORY}(?:/(.+))?", call)
        if match is None:
            return json_answer({"message": "Not Found"}, 404)
        if match[2] == "uploads" and known:
            return self._upload(match[3], arguments["name"], request.body, kind)
        headers = {} if self.scopes is None else {"X-OAuth-Scopes": self.scopes}
        if request.method != "GET" and not known:
            return json_answer(FORBIDDEN, 403, headers)
        answer = self._route(f"{match[1]} {match[3] or ''}", request.json(), arguments, known, kind)
        return replace(answer, headers=answer.headers | headers)

    def broken(self, request: Request, length: int) -> None:
        """Leave what an upload leaves whose connection breaks."""
        number = re.search(r"uploads.*releases/(\d+)/assets", request.path)
        if number:
            starter = Stored(next(self._numbers), request.query["name"], b"", "starter", length)
            self.releases[int(number[1])].assets.append(starter)

    def _route(
        self,
        call: str,
        fields: Fields,
        arguments: dict[str, str],
        known: bool,
        kind: str,
    ) -> Answer:
        routes: dict[str, Callable[..., Answer]] = {
            r"GET ": lambda: json_answer({**self.repository, "permissions": {"push": self.push}}),
            r"GET commits/HEAD": lambda: (
                json_answer(EMPTY, 409) if self.empty else Answer(200, HEAD.encode())
            ),
            r"GET releases": lambda: self._list(arguments, known),
            r"GET releases/tags/(.+)": self._by_tag,
            r"GET releases/(\d+)": lambda number: self._one(int(number)),
            r"GET releases/(\d+)/assets": lambda number: self._assets(int(number)),
            r"GET releases/assets/(\d+)": lambda number: self._download(int(number)),
            r"GET git/ref/tags/(.+)": self._ref,
            r"GET git/tags/(.+)": lambda sha: json_answer({"message": self.objects[sha]}),
            r"POST releases": lambda: self._create(fields),
            r"POST git/tags": lambda: self._tag_object(fields),
            r"POST git/refs": lambda: self._make_ref(fields),
            r"PATCH releases/(\d+)": lambda number: self._edit(int(number), fields, kind),
            r"PATCH releases/assets/(\d+)": lambda number: self._rename(int(number), fields),
            r"DELETE releases/assets/(\d+)": lambda number: self._delete_asset(int(number)),
            r"DELETE releases/(\d+)": lambda number: self._delete(int(number)),
        }
        for pattern, route in routes.items():
            match = re.fullmatch(pattern, call)
            if match:
                try:
                    return route(*match.groups())
                except KeyError:
                    break
        return json_answer({"message": "Not Found"}, 404)

    def _shown(self, held: Held) -> Fields:
        body = held.fields["body"].replace("\n", self.line_end)
        return {
            "id": held.number,
            **held.fields,
            "body": body,
            "immutable": held.immutable,
            "upload_url": self.upload_url(held.number),
            "assets": [self._shown_asset(a) for a in held.assets if a.state == "uploaded"],
        }

    def upload_url(self, number: int) -> str:
        return (
            f"{self.localhost}/uploads/repos/{REPOSITORY}/releases/{number}/assets{{?name,label}}"
        )

    def _shown_asset(self, asset: Stored) -> Fields:
        digest = f"sha256:{hashlib.sha256(asset.content).hexdigest()}"
        return {
            "id": asset.number,
            "name": asset.name,
            "state": asset.state,
            "size": asset.announced or len(asset.content),
            "digest": digest if self.digests and asset.state == "uploaded" else None,
        }

    def _list(self, arguments: dict[str, str], known: bool) -> Answer:
        size, page = min(int(arguments["per_page"]), self.page), int(arguments["page"])
        releases = [r for r in self.releases.values() if known or not r.fields["draft"]]
        if self.delay > 0:
            self.delay -= 1
            releases = releases[:-1]
        releases.sort(key=lambda held: -held.number)
        following = {"Link": f'<{self.api}?page={page + 1}>; rel="next"'}
        part = [self._shown(held) for held in releases[(page - 1) * size : page * size]]
        return json_answer(part, headers=following if len(releases) > page * size else {})

    def _by_tag(self, tag: str) -> Answer:
        for held in self.releases.values():
            if held.fields["tag_name"] == tag and not held.fields["draft"]:
                return json_answer(self._shown(held))
        raise KeyError(tag)

    def _one(self, number: int) -> Answer:
        return json_answer(self._shown(self.releases[number]))

    def _assets(self, number: int) -> Answer:
        return json_answer([self._shown_asset(asset) for asset in self.releases[number].assets])

    def _asset(self, number: int) -> tuple[Held, Stored]:
        for held in self.releases.values():
            for asset in held.assets:
                if asset.number == number:
                    return held, asset
        raise KeyError(number)

    def _download(self, number: int) -> Answer:
        self._asset(number)
        location = f"{self.storage}/{number}?signature={SIGNATURE}"
        return Answer(302, b"", {"Location": location})

    def _create(self, fields: Fields) -> Answer:
        held = Held(next(self._numbers), {"draft": False, **fields})
        fault = self._fault_of(held)
        if fault:
            return json_answer(fault, 422)
        self.releases[held.number] = held
        return json_answer(self._shown(held), 201)

    def _fault_of(self, held: Held) -> Fields | None:
        if len(held.fields["body"]) > 125_000:
            return refusal("Release", "custom", "body")
        taken = {
            other.fields["tag_name"]
            for other in self.releases.values()
            if other.number != held.number and not other.fields["draft"]
        }
        if not held.fields["draft"] and held.fields["tag_name"] in taken:
            return refusal("Release", "already_exists", "tag_name")
        return None

    def _edit(self, number: int, fields: Fields, kind: str) -> Answer:
        held = self.releases[number]
        assert fields.pop("make_latest") == "false"
        changed = Held(number, {**held.fields, **fields}, held.assets, held.immutable)
        fault = self._fault_of(changed)
        if fault:
            return json_answer(fault, 422)
        if kind == "ignore":
            return json_answer(self._shown(changed))
        if held.fields["draft"] and not changed.fields["draft"]:
            changed.immutable = self.immutable
            self.tags.setdefault(changed.fields["tag_name"], HEAD)
        self.releases[number] = changed
        return json_answer(self._shown(changed))

    def _delete(self, number: int) -> Answer:
        del self.releases[number]
        return Answer(204)

    def _upload(self, rest: str, name: str, content: bytes, kind: str) -> Answer:
        number = re.fullmatch(r"releases/(\d+)/assets", rest)
        if number is None or int(number[1]) not in self.releases:
            return json_answer({"message": "Not Found"}, 404)
        held = self.releases[int(number[1])]
        if held.immutable:
            return json_answer({"message": "Cannot upload assets to an immutable release."}, 422)
        if any(asset.name == name for asset in held.assets):
            return json_answer(refusal("ReleaseAsset", "already_exists", "name"), 422)
        asset = Stored(next(self._numbers), name, content)
        if kind == "spoil":
            asset.content = bytes(len(content))
        if kind != "ignore":
            held.assets.append(asset)
        return json_answer(self._shown_asset(asset), 201)

    def _rename(self, number: int, fields: Fields) -> Answer:
        held, asset = self._asset(number)
        if any(other.name == fields["name"] for other in held.assets if other is not asset):
            return json_answer(refusal("ReleaseAsset", "already_exists", "name"), 422)
        asset.name = fields["name"]
        return json_answer(self._shown_asset(asset))

    def _delete_asset(self, number: int) -> Answer:
        held, asset = self._asset(number)
        if held.immutable:
            return json_answer({"message": "Cannot delete asset from an immutable release."}, 422)
        held.assets.remove(asset)
        return Answer(204)

    def _tag_object(self, fields: Fields) -> Answer:
        assert (fields["type"], fields["object"]) == ("commit", HEAD)
        sha = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:40]
        self.objects[sha] = fields["message"]
        return json_answer({"sha": sha, "tag": fields["tag"]}, 201)

    def _make_ref(self, fields: Fields) -> Answer:
        tag = fields["ref"].removeprefix("refs/tags/")
        if tag in self.tags:
            return json_answer({"message": "Reference already exists"}, 422)
        if fields["sha"] not in (HEAD, *self.objects):
            return json_answer({"message": "Object does not exist"}, 422)
        self.tags[tag] = fields["sha"]
        return json_answer({"ref": fields["ref"]}, 201)

    def _ref(self, tag: str) -> Answer:
        sha = self.tags[tag]
        kind = "tag" if sha in self.objects else "commit"
        return json_answer({"ref": f"refs/tags/{tag}", "object": {"type": kind, "sha": sha}})
