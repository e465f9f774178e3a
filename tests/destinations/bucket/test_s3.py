"""S3: credentials, permissions, preconditions, and uploads in parts."""

import json
import os
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.bucket.objects import UnfinishedUpload
from publisher.destinations.bucket.s3 import S3
from publisher.destinations.sessions import Sessions
from tests.destinations.contract import KEY, PART, PREFIX, S3Place, in_release
from tests.destinations.servers.faulty import ALWAYS, Answer
from tests.destinations.versions import ARCHIVE, Files, contents
from tests.releases import CLASSIFIER

PATH = ARCHIVE
AT = f"{PREFIX}/{PATH}"
PARTS = "^PUT .*partNumber="


def refusal(status: int, code: str, message: str = "no") -> Answer:
    """Return a refusal as S3 words it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, body.encode(), {"Content-Type": "application/xml"})


# Credentials and permissions


def test_missing_credentials_are_named_with_what_provides_them(s3: S3Place) -> None:
    none: Any = S3Place.NOBODY
    words = (
        r"there: no usable credentials .*; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
        r" AWS_PROFILE, or run: aws configure"
    )
    with pytest.raises(DestinationError, match=words):
        s3.open(**none).check()
    with pytest.raises(DestinationError, match="no usable credentials"):
        s3.open(**(none | {"AWS_ACCESS_KEY_ID": "AKIA0"})).check()
    with pytest.raises(DestinationError, match=r"no usable credentials .*elsewhere"):
        s3.open(**(none | {"AWS_PROFILE": "elsewhere"})).check()


def test_what_everybody_may_read_is_read_without_credentials(s3: S3Place, files: Files) -> None:
    none: Any = S3Place.NOBODY
    s3.open().add_version(CLASSIFIER, files)
    everybody = s3.open(**none)
    assert everybody.manifests() == s3.open().manifests() != {}
    assert everybody.read("index.json") is None
    with pytest.raises(DestinationError, match="no usable credentials"):
        everybody.check()


def test_what_not_everybody_may_read_asks_for_credentials(s3: S3Place) -> None:
    none: Any = S3Place.NOBODY
    s3.server.add(refusal(403, "AccessDenied"), "^GET", times=ALWAYS)
    with pytest.raises(DestinationError, match="this needs credentials: set AWS_ACCESS_KEY_ID"):
        s3.open(**none).read("index.json")


def test_a_profile_of_the_clients_own_store_is_used(
    s3: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "not-this-one")
    before = dict(os.environ)
    store = tmp_path.parent / f"{tmp_path.name}-store"
    store.write_text(f"[tests]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = {KEY}\n")
    environment = {
        "AWS_ENDPOINT_URL": s3.server.address,
        "AWS_PROFILE": "tests",
        "AWS_SHARED_CREDENTIALS_FILE": str(store),
    }
    S3("there", s3.target, environment, tmp_path / "kept").check()
    assert "AKIAPROFILE" in s3.server.requests[0].headers["authorization"]
    assert dict(os.environ) == before


@pytest.fixture
def user(moto: str, s3: S3Place) -> Iterator[Callable[..., Any]]:
    """Make a user who may do some things; from then on everything is asked for permission."""
    iam = boto3.client(
        "iam",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="tests",
        aws_secret_access_key=KEY,
    )

    def call(*actions: str) -> dict[str, str]:
        iam.create_user(UserName=s3.bucket)
        allowed = [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_user_policy(UserName=s3.bucket, PolicyName="some", PolicyDocument=policy)
        key = iam.create_access_key(UserName=s3.bucket)["AccessKey"]
        requests.post(f"{moto}/moto-api/reset-auth", data="0", timeout=20)
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_SESSION_TOKEN": "",
        }

    yield call
    requests.post(f"{moto}/moto-api/reset-auth", data="inf", timeout=20)


def test_check_tells_wrong_credentials_from_missing_permissions(
    s3: S3Place, user: Callable[..., Any]
) -> None:
    keys = user("s3:ListBucket", "s3:GetObject")
    words = r"403 \(AccessDenied Access Denied\); grant s3:ListBucket and .* s3:PutObject"
    with pytest.raises(DestinationError, match=words):
        s3.open(**keys).check()
    with pytest.raises(DestinationError, match=r"401 \(SignatureDoesNotMatch .*set AWS_ACCESS_KEY"):
        s3.open(**(keys | {"AWS_SECRET_ACCESS_KEY": KEY})).check()
    with pytest.raises(DestinationError, match=r"401 \(InvalidAccessKeyId .*are not accepted"):
        s3.open(**(keys | {"AWS_ACCESS_KEY_ID": "AKIANOBODY"})).check()


def test_check_is_content_with_the_permissions_that_publishing_needs(
    s3: S3Place, user: Callable[..., Any]
) -> None:
    needed = ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
    s3.open(**user(*needed)).check()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(400, "ExpiredToken"), "401 (ExpiredToken no); the credentials are not accepted"),
        (refusal(403, "AccessDenied"), "403 (AccessDenied no); grant s3:ListBucket"),
        (refusal(403, "QuotaExceeded"), "free space there, or check quota and billing"),
        (refusal(507, "XMinioStorageFull"), "free space there, or check quota and billing"),
        (refusal(413, "EntityTooLarge"), "free space there, or check quota and billing"),
        (refusal(404, "NoSuchBucket"), "check the bucket's name; aws s3 mb s3://bucket-"),
        (refusal(400, "InvalidRequest"), "check s3://bucket-"),
        (refusal(403, "Odd", f"you sent {KEY}\n" + "x" * 999), "you sent *** xx"),
        (Answer(403, b"<html>"), "403 (403 Forbidden); grant"),
        (
            Answer(200, b"{}"),
            "answered 500 (500 Internal Server Error); wait a while and run again",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals_say_what_to_do(answer: Answer, words: str, s3: S3Place, files: Files) -> None:
    s3.server.add(answer, "^PUT", times=ALWAYS)
    with pytest.raises(DestinationError) as caught:
        s3.open(attempts=1).add_version(CLASSIFIER, files)
    assert str(caught.value).startswith(f"there: sending {PATH}: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 700
    assert s3.objects() == {}


@pytest.mark.parametrize("content", [b"{}", b"<odd", b"<ListBucketResult><Contents/></x>"])
def test_odd_answers_are_an_error(content: bytes, s3: S3Place, files: Files) -> None:
    s3.server.add(Answer(200, content, {"Content-Type": "application/xml"}), "^(GET|HEAD)")
    with pytest.raises(
        DestinationError, match=r"listing objects: the service answered 5\d\d .*; wait a while"
    ):
        s3.open(attempts=1).manifests()
    s3.server.add(Answer(200), "^HEAD")
    with pytest.raises(DestinationError, match=r"502 \(an answer that is not understood\)"):
        s3.open(attempts=1).add_version(CLASSIFIER, files)


def test_no_secret_is_in_a_traceback(s3: S3Place, files: Files) -> None:
    s3.server.add(refusal(403, "SignatureDoesNotMatch"), "^PUT", times=ALWAYS)
    with pytest.raises(DestinationError) as caught:
        s3.open(attempts=1).add_version(CLASSIFIER, files)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_host_of_ones_own_has_one_name_for_all_buckets(s3: S3Place) -> None:
    s3.open(address=s3.server.address.replace("127.0.0.1", "localhost")).check()
    assert all(r.target.startswith(f"/{s3.bucket}") for r in s3.server.requests)


# Preconditions


def conditions(s3: S3Place) -> dict[str, str | None]:
    """Return the precondition of each request that makes an object, by name and method."""
    return {
        f"{r.method} {r.target.partition('?')[0].rpartition('/')[2]}": (
            r.headers.get("if-none-match") or r.headers.get("if-match")
        )
        for r in s3.server.requests
        if (r.method == "PUT" and "partNumber" not in r.target)
        or (r.method == "POST" and "uploads" not in r.target)
    }


def test_versions_are_made_only_where_nothing_is(s3: S3Place, files: Files) -> None:
    s3.open().add_version(CLASSIFIER, files)
    assert conditions(s3) == {
        "POST model.tar.gz": "*",
        "PUT manifest.json": "*",
        "PUT README.md": "*",
    }


@pytest.mark.parametrize(("part", "method"), [(8 << 20, "PUT"), (PART, "POST")])
def test_a_leftover_is_replaced_only_as_it_was_seen(
    part: int, method: str, s3: S3Place, files: Files
) -> None:
    s3.set(AT, b"left over")
    seen = s3.client.head_object(Bucket=s3.bucket, Key=AT)["ETag"]
    s3.open(part=part, patience=timedelta()).add_version(CLASSIFIER, files)
    assert conditions(s3)[f"{method} model.tar.gz"] == seen
    assert s3.shown() == in_release({CLASSIFIER: files})


@pytest.mark.parametrize("answer", [refusal(409, "ConditionalRequestConflict")])
def test_a_write_at_the_very_moment_is_looked_at_again(
    answer: Answer, s3: S3Place, files: Files
) -> None:
    s3.server.add(answer, "^PUT")
    files = files
    s3.open().add_version(CLASSIFIER, files)
    assert s3.shown() == in_release({CLASSIFIER: files})
    s3.server.add(answer, r"^PUT .*index", times=ALWAYS)
    with pytest.raises(ConflictError, match=r"index\.json: another publisher wrote this file"):
        s3.open().write("index.json", b"{}\n")


def test_a_service_without_conditions_for_parts_is_asked_before(s3: S3Place, files: Files) -> None:
    unknown = refusal(501, "NotImplemented")
    s3.server.add(unknown, r"^POST .*uploadId=")
    s3.open().add_version(CLASSIFIER, files)
    assert s3.shown() == in_release({CLASSIFIER: files})


def test_nothing_is_replaced_where_conditions_are_unknown(s3: S3Place, files: Files) -> None:
    def somebody(_: Any) -> Answer:
        s3.set(AT, b"theirs")
        return refusal(501, "NotImplemented")

    s3.server.add(somebody, r"^POST .*uploadId=")
    with pytest.raises(ConflictError, match="another publisher wrote this file meanwhile"):
        s3.open().add_version(CLASSIFIER, files)
    assert s3.objects() == {AT: b"theirs"}
    assert s3.uploads() == []


# Uploads in parts


def test_each_part_comes_with_its_digest(s3: S3Place, files: Files) -> None:
    large = contents(files)["model.tar.gz"]
    s3.open().add_version(CLASSIFIER, files)
    parts = [r for r in s3.server.requests if "partNumber=" in r.target]
    assert [len(part.body) for part in parts] == [PART, PART, len(large) - 2 * PART]
    assert all(part.headers["x-amz-checksum-sha256"] for part in parts)


def test_only_a_part_that_is_not_there_as_it_should_be_is_sent_again(
    s3: S3Place, files: Files, tmp_path: Path
) -> None:
    large = contents(files)["model.tar.gz"]
    s3.server.add("drop", PARTS, skip=2, times=ALWAYS)
    with pytest.raises(DestinationError):
        s3.open(attempts=1).add_version(CLASSIFIER, files)
    kept = Sessions(tmp_path / "kept", UnfinishedUpload).get(PATH)
    assert kept is not None
    upload = {"Bucket": s3.bucket, "Key": AT, "UploadId": kept.key}
    s3.client.upload_part(**upload, PartNumber=1, Body=large[:PART][::-1])
    s3.server.clear()
    s3.open().add_version(CLASSIFIER, files)
    sent = [r.target for r in s3.server.requests if "partNumber=" in r.target]
    assert [target.partition("partNumber=")[2][0] for target in sent] == ["1", "3"]
    assert s3.shown() == in_release({CLASSIFIER: files})


@pytest.mark.parametrize("stale", [True, False])
def test_only_uploads_of_long_ago_are_aborted(stale: bool, s3: S3Place, files: Files) -> None:
    here = s3.client.create_multipart_upload(Bucket=s3.bucket, Key=AT)["UploadId"]
    elsewhere = s3.client.create_multipart_upload(Bucket=s3.bucket, Key=f"{AT}.more")["UploadId"]
    destination = s3.open()
    # The server says of every upload that it began in 2010.
    destination.stale = timedelta(days=1 if stale else 100_000)
    destination.add_version(CLASSIFIER, files)
    assert sorted(s3.uploads()) == sorted([elsewhere] if stale else [here, elsewhere])


def test_uploads_that_may_not_be_listed_are_left(s3: S3Place, files: Files) -> None:
    s3.server.add(refusal(403, "AccessDenied"), r"^GET .*\?uploads", times=ALWAYS)
    destination = s3.open()
    destination.check()
    destination.add_version(CLASSIFIER, files)
    assert s3.shown() == in_release({CLASSIFIER: files})


def test_an_object_in_parts_is_told_by_its_parts(s3: S3Place, files: Files) -> None:
    large = contents(files)["model.tar.gz"]
    destination = s3.open()
    destination.add_version(CLASSIFIER, files)
    facts = s3.client.head_object(Bucket=s3.bucket, Key=AT, ChecksumMode="ENABLED")
    told = destination._stat(PATH)
    assert told is not None
    assert told.digest == facts["ChecksumSHA256"].partition("-")[0] != ""
    assert told.matches(destination._payload(large))
    assert not told.matches(destination._payload(large[:-1]))
