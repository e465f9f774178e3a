import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.local.directory import Directory, NamedDirectory
from publisher.destinations.open import open_destination
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.util.files import write_whole
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    edited,
    faults,
    manifest_of,
    registry_of,
    times,
    tree,
)

ARCHIVE = b"the bytes of an archive"
FOLDER = f"models/{CLASSIFIER}"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive in the build folder."""
    path = tmp_path / "build" / "model.tar.gz"
    write_whole(path, ARCHIVE)
    return path


@pytest.fixture
def manifest(registry: Registry) -> bytes:
    return manifest_of(registry, registry.variants[0], ARCHIVE).as_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "dist"


@pytest.fixture
def filled(root: Path, archive: Path, manifest: bytes) -> Directory:
    """A release that holds one version and an index."""
    directory = Directory(root)
    files: dict[str, Path | bytes] = {"manifest.json": manifest, "README.md": b"# Module\n"}
    files["model.tar.gz"] = archive
    directory.add_version(CLASSIFIER, files)
    directory.write("index.json", b"{}\n")
    return directory


def test_a_version_that_is_there_is_never_touched(filled: Directory, root: Path) -> None:
    before, when = tree(root), times(root)
    with pytest.raises(ConflictError, match="exists; a published version never changes"):
        filled.add_version(CLASSIFIER, {"model.tar.gz": b"other"})
    assert tree(root) == before
    assert times(root) == when


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("links", [True, False])
def test_everyone_may_read_whatever_the_umask(
    mask: int,
    links: bool,
    root: Path,
    tmp_path: Path,
    manifest: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    before = os.umask(mask)
    try:
        source = tmp_path / "archive"
        source.write_bytes(ARCHIVE)
        directory = Directory(root)
        with directory.locked():
            directory.add_version(
                CLASSIFIER, {"model.tar.gz": source, "manifest.json": manifest, "README.md": b""}
            )
            directory.write("tfhub.dev/assets/docs/sayakpaul/sayakpaul.md", b"")
    finally:
        os.umask(before)
    modes = {
        path.relative_to(root).as_posix(): oct(path.stat().st_mode & 0o7777)
        for path in (root, *root.rglob("*"))
    }
    folders = {name for name in modes if (root / name).is_dir()}
    assert {modes[name] for name in folders} == {"0o755"}
    assert {modes[name] for name in modes.keys() - folders} == {"0o644"}


def refuse_links(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_the_archive_is_linked_and_takes_no_second_place(filled: Directory, archive: Path) -> None:
    place = Path(filled.name) / FOLDER / "model.tar.gz"
    assert place.samefile(archive)


def test_the_archive_is_copied_to_another_file_system(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    Directory(root).add_version(CLASSIFIER, {"model.tar.gz": archive})
    place = root / FOLDER / "model.tar.gz"
    assert place.read_bytes() == ARCHIVE
    assert not place.samefile(archive)
    assert list(root.iterdir()) == [root / "models"]


def watch_the_disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that is told what is synced and what is renamed, by inode."""
    happened: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        happened.append(("synced", os.fstat(handle).st_ino))
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        happened.append(("renamed", source.stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return happened


@pytest.mark.parametrize("fails", ["nothing", "link", "chmod"])
def test_all_of_a_version_is_on_the_disk_before_it_has_its_name(
    fails: str, root: Path, archive: Path, manifest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build does not sync its archive: what is not published need not survive."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    directory = Directory(root)
    directory.write("index.json", b"{}\n")  # the root is there
    if fails == "link":
        monkeypatch.setattr(os, "link", fail)
    elif fails == "chmod":
        monkeypatch.setattr(Path, "chmod", fail_for_archives(fail))
    happened = watch_the_disk(monkeypatch)
    directory.add_version(CLASSIFIER, {"model.tar.gz": archive, "manifest.json": manifest})
    folder = root / FOLDER
    place = folder / "model.tar.gz"
    assert place.samefile(archive) == (fails == "nothing")
    assert place.read_bytes() == ARCHIVE
    named = happened.index(("renamed", folder.stat().st_ino))
    for path in (place, folder / "manifest.json", folder):
        assert happened.index(("synced", path.stat().st_ino)) < named, path
    # And its name is, too.
    assert ("synced", folder.parent.stat().st_ino) in happened[named:]


def fail_for_archives(fail: Callable[..., None]) -> Callable[..., None]:
    chmod = Path.chmod

    def chosen(path: Path, mode: int) -> None:
        return fail() if path.name.endswith(".gz") else chmod(path, mode)

    return chosen


def test_an_archive_of_someone_else_is_copied(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linked it could not be made readable for everyone."""
    archive.chmod(0o640)
    chmod = os.chmod

    def only_own(path: Path, mode: int, **options: bool) -> None:
        if os.fspath(path).endswith(".gz"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        chmod(path, mode, **options)

    monkeypatch.setattr(os, "chmod", only_own)
    Directory(root).add_version(CLASSIFIER, {"model.tar.gz": archive})
    place = root / FOLDER / "model.tar.gz"
    assert place.stat().st_mode & 0o777 == 0o644
    assert archive.stat().st_mode & 0o777 == 0o640


def test_the_release_holds_the_archive_where_the_build_holds_a_link(
    root: Path, archive: Path
) -> None:
    link = archive.with_name("link.tar.gz")
    link.symlink_to(archive)
    Directory(root).add_version(CLASSIFIER, {"model.tar.gz": link})
    place = root / FOLDER / "model.tar.gz"
    assert not place.is_symlink()
    assert place.read_bytes() == ARCHIVE


@pytest.mark.parametrize("links", [True, False])
def test_a_build_that_replaces_its_archive_leaves_the_published_one(
    links: bool, root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    Directory(root).add_version(CLASSIFIER, {"model.tar.gz": archive})
    write_whole(archive, b"another build")
    assert (root / FOLDER / "model.tar.gz").read_bytes() == ARCHIVE


def test_the_same_content_is_left_as_it_is(filled: Directory, root: Path) -> None:
    before = times(root)
    filled.write("index.json", b"{}\n")
    filled.write(f"{FOLDER}/README.md", b"# Module\n")
    assert times(root) == before


def test_a_file_is_replaced_and_not_its_bytes(filled: Directory, root: Path) -> None:
    """Whoever reads the old index goes on reading the old index."""
    with (root / "index.json").open("rb") as reader:
        filled.write("index.json", b"new")
        assert reader.read() == b"{}\n"
    assert filled.read("index.json") == b"new"


def test_what_is_no_version_is_passed_over(filled: Directory, root: Path) -> None:
    for name in (".DS_Store", "sayakpaul/.DS_Store", "sayakpaul/small_features/notes.txt"):
        path = root / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for name in (".git/a/b", "sayakpaul/.hidden/1", "sayakpaul/small_classification/.2"):
        (root / "models" / name).mkdir(parents=True)
    assert list(filled.manifests()) == [CLASSIFIER]


Damage = Callable[[Path, Registry], object]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda folder, _: [path.unlink() for path in folder.iterdir()],
            "it has no manifest.json",
        ),
        (
            lambda folder, registry: (folder / "manifest.json").write_bytes(
                manifest_of(registry, registry.variants[1], ARCHIVE).as_bytes()
            ),
            f"its manifest is that of {EXTRACTOR}",
        ),
    ],
)
def test_a_damaged_version_is_named_with_the_way_out(
    filled: Directory, root: Path, registry: Registry, damage: Damage, complaint: str
) -> None:
    damage(root / FOLDER, registry)
    with pytest.raises(DestinationError) as caught:
        filled.manifests()
    message = str(caught.value)
    assert message.startswith(f"{root / FOLDER}: damaged: {complaint}")
    assert message.endswith("; restore it from a copy, or remove this folder and publish again")


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("models", f"{FOLDER}/manifest.json"),
        ("models/sayakpaul", f"{FOLDER}/manifest.json"),
        ("models/sayakpaul/small_classification", f"{FOLDER}/manifest.json"),
        (FOLDER, f"{FOLDER}/manifest.json"),
        (f"{FOLDER}/manifest.json", f"{FOLDER}/manifest.json"),
        ("index.json", "index.json"),
    ],
)
def test_no_link_is_followed(place: str, path: str, filled: Directory, tmp_path: Path) -> None:
    """Not even one that someone put there on purpose: a reader elsewhere lacks its target."""
    root, outside = tmp_path / "dist", tmp_path / "outside"
    (root / place).rename(outside)
    (root / place).symlink_to(outside)
    before = tree(tmp_path)
    refused = rf"^{re.escape(str(root / place))}: is a link"
    with pytest.raises(DestinationError, match=refused):
        filled.read(path)
    with pytest.raises(DestinationError, match=refused):
        filled.write(path, b"escaped")
    if place != "index.json":
        with pytest.raises(DestinationError, match=refused):
            filled.manifests()
    if place in ("models", "models/sayakpaul"):
        with pytest.raises(DestinationError, match=refused):
            filled.add_version(EXTRACTOR, {"README.md": b"escaped"})
    assert tree(tmp_path) == before


def test_a_linked_archive_is_not_looked_at(filled: Directory, tmp_path: Path) -> None:
    place = tmp_path / "dist" / FOLDER / "model.tar.gz"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match=r"model\.tar\.gz: is a link"):
        filled.manifests()


def test_a_link_that_leads_nowhere_is_not_written_through(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (root / "models").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DestinationError, match="models: is a link"):
        Directory(root).add_version(CLASSIFIER, {"README.md": b""})
    assert not (tmp_path / "nowhere").exists()


def test_the_release_itself_may_be_reached_by_a_link(
    filled: Directory, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(root)
    directory = Directory(tmp_path / "link")
    assert list(directory.manifests()) == [CLASSIFIER]
    directory.write("index.json", b"new")
    assert (root / "index.json").read_bytes() == b"new"
    assert not (root / "index.json").is_symlink()


@pytest.mark.parametrize("kind", ["file", "link to a file", "link to nothing"])
def test_what_is_no_directory_cannot_be_a_release(kind: str, root: Path, tmp_path: Path) -> None:
    if kind == "file":
        root.write_bytes(b"mine")
    else:
        root.symlink_to(tmp_path / "target")
        if kind == "link to a file":
            (tmp_path / "target").write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(DestinationError, match=r"dist: is not a directory; choose another"):
        Directory(root)
    assert tree(tmp_path) == before


def test_a_file_on_the_way_to_the_release_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    directory = Directory(tmp_path / "file" / "dist")
    with pytest.raises(DestinationError, match="choose another release directory"):
        directory.locked().__enter__()


def test_a_release_that_cannot_be_written_is_told_before_any_work(
    filled: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(DestinationError, match=r"dist: cannot be written; check its permissions"):
        filled.locked().__enter__()


def test_a_file_that_cannot_be_read_is_told(
    filled: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for attempt in (filled.manifests, lambda: filled.read(f"{FOLDER}/manifest.json")):
        with pytest.raises(DestinationError, match=r"manifest\.json: Permission denied; check"):
            attempt()


@pytest.mark.parametrize("action", ["add_version", "write"])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    action: str, filled: Directory, root: Path, archive: Path, manifest: bytes
) -> None:
    """Wherever it strikes: no file is seen under its name before all are there."""
    files: dict[str, Path | bytes] = {"model.tar.gz": archive, "manifest.json": manifest}
    page = "tfhub.dev/assets/docs/a/a.md"
    before = tree(root)
    if action == "write":
        after = before | {page: b"new"}
    else:
        after = before | {
            "models/a/b/1/model.tar.gz": ARCHIVE,
            "models/a/b/1/manifest.json": manifest,
        }

    def message() -> str:
        try:
            if action == "write":
                filled.write(page, b"new")
            else:
                filled.add_version("a/b/1", files)
        except DestinationError as error:
            return str(error)
        return ""

    messages = []
    for number in range(100):
        with faults(number) as fault:
            messages.append(message())
        assert visible(root) in (before, after)
        if not fault.struck:
            break
        shutil.rmtree(root / "tfhub.dev", ignore_errors=True)
        shutil.rmtree(root / "models" / "a", ignore_errors=True)
    assert visible(root) == after
    told = [text for text in messages if text]
    assert len(told) > 5
    assert all("No space left on device; check free space and permissions" in text for text in told)


def visible(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(root).items() if not name.startswith(".")}


def test_what_a_killed_run_left_is_cleared(filled: Directory, root: Path, tmp_path: Path) -> None:
    before = tree(root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"mine")
    (root / ".publisher-a" / "1").mkdir(parents=True)
    (root / ".publisher-a" / "1" / "model.tar.gz").write_bytes(b"half")
    (root / ".publisher-a" / "link").symlink_to(tmp_path / "mine")
    (root / ".publisher-b").symlink_to(tmp_path / "mine")
    (root / ".publisher-c").write_bytes(b"")
    assert list(filled.manifests()) == [CLASSIFIER]
    with filled.locked():
        assert tree(root) == before
    assert (tmp_path / "mine" / "file").read_bytes() == b"mine"


def test_leftovers_that_cannot_be_cleared_are_told(filled: Directory, root: Path) -> None:
    (root / ".publisher-a").write_bytes(b"")
    with (
        faults(0, names=["unlink"]),
        pytest.raises(DestinationError, match="No space left on device; check free space"),
        filled.locked(),
    ):
        pass
    with filled.locked():
        assert not (root / ".publisher-a").exists()


def test_nothing_but_leftovers_is_cleared(filled: Directory, root: Path) -> None:
    (root / "models" / "sayakpaul" / ".publisher-mine").mkdir()
    (root / "notes.txt").write_bytes(b"")
    with filled.locked():
        pass
    when = times(root)
    with filled.locked():
        pass
    assert times(root) == when
    assert "notes.txt" in tree(root)


@pytest.mark.parametrize("name", ["dist", "link"])
def test_a_second_publisher_is_told_at_once(name: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with (
        Directory(root).locked(),
        pytest.raises(DestinationError, match=rf"{name}: another publisher is writing here; wait"),
        Directory(tmp_path / name).locked(),
    ):
        pass
    with Directory(tmp_path / name).locked():
        pass


def test_the_lock_lies_beside_the_release(filled: Directory, root: Path) -> None:
    before = tree(root)
    with filled.locked():
        assert tree(root) == before


def test_an_error_while_the_release_is_held_is_no_error_of_the_release(root: Path) -> None:
    directory = Directory(root)
    with pytest.raises(FileNotFoundError, match="weights"), directory.locked():
        raise FileNotFoundError(errno.ENOENT, "weights are gone")
    with pytest.raises(KeyboardInterrupt), directory.locked():
        raise KeyboardInterrupt
    with directory.locked():
        pass


# What can be said before any work


@pytest.mark.parametrize("there", ["nothing", "the release", "its lock too", "no folder above"])
def test_a_check_leaves_nothing_behind(there: str, tmp_path: Path) -> None:
    root = tmp_path / "a" / "b" / "dist" if there == "no folder above" else tmp_path / "dist"
    if there in ("the release", "its lock too"):
        root.mkdir()
    if there == "its lock too":
        with Directory(root).locked():
            pass
    before = times(tmp_path)
    Directory(root).check()
    assert times(tmp_path) == before


@pytest.mark.parametrize(
    ("there", "closed"),
    [("dist", "dist"), ("dist", "."), ("", "."), ("lock", ".dist.lock")],
)
def test_a_check_tells_what_cannot_be_written(
    there: str, closed: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        root.mkdir()
    if there == "lock":
        (tmp_path / ".dist.lock").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / closed)
    refusal = re.escape(f"{tmp_path / closed}: cannot be written; check its permissions")
    with pytest.raises(DestinationError, match=f"^{refusal}"):
        Directory(root).check()


def test_a_check_does_not_need_the_folder_above_once_there_is_a_lock(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Directory(root).locked():
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    Directory(root).check()


def test_a_check_finds_a_file_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(DestinationError, match=r"/file: (is not a directory|cannot be written)"):
        Directory(tmp_path / "file" / "dist").check()


# A directory that models.yaml names


@pytest.fixture
def named(root: Path, tmp_path: Path) -> NamedDirectory:
    return open_named(root, tmp_path)


def open_named(root: Path, tmp_path: Path) -> NamedDirectory:
    target = Target(kind="directory", to=str(root))
    return NamedDirectory("mirror", target, {}, tmp_path / "folder")


def test_models_yaml_names_it_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destinations = "destinations:\n  mirror:\n    kind: directory\n    to: ../mirror\nvariants:"
    registry = registry_of(tmp_path / "project", edited(("variants:", destinations)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    destination = open_destination(registry, "mirror", {}, tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    destination.write("index.json", b"{}\n")
    assert tree(tmp_path / "mirror") == {"index.json": b"{}\n"}
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("writes", ["add_version", "write"])
def test_it_is_held_from_the_first_write_on(
    writes: str, named: NamedDirectory, root: Path, tmp_path: Path
) -> None:
    def write(destination: NamedDirectory) -> None:
        if writes == "write":
            destination.write("index.json", b"{}\n")
        else:
            destination.add_version(CLASSIFIER, {"README.md": b""})

    other = open_named(root, tmp_path)
    for destination in (named, other):
        destination.check()
        assert destination.read("index.json") is None
    write(named)
    before = tree(root)
    # Reading needs no lock.
    other.read("index.json")
    with pytest.raises(DestinationError, match="another publisher is writing here; wait"):
        write(other)
    assert tree(root) == before
    named.write("SHA256SUMS", b"")


def test_it_is_let_go_with_its_object(root: Path, tmp_path: Path) -> None:
    first = open_named(root, tmp_path)
    first.write("index.json", b"{}\n")
    del first
    open_named(root, tmp_path).write("index.json", b"[]\n")
    assert tree(root) == {"index.json": b"[]\n"}


def test_it_clears_what_a_killed_run_left(named: NamedDirectory, root: Path) -> None:
    (root / ".publisher-a").mkdir(parents=True)
    named.write("index.json", b"{}\n")
    assert tree(root) == {"index.json": b"{}\n"}
    assert not (root / ".publisher-a").exists()
