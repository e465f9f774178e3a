"""Constraints between the parts of a registry.

Rules check the raw values, so that an error in one value does not hide an error in another. They
skip values that are already known to be wrong.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from publisher.documents.fields import DESTINATIONS
from publisher.families import ARCHITECTURES
from publisher.registry.document import Location
from publisher.registry.errors import RegistryError
from publisher.registry.models import read_class_names
from publisher.util.wording import shown, suggestion


class RawValues:
    """The values of `models.yaml`, which is in `folder`; those at `faulty` locations are absent."""

    def __init__(self, data: Any, faulty: set[Location], folder: Path) -> None:
        self.data = data
        self.faulty = faulty
        self.folder = folder

    def value(self, *location: str | int) -> Any:
        """Return the value at a location; None if it is absent or faulty."""
        found = self.data
        for depth, step in enumerate(location, start=1):
            if location[:depth] in self.faulty:
                return None
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, tuple) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found

    def entries(self, *location: str | int) -> list[Location]:
        """Return the locations of all entries of a list or mapping; none if it is absent."""
        found = self.value(*location)
        if isinstance(found, tuple):
            return [(*location, index) for index in range(len(found))]
        return [(*location, key) for key in found] if isinstance(found, dict) else []

    def texts(self, locations: Iterable[Location]) -> Iterator[tuple[Location, str]]:
        """Yield the locations that hold text, with their texts."""
        for location in locations:
            text = self.value(*location)
            if isinstance(text, str):
                yield location, text

    def variants(self, key: str) -> Iterator[tuple[Location, str]]:
        """Yield the location and text of `key` in every variant."""
        return self.texts((*variant, key) for variant in self.entries("variants"))

    def names(self, mapping: str) -> list[str]:
        """Return the keys of a top-level mapping: `checkpoints` or `destinations`."""
        return [str(name) for _, name in self.entries(mapping)]

    def models(self) -> list[str]:
        """Return the name, `publisher/name`, of every model."""
        names = (handle.rpartition("/")[0] for _, handle in self.variants("handle"))
        return list(dict.fromkeys(names))


Finding = tuple[Location, str]
Rule = Callable[[RawValues], Iterator[Finding]]


def all_handles_are_the_publishers(content: RawValues) -> Iterator[Finding]:
    """Refuse a handle, an alias or a collection of another publisher."""
    publisher = content.value("publisher", "name")
    if not isinstance(publisher, str):
        return
    places: list[Location] = [("collection", "handle")]
    for variant in content.entries("variants"):
        places += [(*variant, "handle"), *content.entries(*variant, "aliases")]
    for location, text in content.texts(places):
        given, _, rest = text.partition("/")
        if given != publisher:
            yield (
                location,
                f"the publisher of {shown(text)} is not the registry's;"
                f" allowed: {publisher}/{rest}",
            )


def handles_differ(content: RawValues) -> Iterator[Finding]:
    """Refuse two variants with the same handle."""
    seen = set()
    for location, handle in content.variants("handle"):
        if handle in seen:
            yield (
                location,
                f"two variants have the handle {shown(handle)};"
                " allowed: a version or a name of its own for each",
            )
        seen.add(handle)


def aliases_lead_to_one_model(content: RawValues) -> Iterator[Finding]:
    """Refuse an alias that is a model's name or leads to two models.

    Versions of one model may share an alias, because it leads to their common name.
    """
    names = content.models()
    owners: dict[str, str] = {}
    for number, variant in enumerate(content.entries("variants"), start=1):
        handle = content.value(*variant, "handle")
        name = handle.rpartition("/")[0] if isinstance(handle, str) else f"variant {number}"
        own: set[str] = set()
        for location, alias in content.texts(content.entries(*variant, "aliases")):
            free = "; allowed: an old spelling that is nothing else's"
            if alias in names:
                yield location, f"the alias {shown(alias)} is the name of a model{free}"
            elif alias in own:
                yield location, f"the alias {shown(alias)} is there twice; allowed: once"
            elif owners.setdefault(alias, name) != name:
                yield location, f"the alias {shown(alias)} leads to {owners[alias]} already{free}"
            own.add(alias)


def checkpoints_are_known(content: RawValues) -> Iterator[Finding]:
    """Refuse a variant of an unknown checkpoint."""
    known = content.names("checkpoints")
    for location, name in content.variants("checkpoint") if known else ():
        if name not in known:
            yield location, f"{shown(name)} is no checkpoint listed here{suggestion(name, known)}"


def a_file_has_one_content(content: RawValues) -> Iterator[Finding]:
    """Refuse a weight file that two checkpoints describe differently."""
    described: dict[str, tuple[str, Any]] = {}
    for name in content.names("checkpoints"):
        path, *held = (
            content.value("checkpoints", name, key) for key in ("path", "architecture", "classes")
        )
        if not isinstance(path, str) or None in held:
            continue
        first, before = described.setdefault(path, (name, held))
        if held != before:
            yield (
                ("checkpoints", name, "path"),
                f"{shown(path)} is the file of checkpoint {first} too, which has another"
                " architecture or number of classes; allowed: the same for both, or another file",
            )


def images_are_large_enough(content: RawValues) -> Iterator[Finding]:
    """Refuse a resolution below the smallest image of the architecture."""
    for checkpoint in content.entries("checkpoints"):
        architecture = ARCHITECTURES.get(str(content.value(*checkpoint, "architecture")))
        sizes = [(*checkpoint, "resolution"), *content.entries(*checkpoint, "parity_resolutions")]
        for location in sizes if architecture else ():
            size = content.value(*location)
            if architecture and isinstance(size, int) and size < architecture.smallest_image:
                yield (
                    location,
                    f"{size} is too small an image for {architecture.name};"
                    f" allowed: {architecture.smallest_image} pixels or more",
                )


def class_names_fit(content: RawValues) -> Iterator[Finding]:
    """Require a readable file of class names with one line for each class."""
    read = functools.cache(read_class_names)
    files = ((*checkpoint, "class_names") for checkpoint in content.entries("checkpoints"))
    for location, relative in content.texts(files):
        classes = content.value(*location[:-1], "classes")
        try:
            count = len(read(content.folder, relative))
        except RegistryError as error:
            yield location, str(error)
            continue
        if isinstance(classes, int) and count != classes:
            yield (
                location,
                f"{shown(relative)} has {count:,} lines; allowed: one for each of the"
                f" {classes:,} classes",
            )


def destinations_name_a_place(content: RawValues) -> Iterator[Finding]:
    """Require an address in the form that its kind of destination has."""
    places = ((*destination, "to") for destination in content.entries("destinations"))
    for location, to in content.texts(places):
        kind = content.value(*location[:-1], "kind")
        pattern, allowed = DESTINATIONS.get(str(kind), ("(?s:.*)", ""))
        if not re.fullmatch(pattern, to):
            yield location, f"{shown(to)} is no place of kind {kind}; allowed: {allowed}"


def names_there_are_of_models(content: RawValues) -> Iterator[Finding]:
    """Refuse a name at a destination for an unknown model, and one name for two models."""
    models = content.models()
    for destination in content.entries("destinations") if models else ():
        taken: dict[Any, str] = {}
        for location in content.entries(*destination, "names"):
            model, there = str(location[-1]), content.value(*location)
            if model not in models:
                yield location, f"{shown(model)} is no model here{suggestion(model, models)}"
            elif there is not None and taken.setdefault(there, model) != model:
                yield (
                    location,
                    f"{shown(str(there))} is the name of {taken[there]} already; allowed: a name"
                    " of its own for each model",
                )


RULES: tuple[Rule, ...] = (
    all_handles_are_the_publishers,
    handles_differ,
    aliases_lead_to_one_model,
    checkpoints_are_known,
    a_file_has_one_content,
    images_are_large_enough,
    class_names_fit,
    destinations_name_a_place,
    names_there_are_of_models,
)
