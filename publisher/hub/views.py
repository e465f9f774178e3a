"""Converts a catalogue into the plain facts that templates see."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from publisher.documents.index import INDEX, Reported
from publisher.documents.manifest import MANIFEST, PAGE
from publisher.hub.documents import document_html
from publisher.hub.links import Links
from publisher.hub.plot import Point, plot
from publisher.hub.search import Filters, choices, searched_text
from publisher.release.catalogue import HEADS, Catalogue, Model
from publisher.release.contents import SUMS

WIDE, NARROW = (720, 380), (330, 320)  # sizes of the plot on a desktop and on a phone


def catalogue_facts(catalogue: Catalogue, links: Links, filters: Filters) -> dict[str, Any]:
    """Return the facts for the catalogue's page. `filters` apply to cards, not to the plot."""
    newest = sorted(
        (catalogue.models[handle] for handle in catalogue.newest.values()), key=_order(catalogue)
    )
    shown = [model for model in newest if filters.match(model)]
    about = catalogue.index.about
    return {
        **_common(catalogue, links),
        "description": about.collection.description if about else "",
        "publisher": about.publisher.model_dump() if about else None,
        "filters": asdict(filters),
        "filtered": not filters.empty,
        "choices": choices(newest),
        "cards": [_card(catalogue, model, links) for model in shown],
        "total": len(newest),
        **_accuracy(newest, links),
    }


def model_facts(catalogue: Catalogue, model: Model, links: Links) -> dict[str, Any]:
    """Return the facts for a model's page."""
    entry = model.entry
    checks = model.manifest.validation.checks
    return {
        **_common(catalogue, links),
        "synthetic": "all" if entry.synthetic else "",
        "card": _card(catalogue, model, links),
        "manifest": model.manifest.as_json(),
        "license": model.checkpoint.license if model.checkpoint else "",
        "fine_tunable": not model.manifest.folded,
        "checks": Counter(check.status for check in checks),
        "versions": [
            {
                "handle": handle,
                "link": links.page(handle),
                "withdrawn": catalogue.models[handle].entry.withdrawn is not None,
            }
            for handle in catalogue.versions(entry.name)
        ],
        "files": [
            {"name": name, "link": links.file(f"{entry.path}/{name}")} for name in (MANIFEST, PAGE)
        ],
        "document": document_html(_readme(catalogue, model, links)),
    }


def _readme(catalogue: Catalogue, model: Model, links: Links) -> str:
    """Return a model's README.md, with links to this site's archives and pages."""
    text, about = model.page, catalogue.index.about
    if about is None:
        return text
    text = text.replace(f"{about.asset_base.rstrip('/')}/models/", f"{links.archives}/models/")
    for handle in catalogue.models:
        named = f"[`{handle}`]"
        text = text.replace(f"{named}({links.archive(handle)})", f"{named}({links.page(handle)})")
    return text


def error_facts(
    catalogue: Catalogue, links: Links, title: str, message: str, near: Sequence[str]
) -> dict[str, Any]:
    """Return the facts for an error page."""
    return {
        **_common(catalogue, links),
        "heading": title,
        "message": message,
        "near": [{"handle": handle, "link": links.page(handle)} for handle in near],
    }


def moved_facts(catalogue: Catalogue, links: Links, handle: str) -> dict[str, Any]:
    """Return the facts for a page that redirects to a model's page."""
    return {**_common(catalogue, links), "handle": handle, "link": links.page(handle)}


def _common(catalogue: Catalogue, links: Links) -> dict[str, Any]:
    synthetic = {model.entry.synthetic for model in catalogue.models.values()}
    about = catalogue.index.about
    return {
        "title": about.collection.title if about else catalogue.index.collection,
        "synthetic": {frozenset({True}): "all", frozenset({True, False}): "some"}.get(
            frozenset(synthetic), ""
        ),
        "hub": links.base,
        "policy": "",  # the hub sends it as a header; a static site sets it here
        "home": links.home,
        "assets": {name: links.file(name) for name in ("hub.css", "hub.js", "hub.svg")},
        "index_files": [{"name": name, "link": links.file(name)} for name in (INDEX, SUMS)],
    }


def _card(catalogue: Catalogue, model: Model, links: Links) -> dict[str, Any]:
    """Return the facts about a model that every page shows."""
    entry = model.entry
    sibling = catalogue.sibling(model, HEADS[1 - HEADS.index(entry.head)])
    return {
        **entry.model_dump(mode="json"),
        "short": entry.handle.partition("/")[2],
        "text": searched_text(model),
        "folded": model.manifest.folded,
        "output": model.manifest.signature.output.model_dump(mode="json"),
        "link": links.page(entry.handle),
        "address": links.load_address(entry.handle),
        "archive_link": links.archive(entry.handle),
        "sibling": sibling
        and {"handle": sibling.entry.handle, "link": links.page(sibling.entry.handle)},
        "reported": [figure.model_dump() for figure in _figures(model)],
    }


def _accuracy(models: Iterable[Model], links: Links) -> dict[str, Any]:
    """Return the plots and their table: the classifiers' figures for one metric.

    It is the most frequent metric; figures for different metrics are not comparable.
    """
    reported = [
        (model, figure)
        for model in models
        if model.entry.head == "classifier"
        for figure in _figures(model)
    ]
    metrics = Counter(figure.metric for _, figure in reported).most_common(1)
    metric = metrics[0][0] if metrics else ""
    chosen = [(model, figure) for model, figure in reported if figure.metric == metric]
    points = [
        Point(
            f"{model.entry.architecture}, {model.entry.resolution} px",
            figure.source,
            model.entry.archive.size,
            figure.value,
        )
        for model, figure in chosen
    ]
    drawn = {"wide": plot(points, *WIDE), "narrow": plot(points, *NARROW)}
    return {
        "metric": metric,
        "plots": {name: asdict(one) for name, one in drawn.items() if one},
        "figures": [
            {
                "handle": model.entry.handle,
                "link": links.page(model.entry.handle),
                "size": model.entry.archive.size,
                "synthetic": model.entry.synthetic,
                "withdrawn": model.entry.withdrawn,
                **figure.model_dump(),
            }
            for model, figure in chosen
        ],
    }


def _figures(model: Model) -> Sequence[Reported]:
    return model.checkpoint.reported if model.checkpoint else ()


def _order(catalogue: Catalogue) -> Any:
    """Return the catalogue's sort key: by the registry's checkpoints, classifiers first."""
    known = {name: position for position, name in enumerate(catalogue.index.checkpoints)}

    def key(model: Model) -> tuple[int, str, int, str]:
        entry = model.entry
        position = known.get(entry.checkpoint, len(known))
        return position, entry.checkpoint, HEADS.index(entry.head), entry.handle

    return key
