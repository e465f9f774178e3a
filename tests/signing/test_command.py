"""`publisher sign` as people type it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from publisher.cli import signing as command_module
from publisher.signing.provenance import read_provenance
from publisher.signing.signatures import PASSWORD
from tests.builds import CLASSIFIER_A, HANDLES, Finished, publisher
from tests.commandline import Command, command, folder, good, published
from tests.releases import tree
from tests.signing.conftest import Keys, new_keys

__all__ = ["command", "folder", "published"]  # fixtures

SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv(PASSWORD, raising=False)


def test_it_says_what_was_signed_and_by_whom(
    published: Finished, command: Command, keys: Keys
) -> None:
    finished = good(command("sign", "--key", keys.private))
    header, *rows, _, last = finished.stdout.splitlines()
    assert header.split() == ["WHAT", "STATUS", "DETAIL"]
    assert [row.split() for row in rows] == [[what, "signed"] for what in (*HANDLES, "index")]
    assert last == f"dist: signed by key SHA-256 {keys.verifier.key}"
    assert f"sign     {CLASSIFIER_A}: done" in finished.stderr


def test_json_is_one_document(published: Finished, command: Command, keys: Keys) -> None:
    finished = good(command("sign", "--key", keys.private, "--json", "--quiet"))
    assert finished.stderr == ""
    assert finished.document == {
        "release": "dist",
        "by": f"key SHA-256 {keys.verifier.key}",
        "key": keys.verifier.key,
        "signed": [
            {"what": what, "status": "signed", "detail": ""} for what in (*HANDLES, "index")
        ],
    }
    again = good(command("sign", "--key", keys.private, "--json")).document
    assert {row["status"] for row in again["signed"]} == {"unchanged"}


def test_what_somebody_else_signed_is_left_and_no_failure(
    published: Finished, command: Command, keys: Keys, other_keys: Keys
) -> None:
    good(command("sign", "--key", other_keys.private))
    finished = good(command("sign", "--key", keys.private))
    assert f"left    signed by key SHA-256 {other_keys.verifier.key}" in finished.stdout
    finished = good(command("sign", "--key", keys.private, "--again"))
    assert f"signed  instead of key SHA-256 {other_keys.verifier.key}" in finished.stdout


def test_what_changed_since_is_a_failure(
    published: Finished, command: Command, folder: Path, keys: Keys, other_keys: Keys
) -> None:
    good(command("sign", "--key", other_keys.private))
    (folder / "dist" / "models" / CLASSIFIER_A / "bom.json").write_text("{}")
    finished = command("sign", "--key", keys.private)
    assert finished.status == 1
    assert re.search(rf"^{CLASSIFIER_A} +refused", finished.stdout, re.MULTILINE)
    (error,) = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert f"{CLASSIFIER_A}: signed by key" in error
    assert "bom.json has other bytes" in error
    assert "add --again" in error


@pytest.mark.parametrize("arguments", [[], ["--sigstore", "--key", "key.pem"]])
def test_who_signs_has_to_be_said_once(
    arguments: list[str], published: Finished, command: Command
) -> None:
    finished = command("sign", *arguments)
    assert finished.status == 2
    assert "say who signs: --key FILE or --sigstore" in finished.stderr


def test_a_release_that_is_not_there_is_wrong_usage(command: Command, keys: Keys) -> None:
    finished = command("sign", "--release", "nowhere", "--key", keys.private)
    assert finished.status == 2
    assert "--release nowhere: there is no such directory" in finished.stderr


def test_a_directory_without_a_release_is_said(command: Command, folder: Path, keys: Keys) -> None:
    (folder / "dist").mkdir()
    finished = command("sign", "--key", keys.private)
    assert finished.status == 1
    assert "contains no release; publish one there first" in finished.stderr


def test_two_cannot_write_at_once(
    published: Finished, command: Command, folder: Path, keys: Keys
) -> None:
    from publisher.destinations.local.directory import Directory

    with Directory(folder / "dist").locked():
        finished = command("sign", "--key", keys.private)
    assert finished.status == 1
    assert "another publisher is writing here" in finished.stderr


def test_an_identity_outside_ci_is_refused_and_nothing_is_signed(
    published: Finished, command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITLAB_CI", "BUILDKITE", "CIRCLECI"):
        monkeypatch.delenv(name, raising=False)
    finished = command("sign", "--sigstore")
    assert finished.status == 1
    assert "this run has none; in GitHub Actions, give the job" in finished.stderr
    assert not list((folder / "dist").rglob("*.sig"))


def test_a_run_of_github_actions_stands_in_the_statement(
    published: Finished,
    command: Command,
    folder: Path,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SHA", "c" * 40)
    good(command("sign", "--key", keys.private))
    content = (folder / "dist" / "models" / CLASSIFIER_A / "provenance.json").read_bytes()
    assert read_provenance(content).commit == "c" * 40
    assert str(folder).encode() not in content


def texts(folder: Path, *finished: Finished) -> Iterator[bytes]:
    """Yield all that was said, and all that was written."""
    for one in finished:
        yield (one.stdout + one.stderr).encode()
    yield from tree(folder).values()


def test_neither_key_nor_password_is_ever_said_or_written(
    published: Finished, command: Command, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also where it fails, and with a traceback."""
    keys = new_keys(tmp_path / "keys", password=SECRET.encode())
    runs = [command("sign", "--key", keys.private)]
    for password in ("wrong and secret", SECRET):
        monkeypatch.setenv(PASSWORD, password)
        runs.append(command("sign", "--key", keys.private, "--json"))
    assert [run.status for run in runs] == [1, 1, 0]
    runs.append(publisher(folder, "sign", "--key", keys.private, "--debug"))
    wrong = {PASSWORD: "wrong and secret"}
    runs.append(publisher(folder, "sign", "--key", keys.private, "--debug", **wrong))
    assert "Traceback" in runs[-1].stderr
    secrets = [SECRET, "wrong and secret", *keys.private.read_text().splitlines()[1:-1]]
    for text in texts(folder, *runs):
        for secret in secrets:
            assert secret.encode() not in text


def test_the_help_names_the_variable_of_the_password(command: Command) -> None:
    assert PASSWORD in " ".join(good(command("sign", "--help")).stdout.split())
    assert command_module.sign.name == "sign"
