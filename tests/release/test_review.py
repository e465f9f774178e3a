"""A review as Markdown: what stands in it cannot get out of its place."""

from typing import Any

from publisher.release.plan import Change, Plan
from publisher.release.review import LARGEST, review


def manifest(handle: str = "me/model/1", summary: str = "largest error 1e-5") -> dict[str, Any]:
    checks = [
        {"name": "parity_with_float64_reference", "status": "passed", "summary": summary},
        {"name": "other", "status": "skipped", "summary": ""},
    ]
    return {"handle": handle, "synthetic": False, "validation": {"checks": checks}}


def test_pages_that_come_go_and_change_are_told() -> None:
    before = {"gone.md": "a\n", "same.md": "b\n", "changed.md": "1\n2\n3\n4\n5\n6\n7\nc\n"}
    after = {"new.md": "d\n", "same.md": "b\n", "changed.md": "1\n2\n3\n4\n5\n6\n7\ne\n"}
    text = review({}, [], before, after, [])
    assert "<summary>changed.md: changed</summary>\n\n```diff\n@@ -6,3 +6,3 @@\n 6\n 7\n" in text
    assert "\n-c\n+e\n```" in text
    assert "<summary>gone.md: gone</summary>" in text
    assert "<summary>new.md: new</summary>" in text
    assert "same.md" not in text
    assert "No page reads otherwise." in review({}, [], before, before, [])
    assert "### Pages" not in review({}, [], None, after, [])


def test_a_page_cannot_end_its_block() -> None:
    page = "````\n</details>\n@everybody ![x](https://x.example)\n````\n"
    text = review({}, [], {}, {"a.md": page}, [])
    assert "\n`````diff\n" in text
    assert text.rstrip().endswith("`````\n\n</details>")


def test_a_message_cannot_end_its_cell() -> None:
    change = Change(handle="me/model/1", status="changed", message="a | b\n<img src=x>")
    plan = Plan(destination="shelf", changes=(change,), writes=())
    text = review({"shelf": plan, "<b>": "no ``` way"}, [], None, {}, [manifest(summary="a|b")])
    assert "a \\| b \\<img src=x\\>" in text
    assert "### \\<b\\>\n\nNot planned:\n\n````\nno ``` way\n````\n" in text
    assert "| `me/model/1` | 1 | 1 | a\\|b |" in text


def test_it_fits_into_a_comment_and_says_what_does_not() -> None:
    pages = {f"{number}.md": "x\n" * 10_000 for number in range(4)}
    text = review({}, [], {}, {**pages, "9.md": "short\n"}, [manifest()])
    assert len(text) <= LARGEST + 100
    assert "3 more did not fit here." in text
    assert "9.md" in text
    assert text.count("<details>") == text.count("</details>")
