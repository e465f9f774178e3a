"""Parses a file of `.github/workflows` into values that know their line.

Source of the keys: GitHub documentation, "Workflow syntax for GitHub Actions". The classes have
the keys that the release workflow uses. Any other key is an error.
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from publisher.errors import first_problem
from publisher.rehearsal.errors import RehearsalError


class Text(str):
    """A scalar or a key of a workflow file, with its position, `file:line`."""

    __slots__ = ("where",)
    where: str

    def __new__(cls, text: str, where: str) -> Self:
        """Return the text with its position."""
        made = super().__new__(cls, text)
        made.where = where
        return made


Texts = dict[str, Text]
# Keys that have no effect in a rehearsal.
IGNORED = {"concurrency", "max-parallel", "permissions", "runs-on", "tags", "timeout-minutes"}


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
        arbitrary_types_allowed=True,
        frozen=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _hold_to_known_keys(cls, found: object) -> object:
        known = IGNORED | {field.alias for field in cls.model_fields.values()}
        for key in found if isinstance(found, dict) else ():
            if key not in known:
                raise RehearsalError(f"{key.where}: a rehearsal does not support the key {key}")
        return found or {}


class Step(_Part):
    """One step: a script in `run`, or an action in `uses`."""

    id: str | None = None
    name: str | None = None
    if_: Text | None = None
    uses: Text | None = None
    with_: Texts = {}
    run: Text | None = None
    env: Texts = {}
    continue_on_error: Text | None = None

    @property
    def action(self) -> str:
        """The action's name without its commit; empty for a script."""
        return (self.uses or "").partition("@")[0]

    @property
    def where(self) -> str:
        """The position of its script or its action."""
        return (self.run or self.uses or Text("", "")).where


class Strategy(_Part):
    """The matrix of a job: an expression for a list, under a name or under `include`."""

    matrix: Annotated[Texts, Field(min_length=1, max_length=1)]
    fail_fast: bool = True


class Job(_Part):
    """One job: it has `steps`, or `uses` names another workflow of the repository."""

    name: Text | None = None
    needs: Annotated[
        list[str], BeforeValidator(lambda found: [found] if isinstance(found, str) else found)
    ] = []
    if_: Text | None = None
    env: Texts = {}
    outputs: Texts = {}
    strategy: Strategy | None = None
    environment: str | dict[str, str] | None = None
    steps: list[Step] = []
    uses: Text | None = None
    with_: Texts = {}


class Event(_Part):
    """An event that starts a workflow, with the declarations of its inputs."""

    inputs: dict[str, dict[str, str]] = {}


class Workflow(_Part):
    """A workflow: its events, and its jobs by name."""

    name: str | None = None
    on: dict[str, Event]
    jobs: dict[Text, Job]


class _Loader(yaml.BaseLoader):
    def construct_scalar(self, node: yaml.ScalarNode) -> Text:
        return Text(node.value, f"{self.name}:{node.start_mark.line + 1}")


def read_workflow(project: Path, path: str) -> Workflow:
    """Return the workflow at a path of the repository.

    Raises `RehearsalError`, with file and line, for a part that is not supported.
    """
    try:
        loader = _Loader((project / path).read_bytes())
        loader.name = path
        return Workflow.model_validate(loader.get_single_data())
    except OSError as error:
        raise RehearsalError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise RehearsalError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise RehearsalError(f"{path}: {first_problem(error)}; see `make lint`") from None
