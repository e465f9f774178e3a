"""A release directory, signed: what is written, what is kept, and what is refused."""

import json
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from model_signing import verifying

from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.signature import read_signature
from publisher.registry import Registry
from publisher.signing.errors import SigningError
from publisher.signing.origin import Origin
from publisher.signing.provenance import read_provenance
from publisher.signing.sign import sign_release
from publisher.signing.signatures import key_signer
from publisher.util.files import sha256
from publisher.util.reporter import Silent
from tests.hub.releases import FIGURES
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    HANDLES,
    build,
    edited,
    faults,
    publish,
    registry_of,
    times,
    tree,
)
from tests.signing.conftest import SOURCE, Keys, sign, statuses

FOLDER = f"models/{CLASSIFIER}"
SIGNED_FILES = ("provenance.json", "bom.json", "model.sig")
COVERED = ("model.tar.gz", "manifest.json", "provenance.json", "bom.json")
LATER = Origin("b" * 40, None, True)


def flip(path: Path, at: int) -> None:
    """Change one bit. The build has links to the files of a release."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)


def digests(release: Path, folder: str, names: tuple[str, ...]) -> dict[str, str]:
    return {name: sha256((release / folder / name).read_bytes()) for name in names}


def require_signed(release: Path, keys: Keys) -> None:
    """See that all is signed with that key, and nothing else lies about."""
    for handle in HANDLES:
        content = (release / "models" / handle / "model.sig").read_bytes()
        assert keys.verifier.check(content).digests == digests(release, f"models/{handle}", COVERED)
    assert keys.verifier.check((release / "index.sig").read_bytes()).digests == digests(
        release, "", ("index.json", "SHA256SUMS")
    )
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],  # noqa: S607
        cwd=release,
        check=False,
    )
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (release / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(tree(release)) - {"SHA256SUMS", "index.sig"}


def test_each_version_and_the_index_are_signed(release: Path, keys: Keys) -> None:
    before = tree(release)
    done = sign(release, keys)
    assert list(done) == [*HANDLES, "index"]
    assert statuses(done) == {"signed"}
    require_signed(release, keys)
    after = tree(release)
    assert set(after) - set(before) == {
        "index.sig",
        *(f"models/{handle}/{name}" for handle in HANDLES for name in SIGNED_FILES),
    }
    assert [name for name in before if before[name] != after[name]] == ["SHA256SUMS"]


def test_everybody_may_read_what_is_written(release: Path, keys: Keys) -> None:
    sign(release, keys)
    for name in (*(f"{FOLDER}/{name}" for name in SIGNED_FILES), "index.sig", "SHA256SUMS"):
        assert (release / name).stat().st_mode & 0o777 == 0o644


def test_a_second_run_changes_nothing(release: Path, keys: Keys) -> None:
    sign(release, keys)
    before = tree(release), times(release)
    done = sign(release, keys, LATER)
    assert statuses(done) == {"unchanged"}
    files, moments = tree(release), times(release)
    # Whoever holds the directory clears it first, which touches the folder itself only.
    moments[str(release)] = before[1][str(release)]
    assert (files, moments) == before


def test_the_page_may_change_and_the_version_stays_signed(release: Path, keys: Keys) -> None:
    sign(release, keys)
    covered = read_signature((release / FOLDER / "model.sig").read_bytes()).digests
    assert set(covered) == set(COVERED)


def test_other_programs_prove_it_as_well(release: Path, keys: Keys) -> None:
    """OpenSSF's own library, used as its documentation says."""
    sign(release, keys)
    for folder, signature in ((release / FOLDER, "model.sig"), (release, "index.sig")):
        config = verifying.Config().use_elliptic_key_verifier(public_key=keys.public)
        config.set_ignore_unsigned_files(True).verify(folder, folder / signature)
    flip(release / FOLDER / "model.tar.gz", 3)
    config = verifying.Config().use_elliptic_key_verifier(public_key=keys.public)
    with pytest.raises(ValueError, match=r"Hash mismatch for 'model\.tar\.gz'"):
        config.set_ignore_unsigned_files(True).verify(
            release / FOLDER, release / FOLDER / "model.sig"
        )


def test_the_statement_names_the_source_of_the_run(release: Path, keys: Keys) -> None:
    sign(release, keys)
    claims = read_provenance((release / FOLDER / "provenance.json").read_bytes())
    assert claims.commit == SOURCE.commit
    assert claims.subjects == digests(release, FOLDER, ("model.tar.gz", "manifest.json"))


# What is there already


def test_a_statement_of_another_run_is_kept(release: Path, keys: Keys) -> None:
    """That run built the version, and this one knows no better."""
    sign(release, keys, LATER)
    for path in release.rglob("*.sig"):
        path.unlink()
    done = sign(release, keys)
    assert statuses(done) == {"signed"}
    claims = read_provenance((release / FOLDER / "provenance.json").read_bytes())
    assert claims.commit == LATER.commit
    require_signed(release, keys)


@pytest.mark.parametrize("name", SIGNED_FILES)
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[" * 100_000])
def test_what_is_missing_or_broken_is_made_anew(
    name: str, content: bytes | None, release: Path, keys: Keys
) -> None:
    sign(release, keys)
    path = release / FOLDER / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    done = sign(release, keys)
    assert {what for what, one in done.items() if one.status == "signed"} <= {CLASSIFIER, "index"}
    require_signed(release, keys)
    # The statement is the same as before, and its signature still good.
    assert (done[CLASSIFIER].status == "signed") == (name == "model.sig")


def test_a_statement_on_other_files_is_made_anew(release: Path, keys: Keys) -> None:
    sign(release, keys, LATER)
    other = release / "models" / EXTRACTOR / "provenance.json"
    shutil.copy(other, release / FOLDER / "provenance.json")
    assert sign(release, keys)[CLASSIFIER].status == "signed"
    claims = read_provenance((release / FOLDER / "provenance.json").read_bytes())
    assert claims.commit == SOURCE.commit
    require_signed(release, keys)


def test_other_facts_in_the_registry_make_another_bill_of_materials(
    release: Path, keys: Keys
) -> None:
    sign(release, keys)
    registry_file = release.parent / "models.yaml"
    text = registry_file.read_text()
    registry_file.write_text(text.replace("path: second.npz", "path: second.npz\n    license: mit"))
    done = sign(release, keys)
    assert [what for what, one in done.items() if one.status == "signed"] == [HANDLES[0], "index"]
    require_signed(release, keys)


def test_a_version_that_left_the_registry_keeps_its_bill_of_materials(
    release: Path, keys: Keys
) -> None:
    sign(release, keys)
    before = tree(release)
    registry = release.parent / "models.yaml"
    text = registry.read_text()
    second, variants = text.index("  second:"), text.index("variants:")
    other = text.index(f"  - handle: {HANDLES[0]}")
    registry.write_text(text[:second] + text[variants:other])
    assert statuses(sign(release, keys)) == {"unchanged"}
    assert tree(release) == before
    (release / "models" / HANDLES[0] / "bom.json").unlink()
    assert sign(release, keys)[HANDLES[0]].status == "signed"
    require_signed(release, keys)


def test_what_is_published_later_is_signed_and_the_rest_kept(tmp_path: Path, keys: Keys) -> None:
    registry = registry_of(tmp_path, edited(FIGURES))
    directory = Directory(tmp_path / "release")
    built = build(registry, tmp_path / "build")
    publish(registry, built[:2], directory)
    sign(tmp_path / "release", keys)
    before = tree(tmp_path / "release")
    publish(registry, built, directory)
    done = sign(tmp_path / "release", keys)
    assert [what for what, one in done.items() if one.status == "signed"] == [HANDLES[0], "index"]
    after = tree(tmp_path / "release")
    assert all(after[name] == before[name] for name in before if name.startswith("models/"))
    require_signed(tmp_path / "release", keys)


def test_a_manifest_that_changed_is_signed_anew(tmp_path: Path, keys: Keys) -> None:
    """As `publish` does when an alias is added."""
    registry = registry_of(tmp_path, edited(FIGURES))
    directory = Directory(tmp_path / "release")
    publish(registry, build(registry, tmp_path / "build"), directory)
    sign(tmp_path / "release", keys)
    alias = ("[sayakpaul/old_small]", "[sayakpaul/old_small, sayakpaul/older]")
    registry = registry_of(tmp_path, edited(FIGURES, alias))
    publish(registry, build(registry, tmp_path / "again"), directory)
    done = sign(tmp_path / "release", keys)
    assert [what for what, one in done.items() if one.status == "signed"] == [CLASSIFIER, "index"]
    require_signed(tmp_path / "release", keys)


# Somebody else's signatures


def test_what_somebody_else_signed_is_left_and_said(
    release: Path, keys: Keys, other_keys: Keys
) -> None:
    sign(release, other_keys, LATER)
    before = tree(release)
    done = sign(release, keys)
    assert statuses(done) == {"left"}
    assert done[CLASSIFIER].detail == f"signed by key SHA-256 {other_keys.verifier.key}"
    assert tree(release) == before


def test_again_signs_it_anew(release: Path, keys: Keys, other_keys: Keys) -> None:
    sign(release, other_keys, LATER)
    done = sign(release, keys, again=True)
    assert statuses(done) == {"signed"}
    assert done[CLASSIFIER].detail == f"instead of key SHA-256 {other_keys.verifier.key}"
    require_signed(release, keys)
    claims = read_provenance((release / FOLDER / "provenance.json").read_bytes())
    assert claims.commit == LATER.commit


def test_again_keeps_what_is_one_s_own(release: Path, keys: Keys) -> None:
    sign(release, keys)
    assert statuses(sign(release, keys, again=True)) == {"unchanged"}


@pytest.mark.parametrize("name", ["provenance.json", "bom.json"])
def test_what_changed_since_somebody_else_signed_it_is_refused(
    name: str, release: Path, keys: Keys, other_keys: Keys
) -> None:
    sign(release, other_keys)
    flip(release / FOLDER / name, 40)
    before = tree(release / "models")
    done = sign(release, keys)
    assert {what: one.status for what, one in done.items()} == {
        **dict.fromkeys(HANDLES, "left"),
        CLASSIFIER: "refused",
        "index": "signed",
    }
    assert f"changed since then ({name} has other bytes)" in done[CLASSIFIER].detail
    assert "--again" in done[CLASSIFIER].detail
    assert tree(release / "models") == before


def test_one_version_of_somebody_else_s_does_not_stop_the_others(
    release: Path, keys: Keys, other_keys: Keys
) -> None:
    sign(release, other_keys)
    for handle in HANDLES[1:]:
        (release / "models" / handle / "model.sig").unlink()
    done = sign(release, keys)
    assert {what: one.status for what, one in done.items()} == {
        HANDLES[0]: "left",
        CLASSIFIER: "signed",
        EXTRACTOR: "signed",
        "index": "signed",
    }
    assert done["index"].detail.startswith("instead of key SHA-256")


def test_a_broken_signature_of_one_s_own_is_replaced(release: Path, keys: Keys) -> None:
    sign(release, keys)
    value: Any = json.loads((release / FOLDER / "model.sig").read_bytes())
    value["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
    text = json.dumps(value, separators=(",", ":"))
    (release / FOLDER / "model.sig").write_text(text)
    assert sign(release, keys)[CLASSIFIER].status == "signed"
    require_signed(release, keys)


# What is not whole


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{FOLDER}/model.tar.gz", "does not have the digest that its manifest states"),
        (f"{FOLDER}/README.md", "differs from its entry in SHA256SUMS"),
        ("index.json", "differs from its entry in SHA256SUMS"),
        ("tfhub.dev/assets/docs/sayakpaul/sayakpaul.md", "differs from its entry in SHA256SUMS"),
    ],
)
def test_a_damaged_release_is_not_signed(name: str, said: str, release: Path, keys: Keys) -> None:
    flip(release / name, 40 if name != f"{FOLDER}/model.tar.gz" else 3)
    before = tree(release)
    with pytest.raises(SigningError, match=said) as caught:
        sign(release, keys)
    assert name in str(caught.value)
    assert "nothing was signed" in str(caught.value)
    assert tree(release) == before


def test_a_file_that_is_listed_and_missing_is_damage(release: Path, keys: Keys) -> None:
    (release / "tfhub.dev/assets/docs/sayakpaul/sayakpaul.md").unlink()
    with pytest.raises(SigningError, match=r"sayakpaul\.md: differs from its entry in SHA256SUMS"):
        sign(release, keys)


@pytest.mark.parametrize("name", ["index.json", "SHA256SUMS", "models"])
def test_without_these_it_is_no_release(name: str, release: Path, keys: Keys) -> None:
    path = release / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SigningError, match="contains no release; publish one there first"):
        sign(release, keys)


def test_a_link_in_the_place_of_a_signature_is_not_written_through(
    release: Path, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (release / FOLDER / "model.sig").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match="is a link"):
        sign(release, keys)
    assert (tmp_path / "elsewhere").read_text() == "mine"


# Interrupted


def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(
    unsigned: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file that is visible is whole, and nothing that was there before is lost."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the dead clean nothing up
    counted_in = Path(shutil.copytree(unsigned, tmp_path / "counted"))
    with faults() as counted:
        sign(counted_in / "release", keys)
    before = tree(unsigned / "release")
    assert counted.calls > 50
    for call in range(0, counted.calls, 3):
        project = Path(shutil.copytree(unsigned, tmp_path / str(call)))
        release = project / "release"
        with (
            suppress(KeyboardInterrupt, DestinationError),
            faults(call, KeyboardInterrupt(), killed=True) as fault,
        ):
            sign(release, keys)
        assert fault.struck
        visible = {
            name: content
            for name, content in tree(release).items()
            if not name.startswith(".publisher-")
        }
        for name, content in before.items():
            assert name == "SHA256SUMS" or visible[name] == content
        for name, content in visible.items():
            if name.endswith(".sig"):
                keys.verifier.check(content)
            elif name.endswith(("provenance.json", "bom.json")):
                json.loads(content)
        sign(release, keys)
        require_signed(release, keys)
        shutil.rmtree(project)


def test_a_full_disk_is_said_and_what_was_signed_stays(release: Path, keys: Keys) -> None:
    with faults(80), pytest.raises(DestinationError, match="No space left on device"):
        sign(release, keys)
    assert statuses(sign(release, keys)) <= {"signed", "unchanged"}
    require_signed(release, keys)


def test_what_is_read_is_told(release: Path, registry: Registry, keys: Keys) -> None:
    told = []

    class Watching(Silent):
        def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
            told.append((stage, subject))

    directory = Directory(release)
    with directory.locked():
        signer = key_signer(keys.private, {})
        sign_release(directory, registry, signer, SOURCE, reporter=Watching())
    assert told == [("sign", handle) for handle in HANDLES]
