import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable
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
    assert check.summary == "cannot be read as a compressed tar: no gzip stream"
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


def flipped(content: bytes, at: int) -> bytes:
    """The same bytes but for one bit."""
    spoiled = bytearray(content)
    spoiled[at] ^= 1
    return bytes(spoiled)


def of_tar(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change what is compressed."""
    return lambda content: gzip.compress(change(gzip.decompress(content)), 1)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda content: content[:-1], "the gzip stream breaks off"),
        (lambda content: content[:-8], "the gzip stream breaks off"),
        (lambda content: content[:5], "the gzip stream breaks off"),
        (lambda content: flipped(content, 2), "no gzip stream"),
        (lambda content: flipped(content, len(content) // 2), "a damaged one"),
        (lambda content: flipped(content, -7), "a damaged one"),
        (lambda content: flipped(content, -2), "a damaged one"),
        (lambda content: content + b"x", "bytes after the end of the gzip stream"),
        (lambda content: content + bytes(512), "bytes after the end of the gzip stream"),
        (lambda content: content + content, "bytes after the end of the gzip stream"),
        (lambda content: content + gzip.compress(b""), "bytes after the end of the gzip stream"),
        (gzip.decompress, "no gzip stream"),
        (lambda content: bz2.compress(gzip.decompress(content)), "no gzip stream"),
        (lambda content: lzma.compress(gzip.decompress(content), preset=0), "no gzip stream"),
        (of_tar(lambda tar: tar + b"x"), "bytes after the end of the tar"),
        (of_tar(lambda tar: tar + tar), "bytes after the end of the tar"),
        (of_tar(lambda tar: tar + bytes(3 << 20) + b"x"), "bytes after the end of the tar"),
        (of_tar(lambda tar: tar[:100_000]), "unexpected end of data"),
        (of_tar(lambda tar: b""), "empty file"),
    ],
)
def test_refuses_what_is_not_whole_or_not_all_of_it(
    spoil: Callable[[bytes], bytes], problem: str, path: Path
) -> None:
    """`tarfile` itself stops at the end of the tar, and looks at no checksum."""
    large = member("variables/variables.data-00001-of-00002", bytes(range(256)) * 10_000)
    path.write_bytes(spoil(write(path, large).read_bytes()))
    check = archive_is_a_plain_saved_model(path)
    assert check.status == "failed"
    assert check.summary.startswith("cannot be read as a compressed tar: ")
    assert problem in check.summary


def extended(name: str, **more: str) -> tarfile.TarInfo:
    """A folder whose header has pax records before it."""
    information, _ = member(name, None)
    information.pax_headers = more
    return information


@pytest.mark.parametrize(
    "extension",
    [
        extended("assets", comment="x"),
        extended("assets", **{"GNU.sparse.realsize": "1000000000000"}),
        extended("assets", size="9" * 30),
        extended("assets", path="assets.extra"),
    ],
    ids=["comment", "sparse", "size", "path"],
)
def test_refuses_headers_that_say_more_than_ours(extension: tarfile.TarInfo, path: Path) -> None:
    check = archive_is_a_plain_saved_model(write(path, (extension, None)))
    assert check.status == "failed"
    assert "a header is not plain USTAR" in check.summary


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["assets/" + "x" * 300, "assets"])
def test_refuses_other_formats(format_: int, name: str, path: Path) -> None:
    with tarfile.open(path, "w:gz", format=format_) as tar:
        tar.addfile(member(name, None)[0])
    check = archive_is_a_plain_saved_model(path)
    assert check.status == "failed"
    plain = format_ == tarfile.PAX_FORMAT and name == "assets"
    assert ("is missing" if plain else "a header is not plain USTAR") in check.summary


def test_refuses_a_size_that_is_no_octal_number(path: Path) -> None:
    # GNU tar writes a size of 8 GiB and more in binary.
    def change(tar: bytes) -> bytes:
        return tar[:124] + b"\x80" + bytes(3) + b"\xff" * 8 + tar[136:]

    path.write_bytes(of_tar(change)(write(path).read_bytes()))
    assert "the size in a header is not octal" in archive_is_a_plain_saved_model(path).summary


def test_refuses_what_unpacks_to_far_more_than_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.validation.archive.ALWAYS_ALLOWED", 1 << 20)
    write(path, member("variables/variables.data-00001-of-00002", bytes(8 << 20)))
    assert "unpacks to far more" in archive_is_a_plain_saved_model(path).summary


def test_zeros_after_the_end_of_the_tar_are_its_padding(path: Path) -> None:
    """Archivers fill the last record; how long records are is theirs to choose."""
    path.write_bytes(of_tar(lambda tar: tar + bytes(1 << 16))(write(path).read_bytes()))
    assert archive_is_a_plain_saved_model(path).status == "passed"


def test_reads_the_archive_in_pieces(path: Path) -> None:
    """However much it holds: a member of 64 MB comes from a file of some KB."""
    write(path, member("variables/variables.data-00001-of-00002", bytes(64 << 20)))
    tracemalloc.start()
    check = archive_is_a_plain_saved_model(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert check.status == "passed", check.summary
    assert peak < 16 << 20


def test_unpacks_nothing(path: Path, tmp_path: Path) -> None:
    write(path, member("../escaped", b"x"))
    archive_is_a_plain_saved_model(path)
    assert list(tmp_path.iterdir()) == [path]
    assert not (tmp_path.parent / "escaped").exists()
