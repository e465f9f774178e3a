import html
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.manifest import SYNTHETIC_NOTICE, Manifest
from publisher.registry import select
from publisher.release.notes import NOTHING, Held, NotesError, changelog, held_by, release_notes
from publisher.util.files import sha256
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    HANDLES,
    OTHER,
    TOOLCHAIN,
    altered,
    edited,
    manifest_of,
    registry_of,
)

MODEL = CLASSIFIER.rpartition("/")[0]
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def manifest(folder: Path, handle: str, archive: bytes = b"archive", **facts: Any) -> Manifest:
    """Return the manifest of a version, whatever number it has."""
    old = next(known for known in HANDLES if known.rpartition("/")[0] == handle.rpartition("/")[0])
    registry = registry_of(folder, edited((old, handle)))
    [variant] = select(registry, [handle])
    return manifest_of(registry, variant, archive, **{"synthetic": False, **facts})


def held(*manifests: Manifest, page: bytes = b"page", reason: str = "") -> Held:
    """Return what holds these versions; a reason is that of the classifier."""
    by_handle = {found.handle: found for found in manifests}
    pages = {handle: sha256(page) for handle in by_handle}
    return Held(by_handle, pages, {CLASSIFIER: reason} if reason else {})


def test_new_models_are_listed_with_what_they_are(folder: Path) -> None:
    before = held(manifest(folder, CLASSIFIER))
    folded = manifest(folder, EXTRACTOR, b"x" * 2345).model_copy(update=FOLDED)
    now = held(folded, manifest(folder, OTHER), manifest(folder, CLASSIFIER))
    assert release_notes(before, now) == (
        "### Added\n"
        "\n"
        "| handle | architecture | head | resolution | size | SHA-256 |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        f"| `{OTHER}` | R20x0.5 | classifier | 32 | 7 bytes | `{sha256(b'archive')[:12]}` |\n"
        f"| `{EXTRACTOR}` | R20x0.5 | feature extractor, folded | 64 | 2.3 kB |"
        f" `{sha256(b'x' * 2345)[:12]}` |\n"
    )


FOLDED = {"weight_standardization": "folded"}
NEWER = {"tensorflow": "2.22.0", "numpy": "2.1.0"}


@pytest.mark.parametrize(
    ("facts", "differs"),
    [
        ({"archive": b"archive 2"}, "graph or assets"),
        ({"archive": b"archive 2", "weights": b"others!"}, "weights"),
        ({"archive": b"archive 2", "toolchain": NEWER}, "toolchain"),
        (
            {"archive": b"archive 2", "weights": b"others!", "toolchain": NEWER},
            "weights, toolchain",
        ),
        ({}, "nothing"),
    ],
)
def test_a_raised_model_is_told_with_what_differs(
    facts: dict[str, Any], differs: str, folder: Path
) -> None:
    old, new = manifest(folder, CLASSIFIER), manifest(folder, f"{MODEL}/10", **facts)
    notes = release_notes(held(old), held(new, old))
    size, digest = new.archive.size, new.archive.sha256[:12]
    assert "Added" not in notes
    assert f"| `{MODEL}` | 1 | 10 | {differs} | {size} bytes | `{digest}` |\n" in notes


def test_a_raised_model_may_be_folded_now(folder: Path) -> None:
    new = manifest(folder, f"{MODEL}/2", b"new").model_copy(update=FOLDED)
    notes = release_notes(held(manifest(folder, CLASSIFIER)), held(new))
    assert f"| `{MODEL}` | 1 | 2 | weight standardization |" in notes


def test_several_versions_at_once_each_follow_the_one_before(folder: Path) -> None:
    old = manifest(folder, f"{MODEL}/9")
    new = [manifest(folder, f"{MODEL}/{number}", bytes([number])) for number in (11, 10, 3)]
    notes = release_notes(held(old), held(old, *new))
    assert re.findall(r"^\| `\S+` \| (\d+) \| (\d+) ", notes, re.M) == [("9", "10"), ("10", "11")]
    assert re.findall(r"^\| `(\S+/\d+)`", notes, re.M) == [f"{MODEL}/3"]
    first = release_notes(Held(), held(*new))
    assert "Raised" not in first
    numbers = re.findall(r"^\| `\S+/(\d+)`", first, re.M)
    assert numbers == ["3", "10", "11"]


def test_a_page_that_changed_alone_is_named(folder: Path) -> None:
    before = held(manifest(folder, CLASSIFIER), manifest(folder, OTHER))
    pages = {**before.pages, OTHER: sha256(b"another")}
    assert release_notes(before, Held(before.manifests, pages)) == f"### Page only\n\n- `{OTHER}`\n"
    unknown = Held(before.manifests, {})
    assert release_notes(unknown, before) == release_notes(before, unknown) == NOTHING


def test_a_withdrawn_version_is_told_with_its_reason_and_not_as_a_page(folder: Path) -> None:
    before = held(manifest(folder, CLASSIFIER))
    now = held(manifest(folder, CLASSIFIER), page=b"another", reason="Wrong weights.")
    assert release_notes(before, now) == f"### Withdrawn\n\n- `{CLASSIFIER}`: Wrong weights.\n"
    assert release_notes(now, now) == NOTHING
    reworded = held(manifest(folder, CLASSIFIER), page=b"a third", reason="All wrong.")
    assert release_notes(now, reworded) == f"### Withdrawn\n\n- `{CLASSIFIER}`: All wrong.\n"
    assert release_notes(now, before) == f"### No longer withdrawn\n\n- `{CLASSIFIER}`\n"


def test_a_toolchain_is_told_where_new_versions_have_another(folder: Path) -> None:
    older = {"numpy": "2.0.0", "tensorflow": "2.20.0"}
    old = [manifest(folder, CLASSIFIER), manifest(folder, OTHER, toolchain=older)]
    new = manifest(folder, EXTRACTOR, toolchain={**NEWER, "isal": "1|7"})
    assert release_notes(held(*old), held(*old, new)).partition("### Toolchain\n\n")[2] == (
        "| tool | before | now |\n"
        "| --- | --- | --- |\n"
        "| isal | none | 1\\|7 |\n"
        "| tensorflow | 2.20.0, 2.21.0 | 2.22.0 |\n"
    )
    assert "Toolchain" not in release_notes(held(*old), held(*old, manifest(folder, EXTRACTOR)))
    assert "Toolchain" not in release_notes(Held(), held(*old, new))


def test_figures_that_moved_are_told_by_model(folder: Path) -> None:
    before = held(manifest(folder, CLASSIFIER, error=2.41e-5), manifest(folder, OTHER))
    new = manifest(folder, f"{MODEL}/2", b"x" * 1234, error=3.1e-5)
    new = new.model_copy(update={"parameters": 1_234_567})
    same = manifest(folder, OTHER, error=2.44e-5)
    figures = before.manifests[CLASSIFIER].validation.checks[0].figures
    figures |= {"32px_largest_error": 1e-6, "96px_largest_error": "2e-6", "32px_tolerance": 1e-3}
    unmeasured = altered(same, lambda it: it["validation"]["checks"][0].update(figures={}))
    parameters = before.manifests[CLASSIFIER].parameters
    notes = release_notes(before, held(new, same))
    assert notes.partition("### Figures that moved\n\n")[2] == (
        "| model | figure | before | now |\n"
        "| --- | --- | --- | --- |\n"
        f"| `{MODEL}` | largest parity error | 2.4e-05 | 3.1e-05 |\n"
        f"| `{MODEL}` | parameters | {parameters:,} | 1,234,567 |\n"
        f"| `{MODEL}` | archive, bytes | 7 | 1,234 |\n"
        f"| `{MODEL}` | unpacked, bytes | 70 | 12,340 |\n"
    )
    other = OTHER.rpartition("/")[0]
    moved = release_notes(held(same), held(unmeasured))
    assert f"| `{other}` | largest parity error | 2.4e-05 | none |\n" in moved


def test_nothing_that_changed_is_one_sentence(folder: Path) -> None:
    both = held(manifest(folder, CLASSIFIER, synthetic=True), manifest(folder, OTHER))
    assert release_notes(both, both) == NOTHING
    assert NOTHING.count(".") == NOTHING.count("\n") == 1
    assert release_notes(Held(), Held()) == NOTHING


def test_synthetic_weights_are_told_first(folder: Path) -> None:
    real, made_up = manifest(folder, CLASSIFIER), manifest(folder, OTHER, synthetic=True)
    notes = release_notes(held(made_up), held(made_up, real))
    assert notes.startswith(f"**{SYNTHETIC_NOTICE}** This is true of `{OTHER}`.\n\n### Added\n")
    notes = release_notes(Held(), held(made_up))
    assert notes.startswith(f"**{SYNTHETIC_NOTICE}** This is true of every version.\n\n")
    assert "SYNTHETIC" not in release_notes(Held(), held(real))


def test_what_a_release_must_not_do_is_told_of_two(folder: Path) -> None:
    before = held(manifest(folder, CLASSIFIER), manifest(folder, OTHER))
    now = held(manifest(folder, CLASSIFIER, b"altered"), page=b"another")
    old, new = sha256(b"archive")[:12], sha256(b"altered")[:12]
    assert release_notes(before, now) == (
        "### Changed under the same handle\n\n"
        f"- `{CLASSIFIER}`: SHA-256 was `{old}`, is `{new}`\n\n"
        f"### No longer there\n\n- `{OTHER}`\n"
    )


def test_the_order_of_what_is_given_does_not_matter(folder: Path) -> None:
    before = [manifest(folder, handle) for handle in HANDLES]
    now = [*before, *(manifest(folder, f"{MODEL}/{number}", b"new") for number in (2, 3))]
    notes = release_notes(held(*before), held(*now))
    assert notes == release_notes(held(*before[::-1]), held(*now[::-1]))


PIECES = (
    *("a", "snake_case", "_a_", "*b*", "**", "`c`", "``", "[d](http://x.test/)", "![e](f)"),
    *("<b>", "<!--", "</td>", "<http://x.test/>", "&lt;", "&#64;", "&", "|", "\\", "\\|", "~~g~~"),
    *("#", "# h", "- i", "1. j", "---", "$k$", "\n", "\n\n", "\r", "  ", "\t", "\u202e", "\x1b[0m"),
    *("https://x.test/a_b?c=d&e=f#g", "```", "    "),
)


@pytest.mark.parametrize("seed", range(50))
def test_texts_of_a_release_are_nothing_but_text_in_the_notes(seed: int, folder: Path) -> None:
    pick = random.Random(seed)  # noqa: S311
    text = "".join(pick.choice(PIECES) for _ in range(pick.randint(1, 8))) + pick.choice("az+_")
    before, new = manifest(folder, CLASSIFIER), manifest(folder, OTHER)
    new = new.model_copy(update={"architecture": text, "toolchain": {text: text}})
    now = held(before, new, reason=text)
    page = RENDERER.render(release_notes(held(before), now))
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    tags = re.findall(r"</?([a-z0-9]+)", page)
    assert set(tags) <= {"h3", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags.count("td") == 2 * (6 + 3)
    cells = [html.unescape(found) for found in re.findall(r"<td>([^\n]*)</td>", page)]
    assert cells[1] == cells[6] == cells[8] == shown
    [bullet] = re.findall(r"<li>([^\n]*)</li>", page)
    assert html.unescape(bullet) == f"<code>{CLASSIFIER}</code>: {shown}"


def test_a_handle_that_would_end_its_code_is_shown_as_text() -> None:
    notes = release_notes(Held(), Held(withdrawn={"a/`b` <c>/1": "Wrong."}))
    assert notes == "### Withdrawn\n\n- a/\\`b\\` \\<c\\>/1: Wrong.\n"


def laid_out(root: Path, *manifests: Manifest, index: bytes) -> Directory:
    """Make a release directory as far as notes read it."""
    directory = Directory(root)
    sums = b""
    for found in manifests:
        handle = found.handle
        files = {"model.tar.gz": b"archive", "manifest.json": found.as_bytes(), "README.md": b"p"}
        directory.add_version(handle, files)
        sums += f"{sha256(b'p')}  models/{handle}/README.md\n".encode()
    directory.write("SHA256SUMS", sums + b"junk \xff\n" + b"0" * 64 + b"  index.json\n")
    directory.write("index.json", index)
    return directory


def test_all_that_is_told_comes_from_a_release(folder: Path, tmp_path: Path) -> None:
    manifests = [manifest(folder, CLASSIFIER), manifest(folder, OTHER)]
    entries = [{"handle": CLASSIFIER, "withdrawn": "Wrong."}, {"handle": OTHER}]
    directory = laid_out(
        tmp_path / "release", *manifests, index=json.dumps({"models": entries}).encode()
    )
    assert held_by(directory) == Held(
        {found.handle: found for found in manifests},
        dict.fromkeys((CLASSIFIER, OTHER), sha256(b"p")),
        {CLASSIFIER: "Wrong."},
    )
    assert held_by(Directory(tmp_path / "none")) == Held()


def test_an_index_that_is_none_is_damage(tmp_path: Path) -> None:
    directory = laid_out(tmp_path / "release", index=b"{}")
    with pytest.raises(DestinationError, match=r"damaged: index\.json\.models: .*; publish again"):
        held_by(directory)


NOTES = "### Added\n\n- a\n"
TODAY = "2026-11-25"
# A changelog, and the same with a section of today.
CHANGELOGS = {
    "none": ("", f"# Changelog\n\n## {TODAY}\n\n### Added\n\n- a\n"),
    "no title": (
        "Words.\n\n## 1\n\nOld.\n",
        f"# Changelog\n\nWords.\n\n## {TODAY}\n\n### Added\n\n- a\n\n## 1\n\nOld.\n",
    ),
    "no section": (
        "# Changelog\n\nAll changes.\n",
        f"# Changelog\n\nAll changes.\n\n## {TODAY}\n\n### Added\n\n- a\n",
    ),
    "sections": (
        "Changelog\n=========\nAll changes.\n## [1.0] - 2020\n\n### Added\n\n- x\n\n## 0.9\n",
        "Changelog\n=========\nAll changes.\n\n"
        f"## {TODAY}\n\n### Added\n\n- a\n\n## [1.0] - 2020\n\n### Added\n\n- x\n\n## 0.9\n",
    ),
    "what is unreleased": (
        "# Changelog\n\n## [Unreleased]\n\n- soon\n\n## 1.0\n\n[Unreleased]: https://x.test/\n",
        f"# Changelog\n\n## [Unreleased]\n\n- soon\n\n## {TODAY}\n\n### Added\n\n- a\n\n"
        "## 1.0\n\n[Unreleased]: https://x.test/\n",
    ),
    "addresses at the end": (
        "# Changelog\n\n## [Unreleased]\n\n[Unreleased]: https://x.test/\n\n[1]: https://y.test/",
        f"# Changelog\n\n## [Unreleased]\n\n## {TODAY}\n\n### Added\n\n- a\n\n"
        "[Unreleased]: https://x.test/\n\n[1]: https://y.test/\n",
    ),
    "the same section": (
        f"# Changelog\n\n## 2027\n\n- later\n\n## {TODAY} ##\n### Added\n- b\n## 1\n\nOld.\n",
        f"# Changelog\n\n## 2027\n\n- later\n\n## {TODAY}\n\n### Added\n\n- a\n\n## 1\n\nOld.\n",
    ),
    "the same section at the end": (
        f"# Changelog\n\n## {TODAY}\n\n- b\n\n[1]: https://x.test/\n",
        f"# Changelog\n\n## {TODAY}\n\n### Added\n\n- a\n\n[1]: https://x.test/\n",
    ),
    "what only looks like a section": (
        f"# Changelog\n\n```\n## {TODAY}\n```\n\n> ## {TODAY}\n\n## 1\n\n```\n## 2\n```\n",
        f"# Changelog\n\n```\n## {TODAY}\n```\n\n> ## {TODAY}\n\n"
        f"## {TODAY}\n\n### Added\n\n- a\n\n## 1\n\n```\n## 2\n```\n",
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("before", "after"), CHANGELOGS.values(), ids=CHANGELOGS.keys())
def test_notes_are_the_first_section_or_replace_theirs(
    before: str, after: str, ending: str
) -> None:
    if not before:
        ending = "\n"
    text = changelog(before.replace("\n", ending), TODAY, NOTES)
    assert text == after.replace("\n", ending)
    assert changelog(text, TODAY, NOTES) == text
    other = changelog(text, TODAY, "### Raised\n")
    assert other != text
    assert changelog(other, TODAY, NOTES) == text


def test_notes_of_another_day_leave_those_of_yesterday() -> None:
    first = changelog("", "[1.0.0] - 2026-11-24", NOTES)
    second = changelog(first, "[1.1.0] - 2026-11-25", NOTES)
    assert re.findall(r"^## (.*)$", second, re.M) == [
        "[1.1.0] - 2026-11-25",
        "[1.0.0] - 2026-11-24",
    ]


@pytest.mark.parametrize("heading", ["", " ", "#", "a\n# b", "a\x1b", "a\n\n## b"])
def test_a_heading_is_one_line_of_text(heading: str) -> None:
    with pytest.raises(
        NotesError, match="cannot be a heading of release notes; give a version or a d"
    ):
        changelog("", heading, NOTES)


def test_notes_of_a_release_stay_below_their_heading(folder: Path) -> None:
    notes = release_notes(Held(), held(manifest(folder, CLASSIFIER, toolchain=TOOLCHAIN)))
    text = changelog(changelog("", "1", notes), "2", notes)
    tokens = RENDERER.parse(text)
    assert [token.tag for token in tokens if token.type == "heading_open"] == [
        *("h1", "h2", "h3", "h2", "h3"),
    ]
