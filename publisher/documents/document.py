"""The base of all documents: reading, holding and writing them."""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from publisher.documents.errors import DocumentError
from publisher.errors import first_problem
from publisher.util.files import json_bytes


class Part(BaseModel):
    """A part of a document.

    Unknown keys are kept, because a later version of this program may have written them.
    """

    # Deferred, because every command imports these classes and few use them all.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, defer_build=True
    )

    def as_json(self) -> dict[str, Any]:
        """Return the value of its JSON, without absent keys."""
        return self.model_dump(mode="json", exclude_unset=True)


class Document(Part):
    """A whole file of JSON.

    A document that was read is written back unchanged: absent keys stay absent, and keys keep
    their order.
    """

    # The file's content, if this program would write it differently.
    _foreign: bytes | None = PrivateAttr(default=None)

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Parse and check the content of a file called `name`.

        Raises `DocumentError` with the first problem and its place.
        """
        try:
            document = cls.model_validate_json(content)
            if _text(document.as_json()) != _text(json.loads(content)):
                document._foreign = content
        except ValidationError as error:
            raise DocumentError(first_problem(error, name)) from error
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{name}: {error}") from error
        return document

    def as_json(self) -> dict[str, Any]:
        """Return the value of its JSON, without absent keys."""
        found = super().as_json()
        if self._foreign is not None:
            foreign: dict[str, Any] = json.loads(self._foreign)
            # A changed copy no longer stands for the file.
            return foreign if foreign == found else found
        return found

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        return json_bytes(self.as_json())


def _text(value: Any) -> str:
    # Indented JSON takes Python ten times longer.
    return json.dumps(value, allow_nan=False)
