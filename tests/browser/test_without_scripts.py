"""The pages with JavaScript turned off."""

import pytest

from tests.browser.chromium import NARROW, WIDE, Browser, Look
from tests.browser.names import CLASSIFIER, EXTRACTOR, HANDLES, Place
from tests.browser.test_catalogue import asked, choose, shown

pytestmark = pytest.mark.browser

each_width = pytest.mark.parametrize("width", [WIDE, NARROW])


@each_width
def test_the_hub_searches_and_filters(browser: Browser, hub: Place, width: int) -> None:
    browser.open(hub.catalogue, Look(width, scripts=False))
    assert shown(browser) == set(HANDLES)
    browser.one("#q").send_keys("r50x1")
    choose(browser, "head", "feature_extractor")
    assert shown(browser) == set(HANDLES)  # nothing happens before the button is pressed
    browser.one("form button").click()
    browser.until(lambda: shown(browser) == {EXTRACTOR})
    assert asked(browser) == {"q": ["r50x1"], "head": ["feature_extractor"]}
    assert browser.one("#count").text == "1 of 3 models"
    browser.one("#all").click()
    browser.until(lambda: shown(browser) == set(HANDLES))


@each_width
def test_a_site_lists_all_models_and_says_why(browser: Browser, site: Place, width: int) -> None:
    browser.open(f"{site.catalogue}?q=r50x1", Look(width, scripts=False))
    assert shown(browser) == set(HANDLES)
    assert browser.one("noscript").text == (
        "Here the search needs JavaScript; without it all models are listed."
    )


@each_width
def test_a_models_page_is_whole(browser: Browser, place: Place, width: int) -> None:
    browser.open(place.page(CLASSIFIER), Look(width, scripts=False))
    assert browser.one("pre").text == place.snippet(CLASSIFIER)
    assert len(browser.one(".digest").text) == 64
    assert not browser.all("button")
    browser.driver.find_element("xpath", f"//dl//a[.='{EXTRACTOR}']").click()
    browser.until(lambda: browser.one("h1").text == EXTRACTOR)
