import io
import tarfile
from pathlib import Path

import pytest

from publisher.validation.archive import archive_is_a_plain_saved_model

GOOD = {
    "variables": None,
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"data",
}


def member(name: str, content: bytes | None) -> tuple[tarfile.TarInfo, bytes | None]:
    """A file, or a folder if there is no content."""
    information = tarfile.TarInfo(name)
    information.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    information.size = len(content or b"")
    return information, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, None]:
    information = tarfile.TarInfo(name)
    information.type, information.linkname = kind, target
    return information, None


def write(
    path: Path, *more: tuple[tarfile.TarInfo, bytes | None], mode: str = "w:gz", without: str = ""
) -> Path:
    """Write the members of a good archive and then `more`."""
    members = [member(name, content) for name, content in GOOD.items() if name != without]
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for information, content in (*members, *more):
            tar.addfile(information, None if content is None else io.BytesIO(content))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tar.gz"


def test_a_packed_saved_model_passes_with_its_facts(classifier_archive: Path) -> None:
    check = archive_is_a_plain_saved_model(classifier_archive)
    assert check.status == "passed", check.summary
    assert check.figures["bytes"] == classifier_archive.stat().st_size
    assert check.figures["findings"] == 0


def test_members_and_bytes_are_counted(path: Path) -> None:
    check = archive_is_a_plain_saved_model(write(path))
    assert check.status == "passed", check.summary
    assert check.figures == {
        "members": 4,
        "bytes": path.stat().st_size,
        "unpacked_bytes": len(b"graph" + b"index" + b"data"),
        "findings": 0,
    }


def test_assets_in_folders_are_part_of_a_saved_model(path: Path) -> None:
    names = [("assets", None), ("assets/names.txt", b"x"), ("assets.extra", None)]
    names += [("assets.extra/more", None), ("assets.extra/more/notes.txt", b"x")]
    check = archive_is_a_plain_saved_model(write(path, *(member(*name) for name in names)))
    assert check.status == "passed", check.summary


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (special("assets", tarfile.SYMTYPE, "/etc"), "is neither a file nor a folder"),
        (
            special("fingerprint.pb", tarfile.SYMTYPE, "saved_model.pb"),
            "is neither a file nor a folder",
        ),
        (
            special("fingerprint.pb", tarfile.LNKTYPE, "saved_model.pb"),
            "is neither a file nor a folder",
        ),
        (special("fingerprint.pb", tarfile.FIFOTYPE), "is neither a file nor a folder"),
        (special("fingerprint.pb", tarfile.CHRTYPE), "is neither a file nor a folder"),
        (member("/saved_model.pb", b"x"), "is not part of a SavedModel"),
        (member("../saved_model.pb", b"x"), "is not part of a SavedModel"),
        (member("variables/../saved_model.pb", b"x"), "is not part of a SavedModel"),
        (member("variables/../../escaped", b"x"), "is not part of a SavedModel"),
        (member("./saved_model.pb", b"x"), "is not part of a SavedModel"),
        (member(".", None), "is not part of a SavedModel"),
        (member("._saved_model.pb", b"x"), "is not part of a SavedModel"),
        (member("variables/._variables.index", b"x"), "is not part of a SavedModel"),
        (member("variables/checkpoint", b"x"), "is not part of a SavedModel"),
        (member("keras_metadata.pb", b"x"), "is not part of a SavedModel"),
        (member("README.md", b"x"), "is not part of a SavedModel"),
        (member("code", None), "is not part of a SavedModel"),
        (member("saved_model.pb\n", b"x"), "is not part of a SavedModel"),
        (member("saved_model.pb", None), "is not part of a SavedModel"),
        (member("saved_model.pb", b"other"), "is there twice"),
        (member("variables", None), "is there twice"),
        (member("assets/names.txt", b"x"), "has no folder before it"),
        (member("assets.extra/more", None), "has no folder before it"),
    ],
)
def test_refuses_what_is_no_plain_member(
    extra: tuple[tarfile.TarInfo, bytes | None], problem: str, path: Path
) -> None:
    check = archive_is_a_plain_saved_model(write(path, extra))
    assert check.status == "failed"
    assert f"{extra[0].name.rstrip('/')!r} {problem}" in check.summary
    assert "\n" not in check.summary
    assert check.figures["findings"] == 1


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_refuses_an_archive_without_a_needed_member(name: str, path: Path) -> None:
    check = archive_is_a_plain_saved_model(write(path, without=name))
    assert check.status == "failed"
    assert check.summary == f"'{name}' is missing"


def test_names_the_first_findings_and_counts_the_rest(path: Path) -> None:
    strays = [member(f"stray{index}", b"x") for index in range(7)]
    check = archive_is_a_plain_saved_model(write(path, *strays))
    assert "'stray4'" in check.summary
    assert "'stray5'" not in check.summary
    assert check.summary.endswith("and 2 more")
    assert check.figures["findings"] == 7


def test_refuses_what_is_no_tar(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")
    check = archive_is_a_plain_saved_model(path)
    assert check.status == "failed"
    assert check.summary.startswith("cannot be read as a compressed tar")
    assert "\n" not in check.summary


def test_refuses_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    assert archive_is_a_plain_saved_model(path).status == "failed"


def test_refuses_an_archive_that_is_not_there(path: Path) -> None:
    check = archive_is_a_plain_saved_model(path)
    assert check.status == "failed"
    assert "No such file" in check.summary


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_refuses_a_truncated_archive(part: float, classifier_archive: Path, path: Path) -> None:
    content = classifier_archive.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    check = archive_is_a_plain_saved_model(path)
    assert check.status == "failed"
    assert check.summary.startswith("cannot be read as a compressed tar")


def test_unpacks_nothing(path: Path, tmp_path: Path) -> None:
    write(path, member("../escaped", b"x"))
    archive_is_a_plain_saved_model(path)
    assert list(tmp_path.iterdir()) == [path]
    assert not (tmp_path.parent / "escaped").exists()
