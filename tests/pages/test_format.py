import pytest

from publisher.pages.format import cell, human_size, scientific, shape, thousands


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (94_012_345, "94.0 MB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (945_485_848, "945.5 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_500_000_000_000_000, "2,500.0 TB"),
    ],
)
def test_sizes_are_decimal_with_one_digit(size: int, text: str) -> None:
    assert human_size(size) == text


def test_numbers_have_separators() -> None:
    assert thousands(25_549_352) == "25,549,352"


def test_errors_have_two_significant_digits() -> None:
    assert scientific(2.4449e-05) == "2.4e-05"


def test_open_dimensions_have_names() -> None:
    assert shape([None, None, None, 3]) == "(batch, height, width, 3)"
    assert shape([None, 1000]) == "(batch, 1000)"


def test_text_stays_in_its_cell() -> None:
    assert cell("|a - b| <=\n 1") == "\\|a - b\\| &lt;= 1"
