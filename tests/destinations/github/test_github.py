"""GitHub Releases: what holds there and nowhere else."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from publisher.destinations.base import ConflictError
from publisher.destinations.github.api import ADDRESS, Api
from publisher.destinations.github.destination import LARGEST_ASSET
from publisher.pages.github import LONGEST
from publisher.util.http import Retry
from tests.destinations.contract import GitHubPlace
from tests.destinations.servers.github import SIGNATURE, TOKEN, GitHubServer
from tests.destinations.versions import FOLDER, Files, contents
from tests.releases import CLASSIFIER

TAG = "small_classification-v1"

Open = Callable[..., Any]


def test_the_tag_lists_the_digests(github: GitHubPlace, files: Files) -> None:
    github.open().add_version(CLASSIFIER, files)
    message = github.server.objects[github.server.tags[TAG]]
    assert message.startswith(f"{CLASSIFIER}\n\n")
    digest = github.open().manifests()[CLASSIFIER].archive.sha256
    assert f"{digest}  model.tar.gz\n" in message


# Pages and small files


@pytest.mark.parametrize("page", [b"a\r\nb\n", b"no end", b"two ends\n\n", b"\xff\n", b"\n"])
def test_a_page_that_would_not_come_back_is_refused(
    page: bytes, github: GitHubPlace, files: Files
) -> None:
    def add() -> None:
        github.open().add_version(CLASSIFIER, files | {"README.md": page})

    if page == b"\n":  # an empty one would
        add()
        assert github.open().read(f"{FOLDER}/README.md") == page
    else:
        assert "with LF line ends and one at the end" in github.refused(add)
        assert github.server.calls == []


def test_a_page_may_be_as_long_as_github_takes(github: GitHubPlace, files: Files) -> None:
    page = b"x" * (LONGEST - 1) + b"\n"
    message = github.refused(
        lambda: github.open().add_version(CLASSIFIER, files | {"README.md": b"x" + page})
    )
    assert "its page has 125,001 characters; GitHub accepts 125,000" in message
    assert github.server.calls == []
    github.open().add_version(CLASSIFIER, files | {"README.md": page})
    assert github.open().read(f"{FOLDER}/README.md") == page


def test_line_ends_are_told_as_they_were_written(github: GitHubPlace, files: Files) -> None:
    """GitHub gives back CRLF at times."""
    github.server.line_end = "\r\n"
    github.open().add_version(CLASSIFIER, files)
    github.server.requests.clear()
    assert github.open().read(f"{FOLDER}/README.md") == files["README.md"]
    github.open().write(f"{FOLDER}/README.md", contents(files)["README.md"])
    assert github.server.writes == []


def test_an_archive_that_github_does_not_take_is_refused_before_anything_is_sent(
    github: GitHubPlace, files: Files
) -> None:
    large = github.folder / "build" / "large"
    large.touch()
    os.truncate(large, LARGEST_ASSET)
    message = github.refused(
        lambda: github.open().add_version(CLASSIFIER, files | {"model.tar.gz": large})
    )
    large.unlink()
    assert "model.tar.gz has 2,147,483,648 bytes, and GitHub's limit is" in message
    assert github.server.calls == []


# Interruptions


def test_a_change_whose_last_answer_is_lost_is_not_made_again(
    github: GitHubPlace, files: Files
) -> None:
    github.open().add_version(CLASSIFIER, files)
    better = contents(github.files(error=1e-6))["manifest.json"]
    github.server.clear()
    github.server.add("lose", "PATCH")
    github.open().write(f"{FOLDER}/manifest.json", better)
    assert [call.split()[0] for call in github.server.writes] == ["POST", "DELETE", "PATCH"]
    assert github.server.public == {TAG: contents(files) | {"manifest.json": better}}


def test_a_file_that_github_does_not_take_is_told(github: GitHubPlace, files: Files) -> None:
    github.server.add(413, "POST /uploads")
    message = github.refused(lambda: github.open().add_version(CLASSIFIER, files))
    assert "GitHub answered 413 (no); free space there, or check quota" in message


@pytest.mark.parametrize("spoiled", [True, False])
def test_what_did_not_arrive_whole_is_deleted_and_sent_again(
    spoiled: bool, github: GitHubPlace, files: Files
) -> None:
    github.server.add("spoil" if spoiled else "cut", "POST /uploads", times=3)
    github.refused(lambda: github.open().add_version(CLASSIFIER, files))
    (draft,) = github.server.drafts
    (asset,) = draft.assets
    assert (asset.name, asset.state) == ("model.tar.gz", "uploaded" if spoiled else "starter")
    github.server.clear()
    github.open().add_version(CLASSIFIER, files)
    assert github.server.public == {TAG: contents(files)}
    assert [asset.name for asset in draft.assets] == ["model.tar.gz", "manifest.json"]


def test_a_draft_of_other_is_left_alone_until_the_version_is_out(
    github: GitHubPlace,
    files: Files,
    other: Files,
) -> None:
    github.server.add(500, "POST /uploads", skip=1, times=100)
    github.refused(lambda: github.open().add_version(CLASSIFIER, other))
    github.server.clear()
    github.server.put(TAG, body="A person's draft.", draft=True)
    github.open().add_version(CLASSIFIER, files)
    assert github.server.public == {TAG: contents(files)}
    assert [draft.fields["body"] for draft in github.server.drafts] == ["A person's draft."]


def test_a_list_that_lags_behind_makes_no_second_release(github: GitHubPlace, files: Files) -> None:
    github.server.add("lose", "POST /api/repos/sayakpaul/models/releases")
    github.server.delay = 2
    github.open().add_version(CLASSIFIER, files)
    assert github.server.public == {TAG: contents(files)}
    assert github.server.drafts == []


# Two publishers


@pytest.mark.parametrize("message", [None, "v1 of something"])
def test_a_tag_that_somebody_made_is_not_taken(
    message: str | None,
    github: GitHubPlace,
    files: Files,
) -> None:
    sha = "d" * 40
    github.server.tags[TAG] = sha
    if message:
        github.server.objects[sha] = message
    text = github.refused(lambda: github.open().add_version(CLASSIFIER, files), ConflictError)
    assert f"the tag {TAG} exists for other files" in text
    assert "delete the tag and run again" in text
    assert github.server.writes == []


def test_a_draft_that_vanishes_is_told(github: GitHubPlace, files: Files) -> None:
    github.server.add(lambda _: github.server.releases.clear(), "GET", skip=4)
    text = github.refused(lambda: github.open().add_version(CLASSIFIER, files), ConflictError)
    assert "the release was deleted meanwhile" in text


# A server that lies


@pytest.mark.parametrize(
    ("kind", "call", "digests", "complaint"),
    [
        ("ignore", "POST /uploads", True, "does not hold model.tar.gz as it was sent"),
        ("spoil", "POST /uploads", True, "but GitHub holds"),
        ("ignore", "PATCH", True, "GitHub accepted the release but does not show it, 3 attempts"),
    ],
)
def test_success_that_is_none_is_noticed(
    kind: str,
    call: str,
    digests: bool,
    complaint: str,
    github: GitHubPlace,
    files: Files,
) -> None:
    github.server.add(kind, call, times=100)
    github.server.digests = digests
    assert complaint in github.refused(lambda: github.open().add_version(CLASSIFIER, files))
    assert github.server.public == {}
    assert github.open().manifests() == {}


def test_a_server_without_digests_is_held_to_sizes(github: GitHubPlace, files: Files) -> None:
    """And what is small is read."""
    github.server.digests = False
    github.run(files)
    assert github.server.public == {TAG: contents(files)}
    assert list(github.open().manifests()) == [CLASSIFIER]
    manifest = contents(files)["manifest.json"].replace(b'"numpy": "2.1.0"', b'"numpy": "2.1.1"')
    github.open().write(f"{FOLDER}/manifest.json", manifest)
    assert github.server.public == {TAG: contents(files) | {"manifest.json": manifest}}


def test_other_bytes_than_the_digest_says_are_not_believed(
    github: GitHubPlace, files: Files
) -> None:
    github.open().add_version(CLASSIFIER, files)
    github.server.add(200, "GET /storage", times=100, message="not a manifest")
    message = github.refused(github.open().manifests)
    assert "the bytes received are not those that GitHub lists, 3 attempts" in message


# What else is there


def test_other_releases_are_passed_over(github: GitHubPlace, files: Files) -> None:
    github.open().add_version(CLASSIFIER, files)
    manifest = contents(files)["manifest.json"]
    github.server.put("v1.0", body="A person's release.", model_tar_gz=b"x")
    github.server.put("plugin-v2", manifest_json=b'{"name": "a plugin"}')
    github.server.put("copy-v1", manifest_json=manifest)
    github.server.put("small_features-v1", draft=True, manifest_json=manifest)
    assert list(github.open().manifests()) == [CLASSIFIER]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda assets: setattr(assets[0], "state", "starter"), "the archive is missing"),
        (
            lambda assets: setattr(assets[0], "content", assets[0].content[::-1]),
            "the archive is not the one that its manifest states",
        ),
    ],
)
def test_a_damaged_version_is_named_with_the_way_out(
    damage: Callable[[list[Any]], object],
    complaint: str,
    github: GitHubPlace,
    files: Files,
) -> None:
    github.open().add_version(CLASSIFIER, files)
    (release,) = github.server.releases.values()
    damage(release.assets)
    message = github.refused(github.open().manifests)
    assert f"the release {TAG} is damaged: {complaint}; upload the file" in message


def test_many_releases_are_listed_page_by_page(
    github: GitHubPlace,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    github.open().add_version(CLASSIFIER, files)
    for number in range(3):
        github.server.put(f"v1.{number}")
    github.server.page = 2
    assert list(github.open().manifests()) == [CLASSIFIER]
    monkeypatch.setattr("publisher.destinations.github.releases.MOST_PAGES", 1)
    assert "more releases than GitHub lists" in github.refused(github.open().manifests)


def test_immutable_releases_are_published_and_only_their_page_changes(
    github: GitHubPlace, files: Files
) -> None:
    github.server.immutable = True
    github.open().add_version(CLASSIFIER, files)
    github.open().write(f"{FOLDER}/README.md", b"**Withdrawn.**\n")
    after = {TAG: contents(files) | {"README.md": b"**Withdrawn.**\n"}}
    assert github.server.public == after
    message = github.refused(lambda: github.open().write(f"{FOLDER}/manifest.json", b"{}\n"))
    assert "the release is immutable except for its page" in message
    assert github.server.public == after


@pytest.mark.parametrize("immutable", [False, True])
def test_it_says_whether_its_versions_are_sealed(
    immutable: bool, github: GitHubPlace, files: Files
) -> None:
    """Then publishing asks for no other manifest, and goes on with the page."""
    github.server.immutable = immutable
    there = github.open()
    assert not there.seals_versions
    there.add_version(CLASSIFIER, files)
    there.manifests()
    assert there.seals_versions == immutable


def test_rules_of_the_repository_are_told(github: GitHubPlace, files: Files) -> None:
    reason = "Cannot create ref due to creations being restricted."
    github.server.add(422, "POST /api/repos/sayakpaul/models/git/refs", message=reason)
    message = github.refused(lambda: github.open().add_version(CLASSIFIER, files))
    assert f"GitHub answered 422 ({reason}); check the repository's rules" in message
    assert github.server.public == {}


# May one write at all


def change(**fields: Any) -> Callable[[GitHubServer], None]:
    def apply(server: GitHubServer) -> None:
        for name, value in fields.items():
            setattr(server, name, value)

    return apply


@pytest.mark.parametrize(
    ("environment", "apply", "complaints"),
    [
        (
            {"GITHUB_TOKEN": ""},
            change(),
            ["no token", "set GITHUB_TOKEN or GH_TOKEN", "gh auth token", "Contents: write"],
        ),
        (
            {"GITHUB_TOKEN": "github_pat_wrong"},
            change(),
            ["answered 401 (Bad credentials)", "create a new one and set it"],
        ),
        ({}, change(may_write=False), ["the token may not (403 Resource not", "Contents: write"]),
        (
            {},
            change(may_write=False, scopes="gist, read:org"),
            ["its scopes are 'gist, read:org'", "a classic token: the scope repo"],
        ),
        ({}, change(push=False, scopes="repo"), ["the token's owner may not push there"]),
        ({}, change(repository={"archived": True}), ["it is archived; unarchive it"]),
        ({}, change(empty=True), ["has no commit", "push one first"]),
        ({}, lambda server: server.add(404, "GET"), ["404", "check that it exists"]),
        (
            {},
            lambda server: server.add(301, "GET", headers={"Location": "/repositories/1"}),
            ["was renamed: correct `to` in models.yaml"],
        ),
    ],
)
def test_who_may_not_write_is_told_before_any_work(
    environment: Any,
    apply: Callable[[GitHubServer], object],
    complaints: list[str],
    github: GitHubPlace,
) -> None:
    apply(github.server)
    message = github.refused(github.open(**environment).check)
    for complaint in complaints:
        assert complaint in message
    assert (github.server.releases, github.server.tags, github.server.objects) == ({}, {}, {})


def test_an_app_may_write_though_github_says_that_it_may_not(github: GitHubPlace) -> None:
    """The token of GitHub Actions is one of an app, and all its permissions are false."""
    github.server.push = False
    github.open().check()


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"Retry-After": "3600"}, "the rate limit is used up until"),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}, "until 2286-11-20"),
    ],
)
@pytest.mark.parametrize("status", [403, 429])
def test_a_rate_limit_that_lasts_is_told(
    status: int,
    headers: dict[str, str],
    complaint: str,
    github: GitHubPlace,
    pauses: list[float],
) -> None:
    github.server.add(status, headers=headers, times=100)
    message = github.refused(github.open().manifests)
    assert complaint in message
    assert message.endswith("UTC: run again then")
    assert pauses == []


def test_a_rate_limit_that_ends_soon_is_waited_for(
    github: GitHubPlace, pauses: list[float]
) -> None:
    soon = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 60)}
    github.server.add(403, headers=soon)
    assert github.open().manifests() == {}
    assert len(pauses) == 1
    assert 30 < pauses[0] <= 60


# Where the token goes


@pytest.mark.parametrize(
    ("base", "template", "good"),
    [
        (ADDRESS, "https://uploads.github.com/repos/a/b/releases/1/assets{?name,label}", True),
        (ADDRESS, "https://api.github.com/repos/a/b/releases/1/assets{?name,label}", True),
        (ADDRESS, "http://uploads.github.com/repos/a/b/releases/1/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com.example.org/assets{?name,label}", False),
        (ADDRESS, "https://github.com@example.org/assets{?name,label}", False),
        (ADDRESS, "https://user@uploads.github.com/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com:8443/assets{?name,label}", False),
        (ADDRESS, "https://127.0.0.1/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com/assets?token=1{?name,label}", False),
        (ADDRESS, "https://uploads.github.com/as sets", False),
        (ADDRESS, "https://[/assets", False),
        (ADDRESS, "", False),
        ("https://git.example.org/api/v3", "https://git.example.org/api/uploads/assets", True),
        ("https://git.example.org/api/v3", "https://uploads.github.com/assets", False),
        ("https://api.a.ghe.com", "https://uploads.a.ghe.com/assets", True),
        ("http://127.0.0.1:80/api", "http://127.0.0.1:81/uploads/assets", True),
        ("http://127.0.0.1:80/api", "https://uploads.github.com/assets", False),
    ],
)
def test_uploads_go_to_github_only(
    github: GitHubPlace, base: str, template: str, good: bool
) -> None:
    api = Api("there", {"GITHUB_API_URL": base, "GITHUB_TOKEN": TOKEN}, Retry())
    if good:
        assert api.upload_address(template) == template.partition("{")[0]
    else:
        message = github.refused(lambda: api.upload_address(template))
        assert "the upload address is not GitHub's own" in message


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("ftp://127.0.0.1/file", "is not secure"),
        (None, "leads through more than 3 redirects"),
    ],
)
def test_downloads_are_followed_with_care(
    location: str | None,
    complaint: str,
    github: GitHubPlace,
    files: Files,
) -> None:
    github.open().add_version(CLASSIFIER, files)
    there = location or f"{github.server.storage}/1?signature={SIGNATURE}"
    github.server.add(302, "GET /storage", headers={"Location": there}, times=100)
    assert complaint in github.refused(github.open().manifests)


def test_the_machines_own_passwords_are_not_sent(
    github: GitHubPlace,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client library would take one from ~/.netrc for a request that has none."""
    netrc = github.folder.parent / "netrc"
    netrc.write_text(
        "machine 127.0.0.1 login me password pa55\nmachine localhost login a password b"
    )
    monkeypatch.setenv("NETRC", str(netrc))
    github.open().add_version(CLASSIFIER, files)
    assert list(github.open().manifests()) == [CLASSIFIER]
    assert github.server.strangers == []


# The whole flow
