"""A release in a public bucket or on any web host, read over HTTP."""

from collections.abc import Callable
from typing import TypeVar

from requests import Response

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST, READING, RemoteFile, unreadable
from publisher.util.http import HttpError, without_secrets
from publisher.util.http.request import MOST_REDIRECTS, body, new_session, request, require

T = TypeVar("T")


class WebSource:
    """A release below a public address, from which clients download archives themselves."""

    def __init__(self, name: str, base: str) -> None:
        self._name = name
        self._base = base
        self._session = new_session()

    @property
    def name(self) -> str:
        """The address that a person gave."""
        return self._name

    def stamp(self) -> object:
        """Return a constant, because asking the host at every request would be too slow."""
        return None

    def read(self, path: str) -> bytes:
        """Return a small file. Raises `ReleaseError`."""
        return self._asked("GET", path, lambda response: body(response, LARGEST))

    def size(self, path: str) -> int:
        """Return the size of a file as the host states it. Raises `ReleaseError`."""
        length = self._asked("HEAD", path, lambda got: got.headers.get("Content-Length", ""))
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise ReleaseError(
                f"{without_secrets(self._base)}/{path}: its host does not state its size; choose"
                " another host"
            )
        return int(length)

    def open(self, path: str, size: int) -> RemoteFile:
        """Return the file's public address. Loading the release has checked the size."""
        return RemoteFile(f"{self._base}/{path}")

    def _asked(self, method: str, path: str, take: Callable[[Response], T]) -> T:
        """Request a file with retries, and return what `take` makes of the answer."""
        address = f"{self._base}/{path}"

        def step() -> T:
            with request(
                self._session, method, address, retry=READING, follow=MOST_REDIRECTS
            ) as response:
                return take(require(response))

        try:
            return READING.run(step)
        except HttpError as error:
            raise unreadable(address, error) from None
