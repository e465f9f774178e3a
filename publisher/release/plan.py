"""What publishing would do to a destination, said before anything is written.

A plan can be saved as JSON and given to `publish` later, which carries it out only if the
same plan would be made then.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.documents.manifest import is_folded
from publisher.errors import PublisherError, first_problem
from publisher.pages.format import plain
from publisher.registry import Variant

Status = Literal["new", "page", "withdraw", "unchanged", "withdrawn", "left over", "changed"]
WRITING: tuple[Status, ...] = ("new", "page", "withdraw")
MEANINGS: Mapping[Status, str] = {
    "new": "new: archive, manifest and page are put there",
    "page": "page changed: the archive stays as it is",
    "withdraw": "to be marked as withdrawn",
    "unchanged": "unchanged",
    "withdrawn": "withdrawn",
    "left over": "there, and no longer in models.yaml; left alone",
    "changed": "refused",
}
LARGEST = 1 << 24  # bytes of a saved plan

Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class PlanError(PublisherError):
    """A saved plan cannot be carried out."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Change(_Part):
    """What becomes of one version. SHA-256 of the archive that is offered and that is there."""

    handle: str
    status: Status
    message: str = ""
    offered: Digest = ""
    there: Digest = ""

    @property
    def refused(self) -> bool:
        """Whether a published version would have to change."""
        return self.status == "changed"


class Write(_Part):
    """A small file that is written, and the SHA-256 of its content."""

    path: str
    sha256: Digest


class Plan(_Part):
    """All that publishing would do to one destination.

    `destination` is its name; `writes` are the small files of versions that are there
    already, documents and index, in their order.
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


class SavedPlans(_Part):
    """Plans for several destinations, as `publisher plan --output` writes them."""

    schema_version: Literal[1] = 1
    registry: Digest
    handles: tuple[str, ...]
    plans: tuple[Plan, ...]


def read_plans(path: Path) -> SavedPlans:
    """Return saved plans. Raises `PlanError` for a file that is none."""
    again = "make it again with: publisher plan --to NAME --output FILE"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    try:
        if len(content) > LARGEST:
            raise ValueError("it is too large")
        return SavedPlans.model_validate_json(content)
    except ValidationError as error:
        problem = first_problem(error, whole="the file")
        raise PlanError(f"{path}: is no plan ({problem}); {again}") from error
    except ValueError as error:
        raise PlanError(f"{path}: is no plan ({error}); {again}") from error


def require_same(saved: Plan, now: Plan) -> None:
    """Raise `PlanError` if the world is another one than when `saved` was made."""
    if saved == now:
        return
    moved = list(_moved(saved, now))
    raise PlanError(
        f"{now.destination}: is no longer as the plan has it ({'; '.join(moved[:3])}"
        f"{f'; and {len(moved) - 3} more' if len(moved) > 3 else ''}); nothing was published:"
        " make the plan again, look at it, and publish that"
    )


def _moved(saved: Plan, now: Plan) -> Iterable[str]:
    before = {change.handle: change for change in saved.changes}
    after = {change.handle: change for change in now.changes}
    for handle in dict.fromkeys([*before, *after]):
        old, new = before.get(handle), after.get(handle)
        if old is None or new is None:
            yield f"{handle} is {'new in' if old is None else 'gone from'} the plan"
        elif old.status != new.status:
            yield f"{handle} was '{old.status}' and is '{new.status}'"
        elif old != new:
            parts = [
                what
                for what, one, other in (
                    ("the archive that is offered", old.offered, new.offered),
                    ("the archive that is there", old.there, new.there),
                )
                if one != other
            ]
            yield f"{handle}: {' and '.join(parts) or 'the reason'} is another"
    written = {write.path: write.sha256 for write in saved.writes}
    writing = {write.path: write.sha256 for write in now.writes}
    for path in dict.fromkeys([*written, *writing]):
        if written.get(path) != writing.get(path):
            yield f"{path} would be {'written' if path not in written else 'another'}"


def difference(there: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Say in what two archives of a version differ, as far as their manifests tell."""
    parts = []
    if there["checkpoint"]["sha256"] != manifest["checkpoint"]["sha256"]:
        parts.append("weights")
    if is_folded(there) != is_folded(manifest):
        parts.append("weight standardization")
    before, now = there["toolchain"], manifest["toolchain"]
    tools = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if tools:
        changes = [f"{name} {before.get(name)} there, {now.get(name)} here" for name in tools]
        parts.append(f"toolchain ({'; '.join(changes)})")
    return ", ".join(parts) or "graph or assets"


def next_version(variant: Variant, held: Iterable[str]) -> str:
    """Return the first handle of a variant's model that is above all that are held."""
    versions = [
        int(version)
        for model, _, version in (handle.rpartition("/") for handle in held)
        if model == variant.unversioned
    ]
    return f"{variant.unversioned}/{max(versions) + 1}"


def as_markdown(plans: Sequence[Plan], waiting: Sequence[str] = ()) -> str:
    """Return plans as Markdown for a pull request: a table for each destination.

    The handles `waiting` are not built yet.
    """
    lines = []
    for plan in plans:
        lines += [f"### {plain(plan.destination)}", ""]
        if plan.empty and not plan.refused and not waiting:
            lines += ["Nothing to do.", ""]
            continue
        lines += ["| handle | plan |", "|---|---|"]
        lines += [
            f"| `{plain(change.handle)}` | {plain(change.message or MEANINGS[change.status])} |"
            for change in plan.changes
        ]
        lines += [f"| `{plain(handle)}` | decided once it is built |" for handle in waiting]
        others = [write.path for write in plan.writes]
        if others:
            lines += ["", f"{len(others)} other files are written:", ""]
            lines += [f"- `{plain(path)}`" for path in others]
        lines.append("")
    return "\n".join(lines)


def as_json(plans: SavedPlans) -> dict[str, Any]:
    """Return plans as they are saved."""
    found: dict[str, Any] = json.loads(plans.model_dump_json())
    return found
