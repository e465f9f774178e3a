"""Selecting variants by glob."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from publisher.registry.errors import RegistryError
from publisher.registry.models import Registry, Variant
from publisher.util.wording import known_names, nearest, shown


def select(registry: Registry, globs: Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants that any of the globs matches, in the order of the registry.

    A glob is matched against the handle, with and without its publisher and its version; no globs
    mean all. Raises `RegistryError` for globs that match nothing.
    """
    variants = registry.variants
    unmatched = [glob for glob in globs if not any(_matches(one, glob) for one in variants)]
    if unmatched:
        raise RegistryError("\n".join(_complaint(registry, glob) for glob in unmatched))
    return tuple(one for one in variants if any(_matches(one, glob) for glob in globs or "*"))


def _spellings(variant: Variant) -> tuple[str, ...]:
    name = variant.name
    return variant.handle, variant.unversioned, f"{name}/{variant.version}", name


def _matches(variant: Variant, glob: str) -> bool:
    return any(fnmatchcase(spelling, glob) for spelling in _spellings(variant))


def _complaint(registry: Registry, glob: str) -> str:
    meant: dict[str, str] = {}
    for variant in registry.variants:
        for spelling in (*_spellings(variant), *variant.aliases):
            meant.setdefault(spelling, variant.handle)
    plain = glob.replace("*", "")
    near = dict.fromkeys(meant[spelling] for spelling in nearest(plain, list(meant), count=5))
    known = known_names(list(near), [variant.handle for variant in registry.variants])
    return f"no handle matches {shown(glob)}; {known}"
