"""A page as a tree, read by the strict rules that a hand-written page may break."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "br", "hr", "img"}
ASSETS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = ET.Element("page")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        element = ET.SubElement(self.open[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        parent = self.open[-1]
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + data
        else:
            parent.text = (parent.text or "") + data


def parsed(page: str | bytes) -> ET.Element:
    """Return the tree of a page; every element that is opened has to be closed."""
    builder = _Builder()
    builder.feed(page.decode() if isinstance(page, bytes) else page)
    builder.close()
    assert builder.open == [builder.root], builder.open
    return builder.root


def text(element: ET.Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def by_id(page: ET.Element, name: str) -> ET.Element:
    [element] = [one for one in page.iter() if one.get("id") == name]
    return element


def links(page: ET.Element) -> dict[str, str]:
    """Return where the links of a page lead, by their text."""
    return {text(link): link.attrib["href"] for link in page.iter("a")}


def cards(page: ET.Element) -> dict[str, ET.Element]:
    """Return the cards of a catalogue, by the text of their heading."""
    return {text(card.find(".//h3")): card for card in by_id(page, "cards")}


def facts(element: ET.Element) -> dict[str, str]:
    """Return the terms of the lists in an element, and what stands beside each."""
    return {
        text(pair.find("dt")): text(pair.find("dd"))
        for listed in element.iter("dl")
        for pair in listed
    }


def assets(page: ET.Element) -> list[str]:
    """Return every address that a browser fetches for a page by itself."""
    return [
        element.attrib[ASSETS[element.tag]]
        for element in page.iter()
        if element.tag in ASSETS
        and ASSETS[element.tag] in element.attrib
        and element.get("rel") != "canonical"
    ]


def sound(page: ET.Element) -> None:
    """Check what every page owes to its readers, those with a screen reader too."""
    html = page.find("html")
    assert html is not None
    assert html.get("lang") == "en"
    ids = [element.attrib["id"] for element in page.iter() if "id" in element.attrib]
    assert len(set(ids)) == len(ids)
    for landmark in ("header", "main", "footer"):
        assert len(list(page.iter(landmark))) == 1, landmark
    assert len(list(page.iter("h1"))) == 1
    for attribute in ("aria-labelledby", "for"):
        for element in page.iter():
            assert element.get(attribute, ids[0]) in ids, element.attrib
    labelled = {label.get("for") for label in page.iter("label")}
    for control in (*page.iter("input"), *page.iter("select")):
        assert control.get("id") in labelled
    first: Any = next(page.iter("a"))
    assert first.attrib == {"class": "skip", "href": "#main"}
    assert by_id(page, "main").tag == "main"
    for image in page.iter("svg"):
        assert image.get("aria-hidden") == "true" or image.get("aria-labelledby")
    for heading in page.iter("th"):
        assert heading.get("scope") in ("col", "row")
        assert text(heading)
    # The policy of the pages forbids both.
    for element in page.iter():
        assert "style" not in element.attrib
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.tag != "style"
        assert element.tag != "script" or not text(element)
    for address in assets(page):
        assert "//" not in address and not address.startswith("data:")
