"""`publisher verify` as people type it, against releases that were really built."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from tensorflow.core.protobuf import saved_model_pb2
from werkzeug import Request, Response

from publisher.documents.index import Manifest
from publisher.formats.archive import pack
from publisher.util.files import sha256, sha256_file
from publisher.verify import cross_check
from publisher.verify.findings import proved
from publisher.verify.targets import Target
from publisher.verify.verify import verify as verify_target
from tests.builds import CLASSIFIER_A, EXTRACTOR_A, ROOT, Project, publisher
from tests.releases import tree
from tests.validation.test_archive import member, special, write
from tests.verify.conftest import Verify, detail, edit_json, flip, statuses

FOLDER = f"models/{CLASSIFIER_A}"
ARCHIVE, MANIFEST = f"{FOLDER}/model.tar.gz", f"{FOLDER}/manifest.json"
OPEN = ("signature", "provenance", "rebuild", "cross-check", "predictions", "origin")
NEVER = dict.fromkeys(OPEN, "open")
ONE_ARCHIVE = {**dict.fromkeys(("digest", "archive", "operations"), "proved"), **NEVER}
WHOLE = {**dict.fromkeys(("index", "SHA256SUMS"), "proved"), **ONE_ARCHIVE}


def failures(verify: Verify, *arguments: str | Path) -> set[str]:
    """Return which statements do not hold; the same must be said in each way."""
    finished = verify(*arguments, "--json")
    assert finished.status == 1
    failed = {what for what, status in statuses(finished).items() if status == "failed"}
    shown = verify(*arguments)
    assert shown.status == 1
    assert shown.stderr == finished.stderr
    (error,) = shown.stderr.splitlines()
    assert error.startswith("error: ")
    assert "do not use it: download it again, or ask its publisher" in error
    for what in failed:
        assert what in error
        assert re.search(rf"^FAILED +{re.escape(what)} ", shown.stdout, re.MULTILINE)
    return failed


def refusal(verify: Verify, *arguments: str | Path) -> str:
    """Return the one line of what cannot be verified at all."""
    finished = verify(*arguments)
    assert finished.status == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# What is good


def test_one_screen_says_what_is_proved_and_what_is_not(verify: Verify, release: Path) -> None:
    finished = verify("--release", release)
    assert finished.status == 0
    assert finished.stderr == ""
    first, _, header, *table, _, last = finished.stdout.splitlines()
    assert first == str(release)
    assert header.split() == ["RESULT", "WHAT", "DETAIL"]
    results = [re.split(r" {2,}", line)[:2] for line in table]
    assert results == [
        *(["proved", what] for what in ("index", "SHA256SUMS", "digest", "archive", "operations")),
        *(["not proved", what] for what in OPEN),
    ]
    assert last == "5 proved, 6 not proved"
    assert max(map(len, finished.stdout.splitlines())) <= 140


def test_what_stays_unproved_is_said(verify: Verify, release: Path) -> None:
    finished = verify("--release", release, "--json")
    assert "synthetic" in detail(finished, "predictions")
    assert "predictions mean nothing" in detail(finished, "predictions")
    assert "nothing is signed" in detail(finished, "origin")
    assert detail(finished, "signature") == "unsigned: nobody vouches for it"
    assert detail(finished, "provenance") == "nothing says how it was made: no provenance.json"
    assert "--rebuild" in detail(finished, "rebuild")
    assert "--cross-check" in detail(finished, "cross-check")


def test_json_is_one_document(verify: Verify, release: Path) -> None:
    finished = verify("--release", release, "--json")
    assert finished.status == 0
    assert finished.document["target"] == str(release)
    assert statuses(finished) == WHOLE
    assert set(finished.document) == {"target", "findings"}
    assert finished.stderr == ""


def test_an_archive_beside_its_manifest(verify: Verify, release: Path) -> None:
    assert statuses(verify(release / ARCHIVE, "--json")) == ONE_ARCHIVE


def test_an_archive_alone_shows_the_digest_to_compare(
    verify: Verify, release: Path, tmp_path: Path
) -> None:
    alone = shutil.copy(release / ARCHIVE, tmp_path / "downloaded.tar.gz")
    finished = verify(alone, "--json")
    assert finished.status == 0
    assert statuses(finished) == {**ONE_ARCHIVE, "digest": "open"}
    assert "no manifest.json lies beside it" in detail(finished, "digest")
    assert f"SHA-256 {sha256_file(alone)}" in detail(finished, "digest")


def test_a_handle_in_a_release(verify: Verify, release: Path) -> None:
    finished = verify(EXTRACTOR_A, "--release", release, "--json")
    assert finished.document["target"] == f"{EXTRACTOR_A} in {release}"
    assert statuses(finished) == ONE_ARCHIVE


def test_a_handle_is_looked_for_in_dist_unless_told_otherwise(
    verify: Verify, release: Path
) -> None:
    release.rename(release.with_name("dist"))
    assert verify(EXTRACTOR_A).stdout.startswith(f"{EXTRACTOR_A} in dist\n")


def test_a_handle_s_address_on_a_hub(verify: Verify, hub: str) -> None:
    finished = verify(f"{hub}/{CLASSIFIER_A}", "--json")
    assert finished.status == 0
    assert statuses(finished) == ONE_ARCHIVE
    assert f"download {CLASSIFIER_A}: done" in finished.stderr
    assert verify(f"{hub}/{CLASSIFIER_A}", "--quiet").stderr == ""


def test_a_release_at_an_address(verify: Verify, hub: str, published: Project) -> None:
    finished = verify("--release", hub, "--json")
    assert finished.status == 0
    assert statuses(finished) == {**WHOLE, "other files": "open"}
    documents = sum(name.startswith("tfhub.dev/") for name in tree(published.release))
    assert detail(finished, "other files") == f"{documents} files of the release not downloaded"


# Each way to fail


@pytest.mark.parametrize("name", [ARCHIVE, f"models/{EXTRACTOR_A}/model.tar.gz"])
def test_one_bit_of_an_archive(name: str, verify: Verify, release: Path) -> None:
    flip(release / name, (release / name).stat().st_size // 2)
    assert failures(verify, "--release", release) == {"SHA256SUMS", "digest", "archive"}


def test_one_bit_of_an_archive_alone_is_damage(
    verify: Verify, release: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(release / ARCHIVE, tmp_path / "downloaded.tar.gz"))
    flip(alone, alone.stat().st_size // 2)
    assert failures(verify, alone) == {"archive"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (MANIFEST, b'"parameters": '),
        ("index.json", b'"description": "'),
        (f"{FOLDER}/README.md", b"small_a"),
        ("SHA256SUMS", b"  index.json"),
    ],
)
def test_one_bit_of_any_other_file(name: str, text: bytes, verify: Verify, release: Path) -> None:
    flip(release / name, (release / name).read_bytes().index(text) + len(text))
    assert failures(verify, "--release", release) == {"SHA256SUMS"}


def test_one_bit_of_a_digest_contradicts_the_index(verify: Verify, release: Path) -> None:
    content = (release / MANIFEST).read_bytes()
    digest = content.rindex(b'"sha256": "') + len(b'"sha256": "')
    # Of a figure another one becomes, and of some letters no digit at all.
    flip(release / MANIFEST, next(at for at in range(digest, digest + 64) if content[at] < 0x3A))
    said = refusal(verify, "--release", release)
    assert f"{MANIFEST}: its archive is not the one in index.json" in said


@pytest.mark.parametrize("name", ["index.json", "SHA256SUMS", ARCHIVE, MANIFEST])
def test_a_file_without_which_it_is_no_release(name: str, verify: Verify, release: Path) -> None:
    (release / name).unlink()
    assert Path(name).name in refusal(verify, "--release", release)


def test_a_page_that_is_missing(verify: Verify, release: Path) -> None:
    (release / "tfhub.dev/assets/docs/sayakpaul/sayakpaul.md").unlink()
    assert failures(verify, "--release", release) == {"SHA256SUMS"}


def test_a_file_that_is_not_listed(verify: Verify, release: Path) -> None:
    (release / "models" / "more.tar.gz").write_text("more")
    assert failures(verify, "--release", release) == {"SHA256SUMS"}
    assert "models/more.tar.gz is not listed" in detail(
        verify("--release", release, "--json"), "SHA256SUMS"
    )


def test_a_link_in_the_place_of_an_archive(verify: Verify, release: Path, tmp_path: Path) -> None:
    (release / ARCHIVE).rename(tmp_path / "elsewhere")
    (release / ARCHIVE).symlink_to(tmp_path / "elsewhere")
    assert "is a link, and a release holds files and folders only" in refusal(
        verify, "--release", release
    )


def test_a_link_that_nothing_lists(verify: Verify, release: Path) -> None:
    (release / "more").symlink_to("/etc")
    assert failures(verify, "--release", release) == {"SHA256SUMS"}


def test_an_archive_of_another_size_than_the_index_states(verify: Verify, release: Path) -> None:
    with (release / ARCHIVE).open("ab") as file:
        file.write(b"more")
    assert "where the index states" in refusal(verify, "--release", release)


def test_an_archive_beside_another_manifest(verify: Verify, release: Path) -> None:
    shutil.copy(release / "models" / EXTRACTOR_A / "model.tar.gz", release / ARCHIVE)
    assert failures(verify, release / ARCHIVE) == {"digest"}


@pytest.mark.parametrize(
    "extra",
    [
        member("../escaped", b"x"),
        member("code.py", b"x"),
        special("assets", tarfile.SYMTYPE, "/etc"),
        special("fingerprint.pb", tarfile.LNKTYPE, "saved_model.pb"),
    ],
    ids=lambda extra: extra[0].name,
)
def test_a_hostile_member_and_then_nothing_is_looked_into(
    extra: tuple[tarfile.TarInfo, bytes | None], verify: Verify, tmp_path: Path
) -> None:
    path = write(tmp_path / "hostile.tar.gz", extra)
    assert failures(verify, path) == {"archive"}
    finished = verify(path, "--json")
    assert statuses(finished)["operations"] == "open"
    assert "is not safe" in detail(finished, "operations")
    assert not (tmp_path.parent / "escaped").exists()


def test_a_graph_with_a_forbidden_operation(
    verify: Verify, classifier: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(classifier, tmp_path / "saved_model"))
    message = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    message.meta_graphs[0].graph_def.node.add(name="added", op="ReadFile")
    (directory / "saved_model.pb").write_bytes(message.SerializeToString())
    pack(directory, tmp_path / "model.tar.gz")
    assert failures(verify, tmp_path / "model.tar.gz") == {"operations"}
    finished = verify(tmp_path / "model.tar.gz", "--json")
    assert "ReadFile in the main graph" in detail(finished, "operations")


def test_a_manifest_that_admits_a_failed_check(verify: Verify, release: Path) -> None:
    edit_json(release / MANIFEST, lambda manifest: manifest["validation"].update(passed=False))
    assert failures(verify, release / ARCHIVE) == {"predictions"}


def store_of(release: Path, server: HTTPServer) -> dict[str, Response | bytes]:
    """Let a server answer with a release's files and return them, to be changed."""
    objects: dict[str, Response | bytes] = dict(tree(release))

    def answer(request: Request) -> Response:
        found = objects.get(request.path.lstrip("/"))
        if found is None:
            return Response("nothing", 404)
        # HEAD is answered too, as if nothing were wrong.
        return Response(found) if isinstance(found, bytes) else found

    server.expect_request(re.compile(".*")).respond_with_handler(answer)
    return objects


def test_a_download_that_breaks_off(
    verify: Verify, published: Project, httpserver: HTTPServer
) -> None:
    objects = store_of(published.release, httpserver)
    whole = (published.release / ARCHIVE).read_bytes()
    broken = Response(whole[: len(whole) // 2])
    broken.headers["Content-Length"] = str(len(whole))
    objects[ARCHIVE] = broken
    said = refusal(verify, CLASSIFIER_A, "--release", httpserver.url_for("/"), "--quiet")
    assert f"{ARCHIVE}: cannot be read: the connection " in said


def test_a_server_that_sends_more_than_stated(
    verify: Verify, published: Project, httpserver: HTTPServer
) -> None:
    store_of(published.release, httpserver)
    more = (published.release / ARCHIVE).read_bytes() + b"more"
    httpserver.expect_oneshot_request(
        f"/{CLASSIFIER_A}", query_string="tf-hub-format=compressed"
    ).respond_with_data(more)
    size = len(more) - 4
    said = refusal(verify, httpserver.url_for(f"/{CLASSIFIER_A}"), "--quiet")
    assert f"has more than the {size:,} bytes that are expected" in said


def test_a_server_that_sends_other_bytes_of_the_same_size(
    verify: Verify, published: Project, httpserver: HTTPServer
) -> None:
    objects = store_of(published.release, httpserver)
    content = bytearray((published.release / ARCHIVE).read_bytes())
    content[-6] ^= 1
    objects[ARCHIVE] = bytes(content)
    finished = verify("--release", httpserver.url_for("/"), "--json", "--quiet")
    assert finished.status == 1
    failed = {what for what, status in statuses(finished).items() if status == "failed"}
    assert failed == {"SHA256SUMS", "digest", "archive"}


def test_an_unknown_handle_brings_near_ones(verify: Verify, release: Path) -> None:
    said = refusal(verify, "sayakpaul/smal_a_clasification/1", "--release", release)
    assert f"near ones: {CLASSIFIER_A}" in said


def test_nothing_by_that_name(verify: Verify) -> None:
    assert "there is no such file, and it is no handle" in refusal(verify, "nowhere")


def test_a_host_that_does_not_answer(verify: Verify, silent_host: str) -> None:
    for where in (
        [f"{silent_host}/{CLASSIFIER_A}"],
        [f"{silent_host}/a.tar.gz"],
        ["--release", silent_host],
    ):
        assert "refused" in refusal(verify, *where, "--quiet")


# Usage


def test_weights_without_a_rebuild_are_wrong_usage(verify: Verify, release: Path) -> None:
    finished = verify("--release", release, "--weights", "synthetic")
    assert finished.status == 2
    assert "--weights belongs to --rebuild; give both" in finished.stderr


@pytest.mark.parametrize("arguments", [["a", "b"], ["a", "--rebiuld"]])
def test_wrong_usage_ends_with_2(verify: Verify, arguments: list[str]) -> None:
    finished = verify(*arguments)
    assert finished.status == 2
    assert finished.stdout == ""


def test_a_rebuild_without_a_registry_says_so_before_it_begins(
    verify: Verify, release: Path
) -> None:
    finished = verify("--release", release, "--rebuild", "--registry", "other.yaml")
    assert finished.status == 2
    assert finished.stderr.startswith("error: other.yaml: there is no such file; ")
    assert finished.stdout == ""


def test_without_the_extra_a_cross_check_says_how_to_install_it(
    verify: Verify, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_check.importlib.util, "find_spec", lambda name: None)
    said = refusal(verify, "--release", release, "--cross-check")
    assert said == (
        "error: --cross-check needs JAX, which is not installed; run"
        " `.venv/bin/pip install --editable '.[jax]'`"
    )


# What is said beyond


def small_target(release: Path, change: Callable[[dict[str, Any]], Any]) -> Target:
    edit_json(release / MANIFEST, change)
    manifest = Manifest.model_validate_json((release / MANIFEST).read_bytes())
    return Target("it", {CLASSIFIER_A: release / ARCHIVE}, {CLASSIFIER_A: manifest})


def test_real_weights_have_the_publisher_s_word_for_what_they_predict(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.verify.archives.run_alone", lambda task, *rest: task(*rest))
    target = small_target(release, lambda manifest: manifest.update(synthetic=False))
    found = {finding.what: finding for finding in verify_target(target)}
    passed = sum(
        check.status == "passed" for check in target.manifests[CLASSIFIER_A].validation.checks
    )
    assert found["predictions"].status == "open"
    assert f"the publisher states {passed} passed checks" in found["predictions"].detail


def test_neither_is_computed_with_what_is_not_safe(tmp_path: Path) -> None:
    path = write(tmp_path / "model.tar.gz", member("code.py", b"x"))

    def never(target: Target) -> Any:
        raise AssertionError("it was looked into")

    found = verify_target(
        Target("it", {"model.tar.gz": path}, {}), lambda _: proved("rebuild", ""), never
    )
    assert {finding.what: finding.status for finding in found} == {
        "archive": "failed",
        **dict.fromkeys(("digest", "operations", *OPEN), "open"),
        "rebuild": "proved",
    }


# In processes of their own, with nothing in the way


def test_an_archive_is_really_made_again(published: Project, tmp_path: Path) -> None:
    weights = published.build / "weights" / "synthetic"
    before = tree(published.folder)
    arguments = ("verify", EXTRACTOR_A, "--rebuild", "--weights", weights, "--json")
    finished = publisher(published.folder, *arguments, TMPDIR=str(tmp_path))
    assert finished.status == 0, finished.stderr
    assert statuses(finished) == {**ONE_ARCHIVE, "rebuild": "proved"}
    assert "byte for byte the same" in detail(finished, "rebuild")
    assert f"convert  {EXTRACTOR_A}: done" in finished.stderr
    assert list(tmp_path.iterdir()) == []
    assert tree(published.folder) == before


def test_what_was_made_from_synthetic_weights_is_made_again_from_such(
    published: Project, tmp_path: Path
) -> None:
    arguments = ("verify", EXTRACTOR_A, "--rebuild", "--json", "--quiet")
    finished = publisher(published.folder, *arguments, TMPDIR=str(tmp_path))
    assert finished.status == 0, finished.stderr
    assert finished.stderr == ""
    assert "made again from synthetic weights" in detail(finished, "rebuild")


def test_the_command_itself_never_imports_tensorflow(published: Project) -> None:
    code = (
        "import sys\nfrom publisher.cli.main import main\n"
        "if __name__ == '__main__':\n"
        "    try:\n        main(sys.argv[1:])\n    except SystemExit as stop:\n"
        "        print(stop.code, 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", EXTRACTOR_A],
        cwd=published.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr


def test_sha256sum_and_the_command_agree(verify: Verify, release: Path) -> None:
    """What the list states of an archive is what is shown for it."""
    lines = (release / "SHA256SUMS").read_text().splitlines()
    (stated,) = [line.split()[0] for line in lines if line.endswith(f"  {ARCHIVE}")]
    assert sha256((release / ARCHIVE).read_bytes()) == stated
    assert stated in detail(verify(release / ARCHIVE, "--json"), "digest")
