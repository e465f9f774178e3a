"""What all documents have in common: how they are read, held and written."""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from publisher.documents.errors import DocumentError
from publisher.errors import first_problem
from publisher.util.files import json_bytes


class Part(BaseModel):
    """A part of a document.

    A key that is not known here may be from a later version of this program, so it is kept and
    copied along.
    """

    # A class is built when it is first used: every command imports these, and few need them all.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, defer_build=True
    )

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it, without what is absent."""
        return self.model_dump(mode="json", exclude_unset=True)


class Document(Part):
    """A whole file of JSON.

    What was read is written back with the same bytes, as far as `json_bytes` writes it: keys
    that are absent stay absent, and keys keep their order.
    """

    # The file, where it is not as this program writes it.
    _foreign: bytes | None = PrivateAttr(default=None)

    @classmethod
    def read(cls, content: bytes, name: str) -> Self:
        """Return the document that a file called `name` holds, read without trust.

        Raises `DocumentError` with the first thing that is wrong, and where.
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
        """Return the document as JSON has it, without what is absent."""
        found = super().as_json()
        if self._foreign is not None:
            foreign: dict[str, Any] = json.loads(self._foreign)
            # A copy that was changed is no longer what was read.
            return foreign if foreign == found else found
        return found

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        return json_bytes(self.as_json())


def _text(value: Any) -> str:
    # Without white space: Python indents JSON ten times slower than it writes it.
    return json.dumps(value, allow_nan=False)
