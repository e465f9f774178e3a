"""Saving, comparing and showing plans.

A plan can be saved as JSON. `publish` carries a saved plan out only if planning again gives the
same plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from publisher.documents.manifest import Manifest
from publisher.documents.plan import Plan, SavedPlans, Status
from publisher.errors import PublisherError
from publisher.pages.format import plain
from publisher.registry import Variant
from publisher.util.files import write_whole

MEANINGS: Mapping[Status, str] = {
    "new": "new: archive, manifest and page are put there",
    "page": "page changed: the archive stays as it is",
    "withdraw": "to be marked as withdrawn",
    "unchanged": "unchanged",
    "withdrawn": "withdrawn",
    "left over": "there, and no longer in models.yaml; left alone",
    "changed": "refused",
}


class PlanError(PublisherError):
    """A saved plan cannot be carried out."""


def save_plans(plans: SavedPlans, waiting: Sequence[str], path: Path) -> None:
    """Write plans to a file for `publish --plan`.

    Raises `PlanError` if variants are `waiting` to be built, because their plan is unknown.
    """
    if waiting:
        raise PlanError(
            f"{path}: not written: {len(waiting)} of {len(plans.handles)} variants are not built,"
            " so their plan is unknown; run `publisher build` first"
        )
    write_whole(path, plans.as_bytes())


def require_same(saved: Plan, now: Plan) -> None:
    """Raise `PlanError` if the plan `now` differs from the saved one."""
    if saved == now:
        return
    moved = list(_moved(saved, now))
    raise PlanError(
        f"{now.destination}: the saved plan no longer applies ({'; '.join(moved[:3])}"
        f"{f'; and {len(moved) - 3} more' if len(moved) > 3 else ''}); nothing was published:"
        " save a new plan, review it, and publish that"
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
            yield f"{handle}: {' and '.join(parts) or 'the reason'} changed"
    written = {write.path: write.sha256 for write in saved.writes}
    writing = {write.path: write.sha256 for write in now.writes}
    for path in dict.fromkeys([*written, *writing]):
        if written.get(path) != writing.get(path):
            yield f"{path} would {'be written' if path not in written else 'differ'}"


def difference(there: Manifest, manifest: Manifest) -> str:
    """Return in what two archives of a version differ, as far as their manifests show."""
    parts = []
    if there.checkpoint.sha256 != manifest.checkpoint.sha256:
        parts.append("weights")
    if there.folded != manifest.folded:
        parts.append("weight standardization")
    before, now = there.toolchain, manifest.toolchain
    tools = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if tools:
        changes = [f"{name} {before.get(name)} there, {now.get(name)} here" for name in tools]
        parts.append(f"toolchain ({'; '.join(changes)})")
    return ", ".join(parts) or "graph or assets"


def next_version(variant: Variant, held: Iterable[str]) -> str:
    """Return the handle of a variant's model with the lowest version above all held ones."""
    versions = [
        int(version)
        for model, _, version in (handle.rpartition("/") for handle in held)
        if model == variant.unversioned
    ]
    return f"{variant.unversioned}/{max(versions) + 1}"


def as_markdown(plans: Sequence[Plan], waiting: Sequence[str] = ()) -> str:
    """Return plans as Markdown for a pull request: a table for each destination.

    `waiting` are handles that are not built yet.
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
