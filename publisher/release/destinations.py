"""Opening destinations of models.yaml by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.local.directory import Directory
from publisher.destinations.open import open_destination, target_named
from publisher.errors import PublisherError, raise_all
from publisher.registry import Registry, select
from publisher.registry.models import Target
from publisher.release.diff import Offer

JOURNALS = "destinations"  # folder in the build folder
EVERY = "*"  # names all destinations


@dataclass(frozen=True)
class OpenDestination:
    """An open destination with its entry in models.yaml; `folder` holds its journal."""

    name: str
    target: Target
    destination: Destination
    folder: Path

    def chosen(self, registry: Registry, offers: Iterable[Offer]) -> list[Offer]:
        """Return the offers that models.yaml sends to this destination."""
        handles = {variant.handle for variant in select(registry, self.target.only)}
        return [offer for offer in offers if offer.variant.handle in handles]


def names_of(registry: Registry, names: Sequence[str]) -> list[str]:
    """Return each name once; `*` stands for all destinations.

    Raises `DestinationError` for a name that models.yaml does not have.
    """
    found = expanded(registry, names)
    for name in found:
        target_named(registry, name)
    return found


def expanded(registry: Registry, names: Iterable[str]) -> list[str]:
    """Return each name once, known or not; `*` stands for all destinations."""
    return list(
        dict.fromkeys(
            one for name in names for one in (registry.destinations if name == EVERY else [name])
        )
    )


def open_destinations(
    registry: Registry,
    names: Sequence[str],
    build: Path,
    environment: Mapping[str, str],
    *,
    to_write: bool,
    known: Sequence[PublisherError] = (),
) -> list[OpenDestination]:
    """Open destinations by name; with `to_write`, check that each can be written.

    Credentials come from `environment`. Raises all errors at once, including those in `known`;
    a single one is raised as it is.
    """
    folder = build.resolve() / JOURNALS
    opened, errors = [], list(known)
    for name in expanded(registry, names):
        try:
            destination = open_destination(registry, name, environment, folder)
        except PublisherError as error:
            errors.append(error)
        else:
            target = target_named(registry, name)
            opened.append(OpenDestination(name, target, destination, folder / name))
    for one in opened if to_write else ():
        try:
            one.destination.check()
        except PublisherError as error:
            errors.append(error)
    raise_all(errors)
    return opened


def release_at(
    registry: Registry, where: str, build: Path, environment: Mapping[str, str]
) -> Destination:
    """Return the destination with the name `where`, or else the release directory at that path.

    Raises `DestinationError` if there is neither.
    """
    if where in registry.destinations:
        [opened] = open_destinations(registry, [where], build, environment, to_write=False)
        return opened.destination
    path = Path(where)
    if not path.is_dir():
        known = ", ".join(registry.destinations) or "none"
        raise DestinationError(
            f"{where}: is neither a release directory nor a destination of models.yaml; there"
            f" are: {known}"
        )
    return Directory(path.absolute())
