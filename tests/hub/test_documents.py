"""README.md as HTML."""

import pytest

from publisher.hub.documents import document_html
from tests.hub.html import parsed, text


def test_the_title_and_the_metadata_are_left_out() -> None:
    html = document_html("# Module a/b/1\n\nWhat it is.\n\n<!-- task: x -->\n\n## More\n")
    assert html == "<p>What it is.</p>\n<h2>More</h2>\n"


def test_a_page_without_a_title_loses_nothing() -> None:
    assert document_html("What it is.") == "<p>What it is.</p>\n"
    assert document_html("") == ""


def test_tables_and_code_can_be_scrolled_with_the_keyboard() -> None:
    page = parsed(document_html("| a | b |\n|---|---|\n| 1 | 2 |\n\n```sh\nls\n```\n"))
    assert page[0].attrib == {
        "class": "scroll",
        "tabindex": "0",
        "role": "group",
        "aria-label": "Table",
    }
    assert [heading.get("scope") for heading in page.iter("th")] == ["col", "col"]
    [code] = page.iter("pre")
    assert code.attrib == {"tabindex": "0"}
    assert code[0].attrib == {"class": "language-sh"}


def test_the_empty_corner_of_a_table_is_no_heading() -> None:
    page = parsed(document_html("| | name |\n|---|---|\n| input | images |\n"))
    assert [text(heading) for heading in page.iter("th")] == ["name"]
    assert [text(cell) for cell in page.iter("td")] == ["", "input", "images"]


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "vbscript:a", "data:text/html,a", "file:///etc"],
)
def test_a_link_that_could_run_something_is_text(address: str) -> None:
    assert "<a" not in document_html(f"[a]({address}) <{address}>")


def test_html_and_images_are_text_and_links() -> None:
    page = parsed(document_html('<b onclick="x">a</b> ![c](https://example.org/d.png)\n\n<hr>\n'))
    assert {element.tag for element in page.iter()} == {"page", "p", "a"}
    assert '<b onclick="x">a</b>' in text(page)


def test_text_that_looks_like_our_own_html_stays_text() -> None:
    page = parsed(document_html("`<table>` and <pre>\n\n    <table>\n"))
    assert not list(page.iter("table"))
    assert len(list(page.iter("pre"))) == 1
