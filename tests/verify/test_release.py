"""The list of digests: whatever is changed in a release, it tells."""

import shutil
from pathlib import Path

import pytest

from publisher.release.catalogue import Catalogue, load
from publisher.release.errors import ReleaseError
from publisher.release.sources.directory import DirectorySource
from publisher.verify import release as release_room
from publisher.verify.findings import Finding
from publisher.verify.targets import target_of
from tests.hub.releases import publish_into, served
from tests.releases import CLASSIFIER, tree
from tests.verify.conftest import flip

PAGE = "tfhub.dev/assets/docs/sayakpaul/sayakpaul.md"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    return publish_into(folder / "release", folder / "work")


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "release"))


def judge(root: Path) -> Finding:
    """Compare a release with its list, and return the one finding."""
    target = target_of(None, str(root), {}, root)
    assert target.catalogue is not None
    (found,) = release_room.sums(target.catalogue, target.digests, target.root)
    return found


def test_a_whole_release_is_as_it_lists_it(whole: Path) -> None:
    count = len(tree(whole)) - 1
    assert judge(whole) == Finding("proved", "SHA256SUMS", f"{count} files as it lists them")


def test_the_index_says_what_reading_it_has_shown(whole: Path) -> None:
    found = release_room.index(load(DirectorySource(whole)))
    assert found.status == "proved"
    assert found.detail.startswith("3 manifests agree with index.json")


@pytest.mark.parametrize("name", [PAGE, f"models/{CLASSIFIER}/README.md"])
def test_one_bit_of_a_page_is_seen(name: str, own: Path) -> None:
    flip(own / name, 40)
    assert judge(own) == Finding("failed", "SHA256SUMS", f"{name} has other bytes")


def test_one_bit_of_an_archive_is_seen(own: Path) -> None:
    name = f"models/{CLASSIFIER}/model.tar.gz"
    flip(own / name, -1)
    assert judge(own).detail == f"{name} has other bytes"


def test_one_bit_of_a_text_that_nothing_else_depends_on_is_seen(own: Path) -> None:
    """The index still agrees with the manifests."""
    path = own / "index.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Classifiers and", b"Classifiers ane"))
    assert judge(own).detail == "index.json has other bytes"


def test_any_one_bit_of_the_list_itself_is_seen(whole: Path) -> None:
    """Also one that makes a line break another character that some take for one."""
    target = target_of(None, str(whole), {}, whole)
    catalogue = target.catalogue
    assert catalogue is not None
    good = catalogue.files["SHA256SUMS"]
    for position in range(len(good)):
        content = bytearray(good)
        content[position] ^= 1 << position % 8
        files = {**catalogue.files, "SHA256SUMS": bytes(content)}
        changed = Catalogue(
            catalogue.index, catalogue.models, files, catalogue.newest, catalogue.aliases
        )
        (found,) = release_room.sums(changed, target.digests, whole)
        assert found.status == "failed", (position, bytes(content[position - 9 : position + 9]))


def test_a_file_that_is_missing_is_named(own: Path) -> None:
    (own / PAGE).unlink()
    assert judge(own) == Finding("failed", "SHA256SUMS", f"{PAGE} is missing")


@pytest.mark.parametrize("name", ["more.txt", ".hidden", "models/x/y/1/model.tar.gz"])
def test_a_file_that_is_not_listed_is_named(name: str, own: Path) -> None:
    (own / name).parent.mkdir(parents=True, exist_ok=True)
    (own / name).write_text("more")
    assert judge(own) == Finding("failed", "SHA256SUMS", f"{name} is not listed")


@pytest.mark.parametrize(
    "name", ["index.json", f"models/{CLASSIFIER}/model.tar.gz", f"models/{CLASSIFIER}/README.md"]
)
def test_a_file_of_the_release_has_to_be_listed(name: str, own: Path) -> None:
    lines = (own / "SHA256SUMS").read_text().splitlines(keepends=True)
    (own / "SHA256SUMS").write_text(
        "".join(line for line in lines if not line.endswith(f"  {name}\n"))
    )
    assert judge(own) == Finding("failed", "SHA256SUMS", f"{name} is not listed")


def test_a_link_in_the_place_of_a_file_is_not_followed(own: Path, tmp_path: Path) -> None:
    (own / PAGE).rename(tmp_path / "elsewhere.md")
    (own / PAGE).symlink_to(tmp_path / "elsewhere.md")
    assert judge(own).detail == f"{PAGE} is a link, or lies behind one"


def test_a_folder_that_is_a_link_is_not_followed(own: Path, tmp_path: Path) -> None:
    (own / "tfhub.dev").rename(tmp_path / "elsewhere")
    (own / "tfhub.dev").symlink_to(tmp_path / "elsewhere")
    found = judge(own)
    assert found.status == "failed"
    assert "tfhub.dev is not listed" in found.detail
    assert f"{PAGE} is a link, or lies behind one" in found.detail or "more" in found.detail


def test_a_link_that_is_not_listed_is_named(own: Path) -> None:
    (own / "more").symlink_to("/")
    assert judge(own).detail == "more is not listed"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "is not a digest and a path"),
        ("nothing", "is not a digest and a path"),
        (f"{'a' * 64}  /etc/passwd", "is not a digest and a path"),
        (f"{'a' * 64}  ../passwd", "is not a digest and a path"),
        (f"{'a' * 64}  models/../../passwd", "is not a digest and a path"),
        (f"{'a' * 64}  ./index.json", "is not a digest and a path"),
        (f"{'a' * 64} *index.json", "is not a digest and a path"),
        (f"{'A' * 64}  index.json", "is not a digest and a path"),
        (f"{'a' * 64}  index.json", "index.json is listed twice"),
        (f"{'a' * 64}  nowhere.txt", "nowhere.txt is missing"),
    ],
)
def test_a_line_that_should_not_be_there_is_named(line: str, problem: str, own: Path) -> None:
    with (own / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    found = judge(own)
    assert found.status == "failed"
    assert problem in found.detail


def test_a_list_that_breaks_off_is_seen(own: Path) -> None:
    path = own / "SHA256SUMS"
    path.write_bytes(path.read_bytes()[:-1])
    assert "its last line breaks off" in judge(own).detail


def test_of_a_release_elsewhere_what_was_not_downloaded_is_said(
    whole: Path, tmp_path: Path
) -> None:
    with served(whole) as base:
        target = target_of(None, base, {}, tmp_path)
    assert target.catalogue is not None
    found = release_room.sums(target.catalogue, target.digests, target.root)
    documents = sum(name.startswith("tfhub.dev/") for name in tree(whole))
    assert [finding.status for finding in found] == ["proved", "open"]
    assert found[1].detail == f"{documents} files of the release not downloaded"


def test_a_list_of_more_lines_than_files_could_have_is_not_split(own: Path) -> None:
    (own / "SHA256SUMS").write_bytes(b"\n" * (1 << 18))
    with pytest.raises(ReleaseError, match="SHA256SUMS has 262,144 lines, more than 246,723"):
        load(DirectorySource(own))
