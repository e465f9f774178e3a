"""What must hold between the parts of a registry.

A rule sees the raw values, so that a mistake in one of them does not hide a mistake in
another; it looks at no value that is already known to be wrong.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from publisher.families import ARCHITECTURES
from publisher.registry.document import Location
from publisher.registry.models import read_class_names
from publisher.util.wording import shown, suggestion

LARGEST_LIST = 64 << 20  # bytes of a file of class names


class Content:
    """The values of `models.yaml`; those at `faulty` locations count as absent.

    `folder` is that of the file.
    """

    def __init__(self, data: Any, faulty: set[Location], folder: Path) -> None:
        self.data = data
        self.faulty = faulty
        self.folder = folder

    def value(self, *location: str | int) -> Any:
        """Return the value at a location, `None` if it is absent or faulty."""
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

    def texts(self, *location: str | int) -> Iterator[tuple[Location, str]]:
        """Yield location and text of every good entry of a list of texts."""
        entries = self.value(*location)
        for index in range(len(entries) if isinstance(entries, tuple) else 0):
            text = self.value(*location, index)
            if isinstance(text, str):
                yield (*location, index), text

    def variants(self, key: str) -> Iterator[tuple[Location, str]]:
        """Yield location and text of one key of every variant."""
        entries = self.value("variants")
        for index in range(len(entries) if isinstance(entries, tuple) else 0):
            text = self.value("variants", index, key)
            if isinstance(text, str):
                yield ("variants", index, key), text

    def names(self, mapping: str) -> list[str]:
        """Return the keys of a mapping at the top: `checkpoints` or `destinations`."""
        named = self.value(mapping)
        return list(named) if isinstance(named, dict) else []

    def checkpoints(self) -> list[str]:
        """Return the names of all checkpoints."""
        return self.names("checkpoints")


Finding = tuple[Location, str]
Rule = Callable[[Content], Iterator[Finding]]


def all_handles_are_the_publishers(content: Content) -> Iterator[Finding]:
    """Refuse a handle, an alias or a collection under another publisher's name."""
    publisher = content.value("publisher", "name")
    if not isinstance(publisher, str):
        return
    named = [*content.variants("handle")]
    for index in range(len(content.value("variants") or ())):
        named += content.texts("variants", index, "aliases")
    collection = content.value("collection", "handle")
    if isinstance(collection, str):
        named.append((("collection", "handle"), collection))
    for location, text in named:
        given, _, rest = text.partition("/")
        if given != publisher:
            yield (
                location,
                f"the publisher of {shown(text)} is not the registry's;"
                f" allowed: {publisher}/{rest}",
            )


def handles_differ(content: Content) -> Iterator[Finding]:
    """Refuse a second variant with the handle of another."""
    seen = set()
    for location, handle in content.variants("handle"):
        if handle in seen:
            yield (
                location,
                f"two variants have the handle {shown(handle)};"
                " allowed: a version or a name of its own for each",
            )
        seen.add(handle)


def aliases_lead_to_one_model(content: Content) -> Iterator[Finding]:
    """Refuse an alias that is a model's name, or leads to two models.

    Versions of one model may share an alias: it leads to their common name.
    """
    names = {handle.rpartition("/")[0] for _, handle in content.variants("handle")}
    owners: dict[str, str] = {}
    for index in range(len(content.value("variants") or ())):
        handle = content.value("variants", index, "handle")
        name = handle.rpartition("/")[0] if isinstance(handle, str) else f"variant {index + 1}"
        own: set[str] = set()
        for location, alias in content.texts("variants", index, "aliases"):
            free = "; allowed: an old spelling that is nothing else's"
            if alias in names:
                yield location, f"the alias {shown(alias)} is the name of a model{free}"
            elif alias in own:
                yield location, f"the alias {shown(alias)} is there twice; allowed: once"
            elif owners.setdefault(alias, name) != name:
                yield location, f"the alias {shown(alias)} leads to {owners[alias]} already{free}"
            own.add(alias)


def checkpoints_are_known(content: Content) -> Iterator[Finding]:
    """Refuse a variant of a checkpoint that is not listed."""
    known = content.checkpoints()
    for location, name in content.variants("checkpoint") if known else ():
        if name not in known:
            yield location, f"{shown(name)} is no checkpoint listed here{suggestion(name, known)}"


def a_file_has_one_content(content: Content) -> Iterator[Finding]:
    """Refuse a weight file that two checkpoints describe in two ways."""
    described: dict[str, tuple[str, tuple[Any, Any]]] = {}
    for name in content.checkpoints():
        path = content.value("checkpoints", name, "path")
        keys = ("architecture", "classes")
        held = tuple(content.value("checkpoints", name, key) for key in keys)
        if not isinstance(path, str) or None in held:
            continue
        first, its = described.setdefault(path, (name, (held[0], held[1])))
        if held != its:
            yield (
                ("checkpoints", name, "path"),
                f"{shown(path)} is the file of checkpoint {first} too, which has another"
                " architecture or number of classes; allowed: the same for both, or another file",
            )


def images_are_large_enough(content: Content) -> Iterator[Finding]:
    """Refuse a resolution below what the architecture can take."""
    for name in content.checkpoints():
        architecture = ARCHITECTURES.get(str(content.value("checkpoints", name, "architecture")))
        if architecture is None:
            continue
        sizes: list[Location] = [("checkpoints", name, "resolution")]
        several = content.value("checkpoints", name, "parity_resolutions")
        for index in range(len(several) if isinstance(several, tuple) else 0):
            sizes.append(("checkpoints", name, "parity_resolutions", index))
        for location in sizes:
            size = content.value(*location)
            if isinstance(size, int) and size < architecture.smallest_image:
                yield (
                    location,
                    f"{size} is too small an image for {architecture.name};"
                    f" allowed: {architecture.smallest_image} pixels or more",
                )


def class_names_fit(content: Content) -> Iterator[Finding]:
    """Ask for a readable file of class names with one line for each class."""
    read: dict[str, tuple[str, ...] | str] = {}
    for name in content.checkpoints():
        relative = content.value("checkpoints", name, "class_names")
        if not isinstance(relative, str):
            continue
        location = ("checkpoints", name, "class_names")
        if relative not in read:
            read[relative] = _class_names(content.folder, relative)
        names = read[relative]
        if isinstance(names, str):
            yield location, names
            continue
        classes = content.value("checkpoints", name, "classes")
        if isinstance(classes, int) and len(names) != classes:
            yield (
                location,
                f"{shown(relative)} has {len(names):,} lines; allowed: one for each of the"
                f" {classes:,} classes",
            )


_ACCOUNT = r"[A-Za-z0-9][A-Za-z0-9-]*"
_BUCKET = r"[a-z0-9][a-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*/?"
PLACES: Mapping[str, tuple[str, str]] = {
    "directory": (r"[^\0]+", "a path"),
    "tfhub": (r"[^\0]+", "the path of a checkout of tfhub.dev"),
    "google-cloud-storage": (f"gs://{_BUCKET}", "gs://bucket or gs://bucket/prefix"),
    "s3": (f"s3://{_BUCKET}", "s3://bucket or s3://bucket/prefix"),
    "kaggle": (f"{_ACCOUNT}/[a-z0-9][a-z0-9-]*", "owner/model, as in the model's address"),
    "huggingface": (_ACCOUNT, "the owner: a user or an organization"),
    "github": (f"{_ACCOUNT}/[A-Za-z0-9_.-]+", "owner/repository"),
}


def destinations_name_a_place(content: Content) -> Iterator[Finding]:
    """Ask for the form of address that the kind of destination has."""
    for name in content.names("destinations"):
        kind = content.value("destinations", name, "kind")
        to = content.value("destinations", name, "to")
        if not isinstance(to, str) or kind not in PLACES:
            continue
        pattern, allowed = PLACES[kind]
        if not re.fullmatch(pattern, to):
            yield (
                ("destinations", name, "to"),
                f"{shown(to)} is no place of kind {kind}; allowed: {allowed}",
            )


def names_there_are_of_models(content: Content) -> Iterator[Finding]:
    """Refuse a name at a destination for no model, and one name for two models."""
    models = {handle.rpartition("/")[0] for _, handle in content.variants("handle")}
    for name in content.names("destinations"):
        named = content.value("destinations", name, "names")
        taken: dict[Any, str] = {}
        for model in named if isinstance(named, dict) and models else ():
            location = ("destinations", name, "names", model)
            there = content.value(*location)
            if model not in models:
                yield location, f"{shown(model)} is no model here{suggestion(model, list(models))}"
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


def _class_names(folder: Path, relative: str) -> tuple[str, ...] | str:
    """Return the names in a file, or why it has none."""
    path = folder / relative
    try:
        # A link may lead anywhere; a release is made from this folder and nothing else.
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{shown(relative)} leads out of the folder; allowed: a file inside it"
        if not path.is_file():
            return f"there is no file {shown(relative)} here; allowed: a path relative to this file"
        if path.stat().st_size > LARGEST_LIST:
            return f"{shown(relative)} is too large; allowed: {LARGEST_LIST >> 20} MiB"
        names = read_class_names(path)
    except UnicodeDecodeError:
        return f"{shown(relative)} is not UTF-8; save it with that encoding"
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a loop of links"
        return f"{shown(relative)} cannot be read ({reason}); allowed: a file of class names"
    for number, line in enumerate(names, start=1):
        if not line.strip():
            return f"{shown(relative)} is empty on line {number}; allowed: one name a line"
    return names
