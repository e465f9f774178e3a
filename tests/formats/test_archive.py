import gzip
import hashlib
import io
import os
import shutil
import socket
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.formats import archive as package
from publisher.formats.archive import Archive, PackageError, members, pack
from tests.disks import disk_that_ends_at

LARGE = 3 * package.BLOCK + 12_345  # several blocks of the compressor, and a part of one


def content(seed: int, size: int) -> bytes:
    """Bytes that do not compress away."""
    return hashlib.shake_256(str(seed).encode()).digest(size)


CONTENTS = {
    "assets/class_names.txt": b"cat\ndog\n",
    "assets.extra/notes/about.txt": b"a",
    "fingerprint.pb": content(1, 90),
    "saved_model.pb": content(2, 5_000),
    "variables/variables.data-00000-of-00001": content(3, LARGE),
    "variables/variables.index": content(4, 700),
}


def write_files(directory: Path, names: list[str]) -> Path:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[name])
    return directory


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """A folder laid out as a SavedModel; what the files hold does not matter here."""
    return write_files(tmp_path / "saved_model", list(CONTENTS))


def read_as_a_stream(archive: Path) -> dict[str, bytes]:
    """Read as `tensorflow_hub` does: gzip, then tar, without ever going back."""
    found = {}
    with gzip.open(archive) as unzipped, tarfile.open(mode="r|*", fileobj=unzipped) as tar:
        for member in tar:
            if member.isdir():
                continue
            extracted = tar.extractfile(member)
            assert extracted is not None
            found[member.name] = extracted.read()
    return found


def test_the_archives_root_is_the_saved_models_root(saved_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tar.gz"
    pack(saved_model, target)
    assert read_as_a_stream(target) == CONTENTS


def test_a_stream_of_the_compressed_file_can_be_read_as_well(
    saved_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model.tar.gz"
    pack(saved_model, target)
    with target.open("rb") as file, tarfile.open(mode="r|*", fileobj=file) as tar:
        assert [member.name for member in tar if member.isreg()] == members(saved_model)


def test_returns_digest_and_sizes_of_what_it_wrote(saved_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tar.gz"
    archive = pack(saved_model, target)
    written = target.read_bytes()
    assert archive == Archive(
        size=len(written),
        sha256=hashlib.sha256(written).hexdigest(),
        unpacked_size=sum(map(len, CONTENTS.values())),
    )


def test_packs_a_real_saved_model(
    classifier: Path, classifier_archive: Path, feature_extractor_archive: Path
) -> None:
    assert set(read_as_a_stream(classifier_archive)) == {
        "assets/names.txt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    names = set(read_as_a_stream(classifier_archive))
    assert names - set(read_as_a_stream(feature_extractor_archive)) == {"assets/names.txt"}
    unpacked = read_as_a_stream(classifier_archive)
    assert unpacked["saved_model.pb"] == (classifier / "saved_model.pb").read_bytes()


def test_the_bytes_follow_from_names_and_contents_alone(saved_model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.gz", tmp_path / "elsewhere" / "second"
    archive = pack(saved_model, first)

    before = os.umask(0o077)
    try:
        other = write_files(tmp_path / "elsewhere" / "other", list(reversed(CONTENTS)))
        for number, path in enumerate(sorted(other.rglob("*"))):
            if path.is_file():
                path.chmod(0o755 if number % 2 else 0o400)
                if os.geteuid() == 0:
                    os.chown(path, 1000 + number, 2000)
            os.utime(path, (number, 1_000_000_000 + number))
        assert pack(other, second) == archive
    finally:
        os.umask(before)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("size", [0, package.BLOCK - 1, 2 * package.BLOCK, LARGE])
def test_the_bytes_do_not_follow_from_the_number_of_threads(
    size: int, saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the data is a part of a block, a whole number of them or neither."""
    (saved_model / "variables" / "variables.data-00000-of-00001").write_bytes(content(6, size))
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(package, "THREADS", threads)
        pack(saved_model, tmp_path / "model.tar.gz")
        found.append((tmp_path / "model.tar.gz").read_bytes())
    assert found[0] == found[1] == found[2]


def test_files_are_copied_in_whole_blocks(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream moves its buffer, of the size of a block, for each piece that it gets."""
    pieces: list[int] = []
    write = tarfile._Stream.write  # type: ignore[attr-defined]

    def watch(stream: object, data: bytes) -> None:
        pieces.append(len(data))
        write(stream, data)

    monkeypatch.setattr(tarfile._Stream, "write", watch)  # type: ignore[attr-defined]
    pack(saved_model, tmp_path / "model.tar.gz")
    assert pieces.count(package.BLOCK) == LARGE // package.BLOCK


def test_another_content_or_name_gives_another_archive(saved_model: Path, tmp_path: Path) -> None:
    digests = {pack(saved_model, tmp_path / "1").sha256}
    renamed = saved_model / "assets" / "names.txt"
    (saved_model / "assets" / "class_names.txt").rename(renamed)
    digests.add(pack(saved_model, tmp_path / "2").sha256)
    renamed.write_bytes(b"cat\ndoe\n")
    digests.add(pack(saved_model, tmp_path / "3").sha256)
    assert len(digests) == 3


def test_members_are_sorted_folders_and_files_of_nobody(saved_model: Path, tmp_path: Path) -> None:
    (saved_model / "assets" / "empty").mkdir()  # nobody needs it
    target = tmp_path / "model.tar.gz"
    pack(saved_model, target)
    with tarfile.open(target) as tar:
        found = tar.getmembers()
    assert [member.name for member in found] == [
        *("assets", "assets.extra", "assets.extra/notes", "variables"),
        *("assets/class_names.txt", "assets.extra/notes/about.txt"),
        *("fingerprint.pb", "saved_model.pb"),
        *("variables/variables.data-00000-of-00001", "variables/variables.index"),
    ]
    for member in found:
        assert member.type == (tarfile.REGTYPE if member.name in CONTENTS else tarfile.DIRTYPE)
        assert member.mode == (0o644 if member.name in CONTENTS else 0o755)
        assert member.mtime == 0
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert not member.pax_headers


def test_tensorflow_hub_unpacks_it(saved_model: Path, tmp_path: Path) -> None:
    """With the client's own code, which makes no folder that the archive does not name."""
    from tensorflow_hub import file_utils

    target = tmp_path / "model.tar.gz"
    pack(saved_model, target)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with target.open("rb") as file:
        file_utils.extract_tarfile_to_destination(file, str(unpacked))
    assert members(unpacked) == members(saved_model)
    assert all((unpacked / name).read_bytes() == CONTENTS[name] for name in CONTENTS)


def test_the_gzip_header_has_neither_name_nor_time(saved_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tar.gz"
    pack(saved_model, target)
    header = target.read_bytes()[:10]
    assert header[:3] == b"\x1f\x8b\x08"  # RFC 1952: magic, deflate
    assert header[3] == 0  # flags: no name, no comment, no extra field
    assert header[4:8] == b"\0\0\0\0"  # time


def add_file(name: str) -> Callable[[Path], None]:
    def add(directory: Path) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stray")

    return add


def add_link(directory: Path) -> None:
    (directory / "assets" / "link").symlink_to(directory / "saved_model.pb")


def add_dangling_link(directory: Path) -> None:
    (directory / "assets" / "link").symlink_to("nowhere")


def add_linked_folder(directory: Path) -> None:
    target = directory.parent / "linked"
    target.mkdir()
    (target / "inside.txt").write_text("from elsewhere")
    (directory / "assets" / "link").symlink_to(target, target_is_directory=True)


def replace_by_link(directory: Path) -> None:
    moved = directory.parent / "moved"
    (directory / "saved_model.pb").rename(moved)
    (directory / "saved_model.pb").symlink_to(moved)


def add_fifo(directory: Path) -> None:
    os.mkfifo(directory / "assets" / "fifo")


def add_socket(directory: Path) -> None:
    here = Path.cwd()
    os.chdir(directory / "assets")  # a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)


def add_device(directory: Path) -> None:
    try:
        os.mknod(directory / "assets" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (add_link, "assets/link", "neither a file nor a folder"),
        (add_dangling_link, "assets/link", "neither a file nor a folder"),
        (add_linked_folder, "assets/link", "neither a file nor a folder"),
        (replace_by_link, "saved_model.pb", "neither a file nor a folder"),
        (add_fifo, "assets/fifo", "neither a file nor a folder"),
        (add_socket, "assets/socket", "neither a file nor a folder"),
        (add_device, "assets/null", "neither a file nor a folder"),
        (add_file("._saved_model.pb"), "._saved_model.pb", "not part of a SavedModel"),
        (add_file(".DS_Store"), ".DS_Store", "not part of a SavedModel"),
        (add_file("README.md"), "README.md", "not part of a SavedModel"),
        (add_file("saved_model.pbtxt"), "saved_model.pbtxt", "not part of a SavedModel"),
        (add_file("keras_metadata.pb"), "keras_metadata.pb", "not part of a SavedModel"),
        (add_file("checkpoints/1"), "checkpoints", "not part of a SavedModel"),
        (add_file("variables/checkpoint"), "variables/checkpoint", "not part of a SavedModel"),
        (add_file("variables/variables.index.bak"), "index.bak", "not part of a SavedModel"),
        (add_file("variables/._variables.index"), "variables/._", "not part of a SavedModel"),
        (add_file("variables/old/variables.index"), "variables/old", "not part of a SavedModel"),
        (add_file("assets/._class_names.txt"), "assets/._class", "is not a valid name"),
        (add_file("assets/two words.txt"), "assets/two words.txt", "is not a valid name"),
        (add_file("assets/-r.txt"), "assets/-r.txt", "is not a valid name"),
        (add_file("assets/größe.txt"), "assets/größe.txt", "is not a valid name"),
        (add_file("assets/.hidden/names.txt"), "assets/.hidden", "is not a valid name"),
        (add_file(f"assets/{'n' * 94}"), "nnn", "up to 100 ASCII letters"),
    ],
)
def test_refuses_by_name_what_an_archive_must_not_have(
    spoil: Callable[[Path], None], name: str, reason: str, saved_model: Path, tmp_path: Path
) -> None:
    spoil(saved_model)
    target = tmp_path / "model.tar.gz"
    with pytest.raises(PackageError) as caught:
        pack(saved_model, target)
    message = str(caught.value)
    assert message.startswith(f"{saved_model}/")
    assert name in message
    assert reason in message
    assert "build again" in message
    assert not target.exists()


def test_takes_a_name_of_100_characters(saved_model: Path, tmp_path: Path) -> None:
    name = f"assets/{'n' * 93}"
    (saved_model / name).write_bytes(b"n")
    pack(saved_model, tmp_path / "model.tar.gz")
    assert read_as_a_stream(tmp_path / "model.tar.gz")[name] == b"n"


@pytest.mark.parametrize("there", [True, False])
def test_refuses_a_folder_that_is_no_saved_model(there: bool, tmp_path: Path) -> None:
    directory = tmp_path / "saved_model"
    if there:
        write_files(directory, ["variables/variables.index"])
    with pytest.raises(PackageError, match=r"contains no saved_model\.pb; build the variant again"):
        pack(directory, tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()


def test_refuses_a_file_that_ustar_cannot_hold(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert package.LARGEST_MEMBER == 8 * 1024**3 - 1
    monkeypatch.setattr(package, "LARGEST_MEMBER", LARGE)
    pack(saved_model, tmp_path / "fits")
    monkeypatch.setattr(package, "LARGEST_MEMBER", LARGE - 1)
    with pytest.raises(PackageError, match=rf"variables\.data.*: {LARGE:,} bytes; .* at most"):
        pack(saved_model, tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()


def test_the_limit_is_the_formats() -> None:
    member = tarfile.TarInfo("variables/variables.data-00000-of-00001")
    member.size = package.LARGEST_MEMBER
    header = member.tobuf(tarfile.USTAR_FORMAT)
    assert tarfile.TarInfo.frombuf(header, "ascii", "strict").size == package.LARGEST_MEMBER
    member.size += 1
    with pytest.raises(ValueError, match="overflow"):
        member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("size", [0, 5, package.BLOCK, LARGE])
def test_a_full_disk_leaves_nothing_behind(size: int, saved_model: Path, tmp_path: Path) -> None:
    """Wherever it strikes: in the header, midway, or in the last bytes."""
    target = tmp_path / "model.tar.gz"
    threads = threading.active_count()
    with (
        disk_that_ends_at(size),
        pytest.raises(PackageError, match=r"cannot be packed into .*: File too large; check"),
    ):
        pack(saved_model, target)
    assert not target.exists()
    assert threading.active_count() == threads  # the compressor's own thread has ended
    assert pack(saved_model, target).size == target.stat().st_size  # and it works again


def test_a_file_that_shrinks_meanwhile_leaves_nothing_behind(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the compressed stream ends it properly, so that half would pass for whole."""
    target = tmp_path / "model.tar.gz"
    data = saved_model / "variables" / "variables.data-00000-of-00001"
    add = tarfile.TarFile.addfile

    def shrink_and_add(
        tar: tarfile.TarFile, member: tarfile.TarInfo, file: io.BufferedReader | None = None
    ) -> None:
        if member.name.startswith("variables/variables.data"):
            os.truncate(data, LARGE // 2)
        add(tar, member, file)

    monkeypatch.setattr(tarfile.TarFile, "addfile", shrink_and_add)
    with pytest.raises(PackageError, match="unexpected end of data"):
        pack(saved_model, target)
    assert not target.exists()


def test_an_interruption_leaves_nothing_behind(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.tar.gz"

    def interrupt(tar: tarfile.TarFile, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "addfile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(saved_model, target)
    assert not target.exists()


def test_replaces_what_a_killed_run_has_left(saved_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.tar.gz"
    target.write_bytes(content(5, 2 * LARGE))
    archive = pack(saved_model, target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == archive.sha256


def test_does_not_change_the_folder(saved_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved_model, copy)
    pack(saved_model, tmp_path / "model.tar.gz")
    assert members(saved_model) == members(copy)
    assert all((saved_model / name).read_bytes() == CONTENTS[name] for name in CONTENTS)
