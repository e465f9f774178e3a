"""What a reader does with the catalogue and with a model's page."""

from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import NARROW, PLAIN_HOST, WIDE, Browser, Look
from tests.browser.names import CLASSIFIER, EXTRACTOR, HANDLES, TEACHER, Place

pytestmark = pytest.mark.browser

each_width = pytest.mark.parametrize("width", [WIDE, NARROW])


def shown(browser: Browser) -> set[str]:
    """Return the handles of the cards that can be seen."""
    return {
        f"sayakpaul/{card.text}" for card in browser.all("#cards > li h3") if card.is_displayed()
    }


def asked(browser: Browser) -> dict[str, list[str]]:
    """Return what the window's address asks for."""
    return parse_qs(urlsplit(browser.driver.current_url).query)


def choose(browser: Browser, name: str, value: str) -> None:
    """Choose with keys: of a click the driver leaves out events that browsers send."""
    select = browser.one(f"#{name}")
    offered = [option.get_property("value") for option in browser.all(f"#{name} option")]
    select.send_keys(Keys.HOME, *[Keys.ARROW_DOWN] * offered.index(value))
    assert select.get_property("value") == value


@each_width
@pytest.mark.parametrize(
    ("words", "handles"),
    [
        ("384", {TEACHER}),
        ("R50X1 feature", {EXTRACTOR}),
        ("old_small", {CLASSIFIER}),
        ("synthetic", {CLASSIFIER, EXTRACTOR}),
        ("sayakpaul", set(HANDLES)),
    ],
)
def test_the_catalogue_is_searched_as_one_types(
    browser: Browser, place: Place, width: int, words: str, handles: set[str]
) -> None:
    browser.open(place.catalogue, Look(width))
    assert shown(browser) == set(HANDLES)
    browser.one("#q").send_keys(words)
    browser.until(lambda: shown(browser) == handles)
    assert browser.one("#count").text == f"{len(handles)} of 3 models"
    # The address can be kept, or sent to somebody.
    assert asked(browser) == {"q": [words]}
    browser.open(browser.driver.current_url, Look(width))
    browser.until(lambda: shown(browser) == handles)
    assert browser.one("#q").get_property("value") == words


@each_width
@pytest.mark.parametrize(
    ("name", "value", "handles"),
    [
        ("architecture", "R152x2", {TEACHER}),
        ("architecture", "R50x1", {CLASSIFIER, EXTRACTOR}),
        ("resolution", "224", {CLASSIFIER, EXTRACTOR}),
        ("resolution", "384", {TEACHER}),
        ("head", "classifier", {CLASSIFIER, TEACHER}),
        ("head", "feature_extractor", {EXTRACTOR}),
    ],
)
def test_the_catalogue_is_filtered(
    browser: Browser, place: Place, width: int, name: str, value: str, handles: set[str]
) -> None:
    browser.open(place.catalogue, Look(width))
    choose(browser, name, value)
    browser.until(lambda: shown(browser) == handles)
    assert browser.one("#count").text == f"{len(handles)} of 3 models"
    assert asked(browser) == {name: [value]}
    choose(browser, name, "")
    browser.until(lambda: shown(browser) == set(HANDLES))
    assert asked(browser) == {}


def test_filters_and_words_go_together_and_all_can_be_shown_again(
    browser: Browser, place: Place
) -> None:
    browser.open(place.catalogue)
    assert not browser.one("#all").is_displayed()
    choose(browser, "head", "classifier")
    choose(browser, "resolution", "224")
    browser.until(lambda: shown(browser) == {CLASSIFIER})
    assert not browser.one("#none").is_displayed()
    browser.one("#q").send_keys("features")
    browser.until(lambda: shown(browser) == set())
    assert browser.one("#none").is_displayed()
    browser.one("#all").click()
    browser.until(lambda: shown(browser) == set(HANDLES))
    assert not browser.one("#none").is_displayed()
    assert browser.one("#q").get_property("value") == ""
    assert asked(browser) == {}


def test_a_filtered_page_brings_the_rest_when_it_is_asked_for(
    browser: Browser, place: Place
) -> None:
    browser.open(f"{place.catalogue}?head=feature_extractor")
    browser.until(lambda: shown(browser) == {EXTRACTOR})
    choose(browser, "head", "classifier")
    browser.until(lambda: shown(browser) == {CLASSIFIER, TEACHER})
    buttons = [one for one in browser.all("#cards button.copy") if one.is_displayed()]
    assert len(buttons) == 2 * 2


def title(card: WebElement) -> str:
    return card.find_element("css selector", "h3").text


def snippet_of(browser: Browser, handle: str) -> str:
    """Copy what the catalogue's card of a model says, and return what can be pasted then."""
    [card] = [one for one in browser.all("#cards > li") if handle.endswith(title(one))]
    button = card.find_element("css selector", "button.copy")
    assert button.accessible_name == "Copy the snippet"
    button.click()
    browser.until(lambda: button.text == "Copied")
    assert browser.one("main > [role=status]").get_property("textContent") == "Copied"
    return browser.clipboard()


@each_width
def test_a_cards_snippet_is_copied(browser: Browser, place: Place, width: int) -> None:
    browser.open(place.catalogue, Look(width))
    assert snippet_of(browser, EXTRACTOR) == place.snippet(EXTRACTOR)
    assert snippet_of(browser, TEACHER) == place.snippet(TEACHER)


@each_width
def test_each_snippet_and_the_digest_of_a_page_are_copied(
    browser: Browser, place: Place, width: int
) -> None:
    browser.open(place.page(CLASSIFIER), Look(width))
    texts = [
        browser.run("return arguments[0].textContent", one).removesuffix("\n")
        for one in browser.all("pre, .digest")
    ]
    buttons = browser.all("button.copy")
    assert len(texts) == len(buttons) > 3
    assert texts[0] == place.snippet(CLASSIFIER)
    pasted = []
    for button in buttons:
        button.click()
        browser.until(lambda button=button: button.text == "Copied")
        pasted.append(browser.clipboard())
    assert pasted == texts


def test_a_snippet_is_copied_without_https_too(browser: Browser, hub: Place) -> None:
    plain = hub.base.replace("127.0.0.1", PLAIN_HOST)
    browser.open(plain)
    assert browser.run("return isSecureContext") is False
    button = browser.one("#cards button.copy")
    wanted = browser.one("#cards pre").text
    button.click()
    browser.until(lambda: button.text == "Copied")
    # One header means nothing without https, and Chromium says so on each page.
    [complaint] = browser.complaints()
    assert "Cross-Origin-Opener-Policy header has been ignored" in complaint
    browser.open(hub.catalogue)
    assert browser.clipboard() == wanted
    assert plain in wanted


@each_width
def test_a_classifier_and_its_feature_extractor_lead_to_each_other(
    browser: Browser, place: Place, width: int
) -> None:
    def follow(handle: str) -> None:
        [link] = browser.driver.find_elements("xpath", f"//dl//a[.='{handle}']")
        link.click()
        browser.until(lambda: browser.driver.current_url == place.page(handle))
        assert browser.one("h1").text == handle

    browser.open(place.page(CLASSIFIER), Look(width))
    follow(EXTRACTOR)
    follow(CLASSIFIER)
    browser.one(".site a").click()
    browser.until(lambda: browser.driver.current_url == place.catalogue)
    [card] = [one for one in browser.all("#cards h3 a") if one.text in EXTRACTOR]
    card.click()
    browser.until(lambda: browser.one("h1").text == EXTRACTOR)


def test_a_page_that_is_not_there_leads_to_one_that_is(browser: Browser, hub: Place) -> None:
    browser.open(hub.lost)
    assert browser.one("h1").text == "Not found"
    browser.one(f"main a[href='/{CLASSIFIER}']").click()
    browser.until(lambda: browser.one("h1").text == CLASSIFIER)
    [complaint] = browser.complaints()
    assert complaint.startswith(hub.lost)


def test_a_name_leads_to_its_newest_version(browser: Browser, place: Place) -> None:
    name = CLASSIFIER.rpartition("/")[0]
    browser.open(f"{place.base}/{name}{place.tail}")
    browser.until(lambda: browser.driver.current_url == place.page(CLASSIFIER))
