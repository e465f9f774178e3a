"""A review as Markdown: what stands in it cannot get out of its place."""

from pathlib import Path

from publisher.documents.manifest import Manifest
from publisher.documents.plan import Change, Plan
from publisher.release.review import LARGEST, markdown
from tests.releases import CLASSIFIER, altered, manifest_of, registry_of


def manifest(folder: Path, summary: str = "largest error 1e-5") -> Manifest:
    registry = registry_of(folder)
    checks = [
        {"name": "parity_with_float64_reference", "status": "passed", "summary": summary},
        {"name": "other", "status": "skipped", "summary": ""},
    ]
    return altered(
        manifest_of(registry, registry.variants[0], b"archive"),
        lambda document: document["validation"].update(checks=checks),
    )


def test_pages_that_come_go_and_change_are_told() -> None:
    before = {"gone.md": "a\n", "same.md": "b\n", "changed.md": "1\n2\n3\n4\n5\n6\n7\nc\n"}
    after = {"new.md": "d\n", "same.md": "b\n", "changed.md": "1\n2\n3\n4\n5\n6\n7\ne\n"}
    text = markdown({}, [], before, after, [])
    assert "<summary>changed.md: changed</summary>\n\n```diff\n@@ -6,3 +6,3 @@\n 6\n 7\n" in text
    assert "\n-c\n+e\n```" in text
    assert "<summary>gone.md: gone</summary>" in text
    assert "<summary>new.md: new</summary>" in text
    assert "same.md" not in text
    assert "No page reads otherwise." in markdown({}, [], before, before, [])
    assert "### Pages" not in markdown({}, [], None, after, [])


def test_a_page_cannot_end_its_block() -> None:
    page = "````\n</details>\n@everybody ![x](https://x.example)\n````\n"
    text = markdown({}, [], {}, {"a.md": page}, [])
    assert "\n`````diff\n" in text
    assert text.rstrip().endswith("`````\n\n</details>")


def test_a_message_cannot_end_its_cell(tmp_path: Path) -> None:
    change = Change(handle="me/model/1", status="changed", message="a | b\n<img src=x>")
    plan = Plan(destination="shelf", changes=(change,), writes=())
    text = markdown({"shelf": plan, "<b>": "no ``` way"}, [], None, {}, [manifest(tmp_path, "a|b")])
    assert "a \\| b \\<img src=x\\>" in text
    assert "### \\<b\\>\n\nNot planned:\n\n````\nno ``` way\n````\n" in text
    assert f"| `{CLASSIFIER}` | 1 | 1 | a\\|b |" in text


def test_it_fits_into_a_comment_and_says_what_does_not(tmp_path: Path) -> None:
    pages = {f"{number}.md": "x\n" * 10_000 for number in range(4)}
    text = markdown({}, [], {}, {**pages, "9.md": "short\n"}, [manifest(tmp_path)])
    assert len(text) <= LARGEST + 100
    assert "3 more did not fit here." in text
    assert "9.md" in text
    assert text.count("<details>") == text.count("</details>")
