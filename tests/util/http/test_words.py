"""Which addresses are good, and what errors say."""

import pytest

from publisher.util.http import (
    HttpError,
    NoAnswerError,
    TransientError,
    advice,
    is_service_address,
    one_line,
    origin_of,
    redirected,
    without_secrets,
)


def test_without_secrets_keeps_host_port_and_path() -> None:
    assert without_secrets("https://u:p@host:8443/a/b?k=v#f") == "https://host:8443/a/b"
    assert without_secrets("http://[x") == "the address (which cannot be parsed)"


def test_a_redirect_may_not_leave_encryption() -> None:
    assert redirected("https://a/w", "https://b/w") == "https://b/w"
    assert redirected("https://a/w", "/v") == "https://a/v"
    assert redirected("http://a/w", "https://b/w") == "https://b/w"
    assert redirected("http://a/w", "http://b/w") == "http://b/w"
    with pytest.raises(HttpError, match=r"redirects to http://b/w, which is not secure$"):
        redirected("https://u:pw@a/w?key=1", "http://b/w?key=2")
    with pytest.raises(HttpError, match="redirects to something that is not an address"):
        redirected("https://a/w", "http://[x")


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://host/api", True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://host/api", False),
        ("https://", False),
        ("https://user@host", False),
        ("https://host?a=b", False),
        ("https://host:port", False),
        ("ftp://host", False),
        ("host", False),
    ],
)
def test_a_secret_goes_to_encrypted_services_and_to_this_machine(address: str, good: bool) -> None:
    assert is_service_address(address) == good


def test_an_origin_has_one_form() -> None:
    assert origin_of("HTTPS://Host/a") == origin_of("https://host:443/b") == "https://host:443"
    assert origin_of("http://host") == "http://host:80"


def test_what_a_service_said_is_shown_on_one_line_without_secrets() -> None:
    said = "No\n\taccess\x1b for 5ecret at https://host/a?sig=1 today" + "x" * 1000
    shown = one_line(said, ["5ecret", "", None])
    assert shown.startswith("No access for *** at (address) todayxxx")
    assert len(shown) == 300


def test_an_error_says_who_answered_what() -> None:
    assert HttpError(403, "no").said("GitHub") == "GitHub answered 403 (no)"
    assert HttpError(403, "").said("GitHub") == "GitHub answered 403"
    assert str(NoAnswerError(0, "no answer (timed out)")) == "no answer (timed out)"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (HttpError(0, "it leads elsewhere", "correct it"), "correct it"),
        (HttpError(507, ""), "free space there"),
        (HttpError(403, "Quota exceeded"), "free space there"),
        (HttpError(403, "no"), "ask for access"),
        (NoAnswerError(0, "no answer (timed out)"), "check the network and run again"),
        (TransientError(429, ""), "wait a while and run again"),
        (HttpError(429, ""), "wait a while and run again"),
        (HttpError(500, ""), "wait a while and run again"),
        (HttpError(422, ""), "fix that and run again"),
    ],
    ids=str,
)
def test_there_is_something_to_do_about_each(error: HttpError, words: str) -> None:
    assert advice(error, {403: "ask for access"}).startswith(words)
