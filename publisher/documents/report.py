"""The validation report: `report.json` of a variant, and `validation` in its manifest."""

from typing import Annotated, Literal

from pydantic import Field

from publisher.documents.document import Document, Part
from publisher.documents.fields import Text, Word

REPORT = "report.json"

Figure = float | int | str | list[int]


class Tolerance(Part):
    """Bounds on an error: |measured - expected| <= absolute + relative * max|expected|."""

    absolute: Annotated[float, Field(ge=0)]
    relative: Annotated[float, Field(ge=0)]


class Check(Part):
    """One check: one line for people, and the numbers that it rests on.

    JSON has no infinity and no nan; a figure that is one of those is its name as text.
    """

    name: Word
    status: Literal["passed", "failed", "skipped"]
    summary: Text
    figures: dict[str, Figure] = Field(default_factory=dict)


class Report(Document):
    """What validation found. A skipped check says why in its summary."""

    passed: bool
    tolerance: Tolerance
    checks: tuple[Check, ...]


def read_report(content: bytes, name: str = REPORT) -> Report:
    """Return a report that was written as JSON to a file called `name`.

    Raises `DocumentError` with the first thing that is not as validation writes it.
    """
    return Report.read(content, name)
