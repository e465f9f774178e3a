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
    """One check: a line for people, and the numbers behind it.

    JSON has no infinity and no nan, so a figure can be their name as text.
    """

    name: Word
    status: Literal["passed", "failed", "skipped"]
    summary: Text
    figures: dict[str, Figure] = Field(default_factory=dict)


class Report(Document):
    """The results of validation. The summary of a skipped check says why it was skipped."""

    passed: bool
    tolerance: Tolerance
    checks: tuple[Check, ...]


def read_report(content: bytes, name: str = REPORT) -> Report:
    """Parse and check a report from a file called `name`.

    Raises `DocumentError` with the first problem.
    """
    return Report.read(content, name)
