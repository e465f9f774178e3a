"""Which variants a person means."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from publisher.registry.errors import RegistryError
from publisher.registry.models import Registry, Variant
from publisher.util.wording import listed, nearest, shown


def select(registry: Registry, globs: Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants that any of the globs matches, in the order of the registry.

    A glob is held to the handle, with and without its publisher, with and without its
    version; no globs mean all. Raises `RegistryError` for globs that match nothing.
    """
    if not globs:
        return registry.variants
    unmatched = [
        glob for glob in globs if not any(_matches(variant, glob) for variant in registry.variants)
    ]
    if unmatched:
        raise RegistryError("\n".join(_complaint(registry, glob) for glob in unmatched))
    return tuple(
        variant for variant in registry.variants if any(_matches(variant, glob) for glob in globs)
    )


def _spellings(variant: Variant) -> tuple[str, ...]:
    return (
        variant.handle,
        variant.unversioned,
        f"{variant.name}/{variant.version}",
        variant.name,
    )


def _matches(variant: Variant, glob: str) -> bool:
    return any(fnmatchcase(spelling, glob) for spelling in _spellings(variant))


def _complaint(registry: Registry, glob: str) -> str:
    meant: dict[str, str] = {}
    for variant in registry.variants:
        for spelling in (*_spellings(variant), *variant.aliases):
            meant.setdefault(spelling, variant.handle)
    wanted = glob.replace("*", "")
    near = dict.fromkeys(meant[spelling] for spelling in nearest(wanted, list(meant), count=5))
    handles = list(near) or [variant.handle for variant in registry.variants]
    kind = "near ones" if near else "there are"
    return f"no handle matches {shown(glob)}; {kind}: {listed(handles)}"
