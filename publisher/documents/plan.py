"""Plans: what publishing would do to destinations. `publish --plan` carries out a saved one."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from publisher.documents.document import Document, Part
from publisher.documents.errors import DocumentError
from publisher.errors import first_problem

Status = Literal["new", "page", "withdraw", "unchanged", "withdrawn", "left over", "changed"]
WRITING: tuple[Status, ...] = ("new", "page", "withdraw")
LARGEST = 1 << 24  # bytes of a saved plan

Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class _Part(Part):
    # Nobody may consent to a key that this version of the program does not show.
    model_config = ConfigDict(extra="forbid")


class Change(_Part):
    """The change of one version. `offered` and `there` are SHA-256 of the archives."""

    handle: str
    status: Status
    message: str = ""
    offered: Digest = ""
    there: Digest = ""

    @property
    def refused(self) -> bool:
        """Whether publishing refuses this version."""
        return self.status == "changed"


class Write(_Part):
    """A small file to write, and the SHA-256 of its content."""

    path: str
    sha256: Digest


class Plan(_Part):
    """Everything that publishing would do to one destination.

    `destination` is its name. `writes` are, in order, the small files of versions that it
    already holds, the documents and the index.
    """

    destination: str
    changes: tuple[Change, ...]
    writes: tuple[Write, ...]

    @property
    def refused(self) -> list[Change]:
        """The changes that are refused."""
        return [change for change in self.changes if change.refused]

    @property
    def empty(self) -> bool:
        """Whether nothing would be written."""
        return not self.writes and not any(change.status in WRITING for change in self.changes)


class SavedPlans(Document, _Part):
    """Plans for several destinations, as `publisher plan --save` writes them."""

    schema_version: Literal[1] = 1
    registry: Digest
    handles: tuple[str, ...]
    plans: tuple[Plan, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the value of its JSON, defaults included."""
        return self.model_dump(mode="json")


def read_plans(path: Path) -> SavedPlans:
    """Parse and check saved plans. Raises `DocumentError`."""
    again = "make it again with: publisher plan --to NAME --save FILE"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    try:
        if len(content) > LARGEST:
            raise ValueError("it is too large")
        return SavedPlans.model_validate_json(content)
    except ValidationError as error:
        problem = first_problem(error, whole="the file")
        raise DocumentError(f"{path}: is no plan ({problem}); {again}") from error
    except ValueError as error:
        raise DocumentError(f"{path}: is no plan ({error}); {again}") from error
