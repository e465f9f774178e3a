"""A review of a pull request, as Markdown.

It shows the plan of each destination, the pages that change and the results of the checks. The
texts in it are untrusted, so none can break out of its code block or table cell.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from publisher.destinations.local.directory import Directory
from publisher.documents.manifest import Manifest
from publisher.documents.plan import Plan
from publisher.documents.report import Check
from publisher.errors import PublisherError
from publisher.pages import render_module
from publisher.pages.format import plain
from publisher.registry import Registry, Variant
from publisher.release.contents import DOCUMENTS, folder_of, new_documents
from publisher.release.destinations import names_of, open_destinations
from publisher.release.diff import Offer
from publisher.release.plan import as_markdown
from publisher.release.publish import Publication, prepare
from publisher.release.settings import ReviewSettings
from publisher.util.files import write_whole

LARGEST = 60_000  # characters; GitHub allows 65,536 in a comment
CONTEXT = 2  # lines around a change

Pages = Mapping[str, str]


def rendered(
    registry: Registry, manifests: Mapping[str, Manifest], templates: Path
) -> dict[str, bytes]:
    """Return the pages of the versions that the registry lists, by their path in a release."""
    listed = {one.handle: one for one in registry.variants if one.handle in manifests}
    own = {
        handle: render_module(registry, variant, manifests[handle], templates).encode()
        for handle, variant in listed.items()
    }
    held = {handle: manifests[handle] for handle in listed}
    withdrawn = {handle: one.withdrawn for handle, one in listed.items() if one.withdrawn}
    documents = new_documents(registry, held, own, withdrawn, templates)
    return {f"{DOCUMENTS}/{path}": content for path, content in documents.items()}


def write_pages(registry: Registry, release: Path, templates: Path, folder: Path) -> list[str]:
    """Render the pages of a release directory again, into a folder; return their paths."""
    found = rendered(registry, Directory(release.absolute()).manifests(), templates)
    for path, content in found.items():
        write_whole(folder / path, content)
    return list(found)


def pages_of(release: Path) -> dict[str, str]:
    """Return the pages of a release directory by path in the tree of documents."""
    root = release / DOCUMENTS
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(root.rglob("*.md"))
        if path.is_file() and not path.is_symlink()
    }


@dataclass(frozen=True)
class Review:
    """A review as Markdown, the handles that were not built, and the problems.

    Each problem is a message, and the handle or folder that it blocks.
    """

    text: str
    missing: Sequence[str]
    problems: Sequence[tuple[str, str]]


def review(
    registry: Registry,
    variants: Sequence[Variant],
    settings: ReviewSettings,
    environment: Mapping[str, str],
) -> Review:
    """Review what publishing these variants of a release would change; write nothing.

    A destination that cannot be read is not a problem: the review says why it has no plan.
    """
    release = settings.release
    manifests = Directory(release.absolute()).manifests()
    active = [variant for variant in variants if variant.withdrawn is None]
    missing = [variant.handle for variant in active if variant.handle not in manifests]
    problems: list[tuple[str, str]] = []
    plans: dict[str, Plan | str] = {}
    publication = Publication(registry, settings.templates, known=manifests, allow_synthetic=True)
    offers = _offers(variants, manifests, release.absolute())
    for name in names_of(registry, settings.to):
        try:
            [opened] = open_destinations(
                registry, [name], settings.build, environment, to_write=False
            )
            chosen = opened.chosen(registry, offers)
            plan = prepare(publication, chosen, opened.destination, opened.target).plan
        except PublisherError as error:
            plans[name] = str(error)
            continue
        plans[name] = plan
        problems += [(change.message, change.handle) for change in plan.refused]
    for handle in missing:
        problems.append((f"{handle}: is not in {release}; see the job that builds it", handle))
    before = _pages_before(settings.before)
    if isinstance(before, str):
        problems.append((before, str(settings.before)))
    built = [manifests[variant.handle] for variant in active if variant.handle in manifests]
    return Review(markdown(plans, missing, before, pages_of(release), built), missing, problems)


def _offers(
    variants: Sequence[Variant], manifests: Mapping[str, Manifest], release: Path
) -> list[Offer]:
    """Return offers of the variants that a release directory holds and of the withdrawn ones."""
    offers = [Offer(variant, None, None) for variant in variants if variant.withdrawn is not None]
    for variant in variants:
        manifest = manifests.get(variant.handle)
        if variant.withdrawn is None and manifest is not None:
            offers.append(Offer(variant, manifest, release / folder_of(variant.handle)))
    return offers


def _pages_before(before: Path | None) -> Pages | str | None:
    """Return the pages in a folder, or why they cannot be read; None without a folder."""
    if before is None:
        return None
    if not before.is_dir():  # an empty tree would make every page look new
        return f"{before}: is not there; see the step that renders the pages without the change"
    return pages_of(before)


def markdown(
    plans: Mapping[str, Plan | str],
    missing: Sequence[str],
    before: Pages | str | None,
    after: Pages,
    manifests: Sequence[Manifest],
) -> str:
    """Return the review's text; sections beyond `LARGEST` characters are only counted.

    `plans` are the plans by destination, or why there is none. `missing` are the handles that
    were not built. `before` are the pages without the change, why they cannot be read, or None if
    pages are not compared.
    """
    sections = ["## What this would publish\n"]
    if missing:
        listed = "\n".join(f"- `{handle}`" for handle in missing)
        sections.append(f"Not built; the jobs of their checkpoints say why:\n\n{listed}\n")
    for name, plan in plans.items():
        if isinstance(plan, Plan):
            sections.append(as_markdown([plan]))
        else:
            sections.append(f"### {plain(name)}\n\nNot planned:\n\n{_block(plan)}\n")
    sections.append(f"### Checks\n\n{_checks(manifests)}\n")
    if isinstance(before, str):
        sections.append(f"### Pages\n\nNot compared:\n\n{_block(before)}\n")
    elif before is not None:
        changes = list(_changes(before, after))
        sections.append("### Pages\n" if changes else "### Pages\n\nNo page reads otherwise.\n")
        sections += changes
    return _bounded(sections)


def _changes(before: Pages, after: Pages) -> Iterator[str]:
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        what = "new" if old is None else "gone" if new is None else "changed"
        lines = difflib.unified_diff(
            (old or "").splitlines(), (new or "").splitlines(), lineterm="", n=CONTEXT
        )
        difference = "\n".join(list(lines)[2:])  # without the two file names
        yield (
            f"<details><summary>{plain(path)}: {what}</summary>\n\n"
            f"{_block(difference, 'diff')}\n\n</details>\n"
        )


def _checks(manifests: Sequence[Manifest]) -> str:
    if not manifests:
        return "Nothing was built."
    lines = ["| handle | passed | skipped | parity |", "|---|--:|--:|---|"]
    for manifest in manifests:
        checks = manifest.validation.checks
        passed, skipped = (
            sum(check.status == status for check in checks) for status in ("passed", "skipped")
        )
        lines.append(f"| `{manifest.handle}` | {passed} | {skipped} | {plain(_parity(checks))} |")
    if any(manifest.synthetic for manifest in manifests):
        lines += ["", "The weights are synthetic: random numbers."]
    return "\n".join(lines)


def _parity(checks: Sequence[Check]) -> str:
    """Return the summaries of the comparisons with the float64 reference."""
    found = [check.summary for check in checks if check.name.startswith("parity_")]
    return "; ".join(found)


def _bounded(sections: Sequence[str]) -> str:
    shown, left = [], 0
    free = LARGEST
    for section in sections:
        if len(section) < free:
            shown.append(section)
            free -= len(section) + 1
        else:
            left += 1
    if left:
        shown.append(f"{left} more did not fit here.\n")
    return "\n".join(shown)


def _block(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
