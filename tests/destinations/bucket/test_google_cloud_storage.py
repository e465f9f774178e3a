"""Cloud Storage: credentials, permissions, and uploads that go on."""

import json
import os
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.credentials import AnonymousCredentials

from publisher.destinations.base import DestinationError
from publisher.destinations.bucket.google_cloud_storage import PERMISSIONS, GoogleCloudStorage
from publisher.destinations.bucket.objects import UnfinishedUpload
from publisher.destinations.sessions import Sessions
from publisher.util.http import HttpError
from tests.destinations.contract import PART, GcsPlace, in_release
from tests.destinations.servers.cloud_storage import SECRET
from tests.destinations.servers.faulty import ALWAYS, Answer, Request
from tests.destinations.versions import ARCHIVE, Files, contents
from tests.releases import CLASSIFIER

PIECES = "^PUT .*upload_id="


# Credentials and permissions


def with_credentials(gcs: GcsPlace, folder: Path, **environment: str) -> GoogleCloudStorage:
    """Open the destination at the service itself; no test comes so far that it is asked."""
    nothing = {"CLOUDSDK_CONFIG": str(folder / "no-config"), "NO_GCE_CHECK": "true"}
    destination = GoogleCloudStorage("there", gcs.target, nothing | environment, folder / "kept")
    destination.retry = destination.retry.with_timeout(0.0)
    return destination


def test_missing_credentials_are_named_with_what_provides_them(
    gcs: GcsPlace, tmp_path: Path
) -> None:
    words = (
        r"there: no usable credentials .*; set GOOGLE_APPLICATION_CREDENTIALS to the path of a"
        r" key file, or run: gcloud auth application-default login"
    )
    with pytest.raises(DestinationError, match=words):
        with_credentials(gcs, tmp_path).check()


def test_without_credentials_it_is_read_as_everybody_reads_it(
    gcs: GcsPlace, tmp_path: Path
) -> None:
    destination = with_credentials(gcs, tmp_path)
    assert isinstance(destination._client._credentials, AnonymousCredentials)
    assert destination._client._connection.API_BASE_URL == "https://storage.googleapis.com"
    refused = destination._failure("reading index.json", HttpError(403, "no"))
    assert "this needs credentials: set GOOGLE_APPLICATION_CREDENTIALS" in str(refused)


def test_only_the_environment_that_was_given_counts(
    gcs: GcsPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "not-this-one"))
    before = dict(os.environ)
    with pytest.raises(DestinationError, match="no usable credentials") as caught:
        with_credentials(gcs, tmp_path).check()
    assert "not-this-one" not in str(caught.value)
    with pytest.raises(DestinationError, match="this-one"):
        this = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "this-one")}
        with_credentials(gcs, tmp_path, **this).check()
    assert dict(os.environ) == before


def key_file(folder: Path, token_uri: str) -> tuple[Path, str]:
    """Write the key of a service account, and return where it is and its secret."""
    key = generate_private_key(65537, 2048)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "client_email": "publisher@tests.iam.gserviceaccount.com",
        "private_key": secret,
        "token_uri": token_uri,
    }
    path = folder / "key.json"
    path.write_text(json.dumps(account))
    return path, secret


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer(400, b'{"error": "invalid_grant", "error_description": "Invalid JWT"}'),
            r"401 \(invalid_grant: Invalid JWT\); the credentials are not accepted: set GOOGLE_",
        ),
        ("drop", "no answer .could not get a token for the credentials.; check the network"),
    ],
    ids=["refused", "no answer"],
)
def test_credentials_that_are_not_accepted(
    answer: Any, words: str, gcs: GcsPlace, tmp_path: Path
) -> None:
    path, secret = key_file(tmp_path, f"{gcs.server.address}/token")
    gcs.server.add(answer, "^POST /token", times=ALWAYS)
    destination = with_credentials(gcs, tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path))
    with pytest.raises(DestinationError, match=words) as caught:
        destination.check()
    told = "".join(traceback.format_exception(caught.value))
    assert not any(line in told for line in secret.splitlines() if line)


def test_a_key_file_that_is_none_is_named(gcs: GcsPlace, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    key = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}
    with pytest.raises(DestinationError, match=r"no usable credentials .*key"):
        with_credentials(gcs, tmp_path, **key).check()


def test_check_asks_for_the_permissions_that_publishing_needs(
    gcs: GcsPlace,
) -> None:
    gcs.server.granted = list(PERMISSIONS)
    gcs.open().check()
    asked = gcs.server.requests[-1].target
    assert re.findall(r"permissions=([\w.]+)", asked) == list(PERMISSIONS)
    gcs.server.granted = ["storage.objects.get", "storage.objects.list"]
    words = (
        r"the credentials lack storage\.objects\.create, storage\.objects\.delete; grant the role"
        r" Storage Object User \(roles/storage\.objectUser\) on the bucket"
    )
    with pytest.raises(DestinationError, match=words):
        gcs.open().check()
    assert gcs.server.writes == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, "Invalid Credentials"), "credentials are not accepted: set"),
        ((403, "No storage.objects.create forbidden"), "grant the role Storage Object"),
        ((403, "Quota exceeded quotaExceeded"), "free space there, or check quota and billing"),
        ((403, "Billing is disabled accountDisabled"), "check quota and billing"),
        ((413, "Too large uploadTooLarge"), "free space there, or check quota"),
        ((409, "Conflict conflict"), "check gs://"),
        (Answer(403, b"<html>", {"Content-Type": "text/html"}), "grant the role"),
        (Answer(200, b"no json", {"Content-Type": "application/json"}), "not understood); wait"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("call", ["uploadType=multipart", "^GET .*/o/"])
def test_refusals_say_what_to_do(
    call: str, answer: Any, words: str, gcs: GcsPlace, files: Files
) -> None:
    if isinstance(answer, tuple):
        gcs.server.add(answer[0], call, message=answer[1], times=ALWAYS)
    else:
        gcs.server.add(answer, call, times=ALWAYS)
    message = gcs.refused(lambda: gcs.open(attempts=1, part=8 << 20).add_version(CLASSIFIER, files))
    assert re.match(r"there: (sending|looking at) .*: the service answered [45]\d\d", message)
    assert words in message
    assert gcs.objects() == {}


def test_a_session_without_an_address_is_told(gcs: GcsPlace, files: Files) -> None:
    gcs.server.add(Answer(200), "uploadType=resumable", times=ALWAYS)
    message = gcs.refused(lambda: gcs.open(attempts=1).add_version(CLASSIFIER, files))
    assert f"sending {ARCHIVE}: " in message


def test_a_download_that_is_refused_is_told(gcs: GcsPlace) -> None:
    gcs.server.add(Answer(403), "^GET .*alt=media")
    message = gcs.refused(lambda: gcs.open().read("index.json"))
    assert "reading index.json: the service answered 403" in message
    assert "grant the role Storage Object" in message


@pytest.mark.parametrize("content", [b"{}", b"[1]", b'{"size": "1"}', b'{"updated": 3}'])
def test_odd_answers_are_an_error(content: bytes, gcs: GcsPlace, files: Files) -> None:
    gcs.server.add(Answer(200, content, {"Content-Type": "application/json"}), "^GET .*/o/")
    with pytest.raises(DestinationError, match=r"502 \(an answer that is not understood"):
        gcs.open().add_version(CLASSIFIER, files)


def test_nothing_is_asked_in_the_background(gcs: GcsPlace, files: Files) -> None:
    destination = gcs.open()
    destination.check()
    destination.add_version(CLASSIFIER, files)
    destination.manifests()
    assert [r.line for r in gcs.server.requests if re.search(rf"/b/{gcs.bucket}\?", r.line)] == []


# Uploads that go on


def spans(gcs: GcsPlace) -> list[str]:
    """Return which bytes the requests of a session had, or were asked for."""
    return [r.headers["content-range"] for r in gcs.server.requests if re.search(PIECES, r.line)]


def three_pieces(files: Files) -> tuple[int, list[str]]:
    """Return the archive's size, and the bytes of its pieces."""
    size = len(contents(files)["model.tar.gz"])
    ends = [(0, PART), (PART, 2 * PART), (2 * PART, size)]
    return size, [f"bytes {start}-{end - 1}/{size}" for start, end in ends]


def test_a_large_archive_goes_in_pieces(gcs: GcsPlace, files: Files) -> None:
    _, pieces = three_pieces(files)
    gcs.open().add_version(CLASSIFIER, files)
    assert spans(gcs) == pieces
    (start,) = [r for r in gcs.server.requests if "uploadType=resumable&ifGen" in r.line]
    assert "ifGenerationMatch=0" in start.target
    assert json.loads(start.body)["crc32c"]


def test_a_piece_whose_answer_is_lost_is_not_sent_again(gcs: GcsPlace, files: Files) -> None:
    size, pieces = three_pieces(files)
    gcs.server.add("lose", PIECES)
    gcs.open().add_version(CLASSIFIER, files)
    assert spans(gcs) == [pieces[0], f"bytes */{size}", *pieces[1:]]


def test_what_arrived_of_a_piece_that_was_cut_is_kept(gcs: GcsPlace, files: Files) -> None:
    size, _ = three_pieces(files)
    gcs.server.add("cut", PIECES)
    destination = gcs.open()
    destination.piece = 4 * PART  # one for all
    destination.add_version(CLASSIFIER, files)
    assert spans(gcs) == [
        f"bytes 0-{size - 1}/{size}",
        f"bytes */{size}",
        f"bytes {PART}-{size - 1}/{size}",
    ]
    assert gcs.shown() == in_release({CLASSIFIER: files})


def test_an_upload_whose_last_answer_is_lost_is_found_complete(gcs: GcsPlace, files: Files) -> None:
    size, pieces = three_pieces(files)
    gcs.server.add("lose", PIECES, skip=2)
    gcs.open().add_version(CLASSIFIER, files)
    assert spans(gcs) == [*pieces, f"bytes */{size}"]
    assert gcs.shown() == in_release({CLASSIFIER: files})


def test_a_service_that_keeps_nothing_is_not_asked_for_ever(gcs: GcsPlace, files: Files) -> None:
    size, _ = three_pieces(files)
    gcs.server.add(Answer(308), PIECES, times=ALWAYS)
    with pytest.raises(DestinationError, match=r"503 \(it kept nothing of what was sent\); wait"):
        gcs.open(attempts=1).add_version(CLASSIFIER, files)
    gcs.server.clear()
    gcs.server.add(Answer(308, b"", {"Range": f"bytes=0-{size - 1}"}), PIECES, times=ALWAYS)
    with pytest.raises(DestinationError, match=r"503 \(it has all bytes and does not finish\)"):
        gcs.open(attempts=1).add_version(CLASSIFIER, files)


def test_bytes_that_changed_on_the_way_are_refused(
    gcs: GcsPlace, files: Files, tmp_path: Path
) -> None:
    def spoil(request: Request) -> Request:
        return Request(request.method, request.target, request.headers, request.body[::-1])

    gcs.server.add(spoil, PIECES)
    with pytest.raises(
        DestinationError, match=rf"sending {re.escape(ARCHIVE)}: the service answered 400"
    ):
        gcs.open().add_version(CLASSIFIER, files)
    assert gcs.objects() == {}
    assert list((tmp_path / "kept").iterdir()) == []
    gcs.open().add_version(CLASSIFIER, files)
    assert gcs.shown() == in_release({CLASSIFIER: files})


@pytest.mark.parametrize(
    "answer", [Answer(403), Answer(429), Answer(500), "drop", "stall"], ids=str
)
def test_the_address_of_an_upload_is_kept_secret(answer: Any, gcs: GcsPlace, files: Files) -> None:
    gcs.server.add(answer, PIECES, times=ALWAYS)
    with pytest.raises(DestinationError) as caught:
        gcs.open(attempts=1, timeout=0.2).add_version(CLASSIFIER, files)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_session_at_another_host_is_not_used(gcs: GcsPlace, files: Files, tmp_path: Path) -> None:
    elsewhere = f"http://localhost:1/upload?upload_id={SECRET}"
    gcs.server.add(Answer(200, b"", {"Location": elsewhere}), "uploadType=resumable")
    with pytest.raises(
        DestinationError, match=r"upload address for .* is on another host"
    ) as caught:
        gcs.open().add_version(CLASSIFIER, files)
    assert SECRET not in str(caught.value)
    Sessions(tmp_path / "kept", UnfinishedUpload).put(
        ARCHIVE, UnfinishedUpload(sha256="0" * 64, key=elsewhere)
    )
    gcs.open().add_version(CLASSIFIER, files)
    assert gcs.shown() == in_release({CLASSIFIER: files})
