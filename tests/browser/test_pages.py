"""Each page, on a desk and on a phone, light and dark."""

from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver import Keys

from tests.browser.chromium import LOOKS, NARROW, WIDE, Browser, Look, elsewhere
from tests.browser.conftest import files_served
from tests.browser.names import CLASSIFIER, EXTRACTOR, TEACHER, Place

pytestmark = pytest.mark.browser

PAGES: dict[str, Callable[[Place], str]] = {
    "catalogue": lambda place: place.catalogue,
    "nothing found": lambda place: f"{place.catalogue}?q=nothing",
    "classifier": lambda place: place.page(CLASSIFIER),
    "feature extractor": lambda place: place.page(EXTRACTOR),
    "for prediction only": lambda place: place.page(TEACHER),
    "not found": lambda place: place.lost,
}
each_page = pytest.mark.parametrize("name", PAGES)
each_look = pytest.mark.parametrize("look", LOOKS, ids=str)


def visit(browser: Browser, place: Place, name: str, look: Look) -> None:
    """Open a page, with all that it can unfold."""
    browser.open(PAGES[name](place), look)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    if name == "not found":
        # Chromium says of each page with this status that it could not be loaded.
        ours = [line for line in browser.complaints() if not line.startswith(place.lost)]
        assert ours == []


@each_look
@each_page
def test_axe_finds_nothing_wrong(
    browser: Browser, place: Place, name: str, look: Look, pictures: Path
) -> None:
    visit(browser, place, name, look)
    form = "site" if place.tail else "hub"
    browser.draw(pictures / f"{form}-{name.replace(' ', '-')}-{look}.png")
    assert browser.axe() == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
@each_page
def test_nothing_has_to_be_moved_sideways(
    browser: Browser, place: Place, name: str, width: int
) -> None:
    visit(browser, place, name, Look(width))
    assert browser.run("return document.documentElement.clientWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") == width
    wider = browser.run(
        """
        const inside = (one) => one.closest('pre, .scroll, .unseen, .skip, svg');
        return [...document.querySelectorAll('body *')]
          .filter((one) => !inside(one) && one.checkVisibility())
          .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
          .map((one) => one.outerHTML.slice(0, 200));
        """
    )
    assert wider == []


@each_page
def test_a_page_is_dark_for_who_likes_it_dark(browser: Browser, place: Place, name: str) -> None:
    def brightness(property_name: str) -> int:
        colour = browser.run(
            "return getComputedStyle(document.body).getPropertyValue(arguments[0])", property_name
        )
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

    visit(browser, place, name, Look(dark=False))
    assert brightness("background-color") > brightness("color")
    visit(browser, place, name, Look(dark=True))
    assert brightness("background-color") < brightness("color")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_one_plot_is_shown_and_it_fits(browser: Browser, place: Place, width: int) -> None:
    browser.open(place.catalogue, Look(width))
    shown = [one for one in browser.all("figure svg[role=img]") if one.is_displayed()]
    assert len(shown) == 1
    assert 300 < shown[0].rect["width"] <= width - 30


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_button_covers_no_snippet(browser: Browser, place: Place, width: int) -> None:
    browser.open(place.page(CLASSIFIER), Look(width))
    covered = browser.run(
        """
        return [...document.querySelectorAll('.copyable')].filter((frame) => {
          const [code, button] = ['code', 'button'].map(
            (name) => frame.querySelector(name).getBoundingClientRect());
          const pre = frame.querySelector('pre').getBoundingClientRect();
          return button.top < code.bottom && code.top < button.bottom &&
            button.left < Math.min(code.right, pre.right);
        }).map((frame) => frame.textContent);
        """
    )
    assert len(browser.all(".copyable")) > 2
    assert covered == []


def test_the_first_key_leads_past_the_header(browser: Browser, place: Place) -> None:
    browser.open(place.page(CLASSIFIER))
    browser.one("body").send_keys(Keys.TAB)
    focused = browser.driver.switch_to.active_element
    assert focused.text == "Skip to the content"
    assert focused.rect["x"] >= 0
    focused.send_keys(Keys.ENTER)
    browser.until(lambda: browser.driver.switch_to.active_element.get_attribute("id") == "main")


def test_axe_would_find_a_fault(browser: Browser, hub: Place) -> None:
    browser.open(hub.catalogue)
    browser.run(
        "document.querySelector('label[for=head]').remove();"
        "document.body.style.color = getComputedStyle(document.body).backgroundColor"
    )
    kinds = {fault.partition(": [")[0] for fault in browser.axe()}
    assert {"critical: select-name", "serious: color-contrast"} <= kinds
    # The policy of the pages forbids styles in attributes, and Chromium says so.
    browser.complaints()


def test_the_browser_would_tell_of_another_host_and_of_an_error(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(
        "<!doctype html><link rel=icon href='data:,'><img src='http://elsewhere.example/a.png'>"
        "<script>console.error('oh'); missing()</script>"
    )
    with files_served(tmp_path) as base:
        browser.open(base)
        assert elsewhere(browser.requested()) == ["http://elsewhere.example/a.png"]
        complaints = "\n".join(browser.complaints())
    assert '"oh"' in complaints
    assert "missing is not defined" in complaints
    assert "ERR_NAME_NOT_RESOLVED" in complaints
