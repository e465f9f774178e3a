"""What verify says of a signed release, and that no bit of it can be changed."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from publisher.signing.origin import Origin
from publisher.verify import signatures
from publisher.verify.targets import Target, target_of
from tests.builds import CLASSIFIER_A, EXTRACTOR_A, HANDLES, Finished, Project, project
from tests.documents.test_signature import IDENTITY, changed
from tests.hub.releases import served
from tests.signing.conftest import Keys, folder, keys, other_keys, sign, unsigned
from tests.verify.conftest import Verify, detail, edit_json, flip, statuses
from tests.verify.test_command import failures, refusal, store_of

__all__ = ["folder", "keys", "other_keys", "unsigned"]  # fixtures

FOLDER = f"models/{CLASSIFIER_A}"
ARCHIVE = f"{FOLDER}/model.tar.gz"
SMALL = ("manifest.json", "provenance.json", "bom.json", "model.sig")
COMMIT = "c0ffee" + "0" * 34
SOURCE = Origin(COMMIT, "https://git.example/bit", True)


@pytest.fixture(scope="session")
def signed(published: Project, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release, signed. Copy it to change it."""
    folder = tmp_path_factory.mktemp("signed")
    project(folder)
    release = Path(shutil.copytree(published.release, folder / "release"))
    sign(release, keys, SOURCE)
    return release


@pytest.fixture
def own(signed: Path, tmp_path: Path) -> Path:
    """A copy of it beside its registry, to be changed."""
    project(tmp_path)
    return Path(shutil.copytree(signed, tmp_path / "release"))


@pytest.fixture(scope="session")
def hub(signed: Path) -> Any:
    """The address of a server for it, without a slash."""
    with served(signed) as base:
        yield base


def proved(finished: Finished) -> set[str]:
    assert finished.status == 0, finished.stdout
    return {what for what, status in statuses(finished).items() if status == "proved"}


# What is good


def test_with_the_key_it_is_proved_who_signed(verify: Verify, own: Path, keys: Keys) -> None:
    finished = verify("--release", own, "--key", keys.public, "--json")
    assert {"signature", "provenance", "bom"} < proved(finished)
    key = keys.verifier.key
    assert detail(finished, "signature") == f"4 models and the index, by key SHA-256 {key}"
    assert "whether that signer is the publisher" in detail(finished, "origin")


def test_one_screen_is_still_enough(verify: Verify, own: Path, keys: Keys) -> None:
    shown = verify("--release", own, "--key", keys.public).stdout.splitlines()
    assert len(shown) <= 20
    assert max(map(len, shown)) <= 140
    assert shown[-1] == "8 proved, 4 not proved"


def test_without_a_key_it_is_said_how_to_give_one(verify: Verify, own: Path, keys: Keys) -> None:
    finished = verify("--release", own, "--json")
    assert "signature" not in proved(finished)
    said = detail(finished, "signature")
    assert said == (
        f"for these files, it says by key {keys.verifier.key[:12]}...; --key PUBLIC.pem proves it"
    )
    assert detail(finished, "origin") == "digests come from where the archives come from"


def test_the_statement_s_claims_stand_in_a_line(verify: Verify, own: Path) -> None:
    assert detail(verify("--release", own, "--json"), "provenance") == (
        "4 statements on these files, saying commit c0ffee000000 (changed) of"
        " https://git.example/bit, builder local"
    )


def test_statements_of_several_sources_are_counted(verify: Verify, own: Path, keys: Keys) -> None:
    (own / FOLDER / "provenance.json").unlink()
    sign(own, keys, Origin())
    said = detail(verify("--release", own, "--key", keys.public, "--json"), "provenance")
    assert said == (
        "4 statements on these files, saying an unknown commit, builder local; and 1 other"
    )


def test_the_bill_of_materials_is_counted(verify: Verify, own: Path) -> None:
    said = detail(verify("--release", own, "--json"), "bom")
    assert re.fullmatch(r"4 bills of materials of these archives, \d+ components", said)


def targets_of(signed: Path, hub: str) -> dict[str, tuple[str, ...]]:
    return {
        "archive": (str(signed / ARCHIVE),),
        "handle": (CLASSIFIER_A, "--release", str(signed)),
        "release at an address": ("--release", hub),
        "handle's address": (f"{hub}/{CLASSIFIER_A}",),
        "archive at an address": (f"{hub}/{ARCHIVE}",),
    }


@pytest.mark.parametrize(
    "what",
    ["archive", "handle", "release at an address", "handle's address", "archive at an address"],
)
def test_wherever_it_lies_its_signature_is_found(
    what: str, verify: Verify, signed: Path, hub: str, keys: Keys
) -> None:
    finished = verify(*targets_of(signed, hub)[what], "--key", keys.public, "--json", "--quiet")
    assert {"signature", "provenance", "bom"} < proved(finished)
    whole = what == "release at an address"
    begin = "4 models and the index, by" if whole else "1 model, by"
    assert detail(finished, "signature").startswith(begin)


# One bit


def positions(size: int) -> tuple[int, ...]:
    return (0, size // 3, size // 2, size - 9, size - 1)


def offsets() -> list[tuple[str, int]]:
    names = [*(f"{FOLDER}/{name}" for name in SMALL), ARCHIVE]
    names += ["index.json", "SHA256SUMS", "index.sig"]
    return [(name, which) for name in names for which in range(5)]


@pytest.mark.parametrize(("name", "which"), offsets())
def test_one_bit_of_anything_signed_is_seen(
    name: str, which: int, verify: Verify, own: Path, keys: Keys
) -> None:
    flip(own / name, positions((own / name).stat().st_size)[which])
    finished = verify("--release", own, "--key", keys.public, "--json")
    assert finished.status == 1
    if finished.stdout:  # and not a release that cannot be read at all
        assert statuses(finished)["signature"] == "failed"
        assert detail(finished, "signature")


@pytest.mark.parametrize("name", [*SMALL, "model.tar.gz"])
def test_one_bit_beside_a_single_archive_is_seen(
    name: str, verify: Verify, own: Path, keys: Keys
) -> None:
    path = own / FOLDER / name
    flip(path, path.stat().st_size // 2)
    assert verify(own / ARCHIVE, "--key", keys.public).status == 1


@pytest.mark.parametrize("name", [*SMALL, "model.tar.gz"])
def test_one_bit_that_a_server_changes_is_seen(
    name: str, verify: Verify, signed: Path, keys: Keys, httpserver: HTTPServer
) -> None:
    objects = store_of(signed, httpserver)
    content = objects[f"{FOLDER}/{name}"]
    assert isinstance(content, bytes)
    middle = len(content) // 2
    objects[f"{FOLDER}/{name}"] = (
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    arguments = (CLASSIFIER_A, "--release", httpserver.url_for("/"), "--key", keys.public)
    assert verify(*arguments, "--quiet").status == 1


@pytest.fixture
def small(folder: Path, keys: Keys) -> Target:
    """A release that is signed, whose archives are a few made-up bytes."""
    sign(folder / "release", keys)
    return target_of(None, str(folder / "release"), {}, folder)


def one_bit_each(content: bytes) -> Iterator[bytes]:
    """Yield the content with one bit changed, in each of its bytes."""
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        yield bytes(changed)


def test_any_bit_of_any_small_file_is_seen_with_the_key(small: Target, keys: Keys) -> None:
    """Whatever else would see it too."""
    handle, files = next(iter(small.files.items()))
    one = replace(small, archives={handle: small.archives[handle]}, catalogue=None)
    verifier = keys.verifier
    assert signatures.signature(one, verifier).status == "proved"
    assert set(files) == set(SMALL)
    for name, good in files.items():
        for content in one_bit_each(good):
            other = {handle: {**files, name: content}}
            found = signatures.signature(replace(one, files=other), verifier)
            assert found.status == "failed", (name, content)


def test_any_bit_of_what_the_index_is_signed_with_is_seen(small: Target, keys: Keys) -> None:
    catalogue, verifier = small.catalogue, keys.verifier
    assert catalogue is not None
    index = replace(small, archives={})
    assert signatures.signature(index, verifier).status == "proved"
    for name in ("index.json", "SHA256SUMS", "index.sig"):
        for content in one_bit_each(catalogue.files[name]):
            files = {**catalogue.files, name: content}
            other = replace(index, catalogue=replace(catalogue, files=files))
            found = signatures.signature(other, verifier)
            assert found.status == "failed", (name, content)


# What does not hold


def test_another_key_proves_nothing(
    verify: Verify, own: Path, other_keys: Keys, keys: Keys
) -> None:
    assert failures(verify, "--release", own, "--key", other_keys.public) == {"signature"}
    said = detail(verify("--release", own, "--key", other_keys.public, "--json"), "signature")
    assert f"{CLASSIFIER_A}: its signature was made with another key" in said
    assert keys.verifier.key in said


def test_who_names_a_key_is_told_of_all_that_is_unsigned(
    verify: Verify, release: Path, keys: Keys
) -> None:
    """Whoever could change a release could take its signatures away as well."""
    assert failures(verify, "--release", release, "--key", keys.public) == {"signature"}
    said = detail(verify("--release", release, "--key", keys.public, "--json"), "signature")
    assert all(f"{handle} is unsigned" in said for handle in HANDLES)
    assert "the index is unsigned" in said


def test_an_archive_alone_is_unsigned(
    verify: Verify, signed: Path, tmp_path: Path, keys: Keys
) -> None:
    alone = shutil.copy(signed / ARCHIVE, tmp_path / "downloaded.tar.gz")
    assert failures(verify, alone, "--key", keys.public) == {"signature"}
    assert detail(verify(alone, "--json"), "signature") == "unsigned: nobody vouches for it"


def test_what_is_unsigned_among_what_is_signed_is_named(
    verify: Verify, own: Path, keys: Keys
) -> None:
    (own / FOLDER / "model.sig").unlink()
    sums = (own / "SHA256SUMS").read_text().splitlines(keepends=True)
    kept = [line for line in sums if not line.endswith(f"{FOLDER}/model.sig\n")]
    (own / "SHA256SUMS").write_text("".join(kept))
    (own / "index.sig").unlink()
    finished = verify("--release", own, "--json")
    assert finished.status == 0
    assert detail(finished, "signature").endswith(f"; unsigned: {CLASSIFIER_A}, the index")
    assert failures(verify, "--release", own, "--key", keys.public) == {"signature"}


@pytest.mark.parametrize("name", ["manifest.json", "provenance.json", "bom.json", "model.tar.gz"])
def test_without_a_key_other_files_than_were_signed_are_seen(
    name: str, verify: Verify, own: Path
) -> None:
    other = own / "models" / EXTRACTOR_A / name
    shutil.copy(other, own / FOLDER / name)
    finished = verify(own / ARCHIVE, "--json")
    assert finished.status == 1
    if name != "manifest.json":
        assert statuses(finished)["signature"] == "failed"
        said = f"{CLASSIFIER_A}: {name} has other bytes, since it was signed"
        assert detail(finished, "signature") == said


@pytest.mark.parametrize("name", ["provenance.json", "bom.json"])
def test_a_file_that_was_signed_and_is_missing_is_named(
    name: str, verify: Verify, own: Path
) -> None:
    (own / FOLDER / name).unlink()
    assert failures(verify, own / ARCHIVE) == {"signature"}
    assert detail(verify(own / ARCHIVE, "--json"), "signature") == (
        f"{CLASSIFIER_A}: {name} is missing, since it was signed"
    )
    assert name in refusal(verify, "--release", own)


def test_a_signature_without_its_manifest_is_no_proof(
    verify: Verify, own: Path, keys: Keys
) -> None:
    (own / FOLDER / "manifest.json").unlink()
    assert failures(verify, own / ARCHIVE, "--key", keys.public) == {"signature", "provenance"}


def test_the_index_of_another_release_is_seen_without_a_key(verify: Verify, own: Path) -> None:
    edit_json(own / "index.json", lambda index: index["about"]["collection"].update(title="Other"))
    assert failures(verify, "--release", own) == {"SHA256SUMS", "signature"}
    said = detail(verify("--release", own, "--json"), "signature")
    assert said == "the index: index.json has other bytes, since it was signed"


def test_a_link_in_the_place_of_the_index_s_signature_is_seen(
    verify: Verify, own: Path, tmp_path: Path
) -> None:
    (own / "index.sig").rename(tmp_path / "elsewhere")
    (own / "index.sig").symlink_to(tmp_path / "elsewhere")
    assert failures(verify, "--release", own) == {"SHA256SUMS"}
    assert "index.sig is not listed" in detail(verify("--release", own, "--json"), "SHA256SUMS")


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"[" * 100_000, b"\xff"])
@pytest.mark.parametrize(
    ("name", "what"), [("model.sig", "signature"), ("provenance.json", "provenance")]
)
def test_what_is_something_else_is_seen_without_a_key(
    name: str, what: str, content: bytes, verify: Verify, own: Path
) -> None:
    (own / FOLDER / name).write_bytes(content)
    assert what in failures(verify, own / ARCHIVE)


def test_a_statement_on_other_files_is_seen_though_it_is_unsigned(
    verify: Verify, own: Path
) -> None:
    (own / FOLDER / "model.sig").unlink()
    for name in ("provenance.json", "bom.json"):
        shutil.copy(own / "models" / EXTRACTOR_A / name, own / FOLDER / name)
    assert failures(verify, own / ARCHIVE) == {"provenance", "bom"}
    finished = verify(own / ARCHIVE, "--json")
    assert (
        detail(finished, "provenance") == f"{CLASSIFIER_A}: provenance.json is that of other files"
    )
    assert detail(finished, "bom") == f"{CLASSIFIER_A}: bom.json is that of another archive"


def test_a_statement_cannot_put_anything_on_the_screen(verify: Verify, own: Path) -> None:
    def claim(statement: Any) -> None:
        statement["predicate"]["runDetails"]["builder"]["id"] = "\x1b[2Jproved"

    (own / FOLDER / "model.sig").unlink()
    edit_json(own / FOLDER / "provenance.json", claim)
    finished = verify(own / ARCHIVE)
    assert finished.status == 1
    assert "\x1b" not in finished.stdout + finished.stderr


def test_an_identity_is_not_a_key(verify: Verify, own: Path, keys: Keys) -> None:
    path = own / FOLDER / "model.sig"
    path.write_bytes(
        changed(path.read_bytes(), lambda value: value.update(verificationMaterial=IDENTITY))
    )
    finished = verify(own / ARCHIVE, "--json")
    assert finished.status == 0
    assert "--identity NAME --issuer ADDRESS proves whose" in detail(finished, "signature")
    assert failures(verify, own / ARCHIVE, "--key", keys.public) == {"signature"}


def test_a_target_of_which_nothing_small_is_known_is_unsigned(signed: Path, keys: Keys) -> None:
    bare = Target("it", {"model.tar.gz": signed / ARCHIVE}, {})
    assert signatures.signature(bare, keys.verifier).status == "failed"
    assert signatures.signature(bare, None).status == "open"


# Usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--identity", "a"], "--identity needs --issuer, which vouches for it; give both"),
        (["--issuer", "a"], "--identity needs --issuer, which vouches for it; give both"),
        (
            ["--key", "k", "--identity", "a", "--issuer", "b"],
            "--key and --identity are two ways to sign; give one",
        ),
    ],
)
def test_who_is_meant_has_to_be_said_once(
    arguments: list[str], said: str, verify: Verify, signed: Path
) -> None:
    finished = verify("--release", signed, *arguments)
    assert finished.status == 2
    assert said in finished.stderr


def test_a_key_that_is_none_is_said_before_anything_is_read(
    verify: Verify, tmp_path: Path, keys: Keys
) -> None:
    (tmp_path / "key.pem").write_text("key")
    said = refusal(verify, "--release", "http://nowhere.invalid/", "--key", tmp_path / "key.pem")
    assert "contains no public key in PEM format" in said
    said = refusal(verify, "--release", "http://nowhere.invalid/", "--key", keys.private)
    assert "contains a private key; give the public one" in said
