"""A destination in memory, for what is said of all destinations."""

from collections.abc import Mapping
from pathlib import Path

from publisher.destinations.base import ConflictError, Style
from publisher.documents.manifest import Manifest, read_manifest


class Shelf:
    """All that `publish` may ask of a destination; `log` holds what was put, in order."""

    name = "https://models.example.org/"
    local = False
    style: Style = "tfhub"
    holds_versions = True
    holds_index = True
    shares_page = False
    seals_versions = False

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []

    def check(self) -> None:
        pass

    def manifests(self) -> dict[str, Manifest]:
        found = [
            read_manifest(content)
            for name, content in self.files.items()
            if name.endswith("/manifest.json")
        ]
        return {manifest.handle: manifest for manifest in found}

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        if handle in self.manifests():
            raise ConflictError(f"{handle} is there")
        for name, source in files.items():
            content = source if isinstance(source, bytes) else source.read_bytes()
            self.files[f"models/{handle}/{name}"] = content
        self.log.append(handle)

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content
        self.log.append(path)


class Liar(Shelf):
    """Takes everything without an error and keeps nothing."""

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        self.log.append(handle)
