"""What fake-gcs-server has not: resumable uploads as Cloud Storage has them, and permissions.

It ends an upload that is only asked for its status, and forgets the precondition. So bytes
are gathered here, and go on in one request when all are there. Statuses and headers are those
of Cloud Storage's documentation, "Perform resumable uploads".
"""

import base64
import json
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import google_crc32c

from tests.destinations.servers.faulty import Answer, FaultyProxy, Request, json_answer

# Bytes: of an interrupted request only multiples are kept. What is in every upload's address.
UNIT, SECRET = 256 << 10, "5ecret-upload"


@dataclass
class Upload:
    """An upload: where it began, the object's facts, and what came so far."""

    path: str
    match: str
    facts: dict[str, Any]
    content: bytes = b""
    answer: Answer | None = None


class CloudStorage(FaultyProxy):
    """`uploads` are those that may go on; `granted` are permissions, none: it cannot tell."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.began = 0
        self.begin()

    def begin(self) -> None:
        """Know of no upload, and behave as usual."""
        self.clear()
        self.uploads: dict[str, Upload] = {}
        self.granted: list[str] | None = None

    def unfinished(self) -> list[str]:
        """Return the uploads that take space and are no object."""
        return [key for key, u in self.uploads.items() if u.content and u.answer is None]

    def refusal(self, status: int, message: str, headers: dict[str, str]) -> Answer:
        error = {"message": message, "domain": "global", "reason": message}
        body = {"error": {"code": status, "message": message, "errors": [error]}}
        return json_answer(body, status, headers)

    def answer(self, request: Request, kind: str) -> Answer | None:
        path, query = request.path, request.query
        if path.endswith("/iam/testPermissions") and self.granted is not None:
            return json_answer({"permissions": self.granted})
        if "upload_id" in query:
            return self._go_on(request, query["upload_id"], whole=True)
        if query.get("uploadType") == "resumable":
            return self._begin(request, query.get("ifGenerationMatch", ""))
        if not re.match("/(storage|upload|download)/", path):
            # How everybody reads: the server takes it for that only at its own name.
            headers = request.headers | {"host": "storage.googleapis.com"}
            request = replace(request, headers=headers)
        return self.forward(request)

    def broken(self, request: Request, length: int) -> None:
        if "upload_id" in request.query:
            self._go_on(request, request.query["upload_id"], whole=False)
        else:
            super().broken(request, length)

    def _begin(self, request: Request, match: str) -> Answer:
        facts = json.loads(request.body)
        facts["contentType"] = request.headers["x-upload-content-type"]
        self.began += 1
        key = f"{SECRET}-{self.began}"
        path = request.path
        self.uploads[key] = Upload(path, match, facts)
        query = urlencode({"uploadType": "resumable", "name": facts["name"], "upload_id": key})
        return Answer(200, b"", {"Location": f"http://{request.headers['host']}{path}?{query}"})

    def _go_on(self, request: Request, key: str, *, whole: bool) -> Answer | None:
        upload = self.uploads.get(key)
        if upload is None:
            return self.refusal(410, "gone", {})
        if request.method == "DELETE":
            del self.uploads[key]
            return Answer(499)
        if upload.answer is not None:
            return upload.answer
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", request.headers["content-range"])
        assert span is not None
        if span[1] is not None:
            first, last, size = int(span[1]), int(span[2]), int(span[3])
            if first > len(upload.content) or (last + 1 < size and (last + 1 - first) % UNIT):
                return Answer(400)
            kept = len(request.body) if whole else len(request.body) // UNIT * UNIT
            upload.content += request.body[len(upload.content) - first : kept]
            if len(upload.content) == size:
                return self._finish(key, upload)
        if not whole:
            return None
        there = {"Range": f"bytes=0-{len(upload.content) - 1}"} if upload.content else {}
        return Answer(308, b"", there)

    def _finish(self, key: str, upload: Upload) -> Answer:
        checksum = google_crc32c.Checksum(upload.content).digest()
        if upload.facts.get("crc32c") != base64.b64encode(checksum).decode():
            del self.uploads[key]
            return Answer(400)
        parts = (
            b"Content-Type: application/json\r\n\r\n" + json.dumps(upload.facts).encode(),
            f"Content-Type: {upload.facts['contentType']}\r\n\r\n".encode() + upload.content,
        )
        body = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--"
        query = urlencode({"uploadType": "multipart", "ifGenerationMatch": upload.match})
        headers = {"content-type": "multipart/related; boundary=edge"}
        answer = self.forward(Request("POST", f"{upload.path}?{query}", headers, body))
        if answer.status == 200:
            upload.answer = answer
        else:
            del self.uploads[key]
        return answer
