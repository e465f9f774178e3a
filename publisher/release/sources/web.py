"""A release that lies in a public bucket, or on any web host, read over HTTP."""

import requests

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST, Elsewhere
from publisher.util.http import failure

PATIENCE = (10, 60)  # seconds to connect, and between two pieces
PIECE = 1 << 16


class WebSource:
    """A release below a public address. It is read once; clients get archives from there."""

    def __init__(self, name: str, base: str) -> None:
        self._name = name
        self._base = base
        self._session = requests.Session()
        # What is counted are the bytes that come, so they come as they are.
        self._session.headers["Accept-Encoding"] = "identity"

    @property
    def name(self) -> str:
        """The address that a person gave."""
        return self._name

    def stamp(self) -> object:
        """Return nothing that changes: asking the bucket at each request would be too slow."""
        return None

    def read(self, path: str) -> bytes:
        """Return a small file. Raises `ReleaseError`."""
        content = bytearray()
        with self._get("GET", path) as response:
            try:
                for piece in response.iter_content(PIECE):
                    content += piece
                    if len(content) > LARGEST:
                        raise ReleaseError(f"{response.url}: is larger than {LARGEST >> 20} MiB")
            except requests.RequestException as error:
                raise _unreadable(response.url, error) from error
        return bytes(content)

    def size(self, path: str) -> int:
        """Return the size of a file as the host states it. Raises `ReleaseError`."""
        with self._get("HEAD", path) as response:
            length = response.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise ReleaseError(
                f"{response.url}: its host does not state its size; choose another one"
            )
        return int(length)

    def open(self, path: str, size: int) -> Elsewhere:
        """Return the file's public address; its size was asked for when the release was read."""
        return Elsewhere(f"{self._base}/{path}")

    def _get(self, method: str, path: str) -> requests.Response:
        address = f"{self._base}/{path}"
        try:
            response = self._session.request(
                method, address, timeout=PATIENCE, stream=True, allow_redirects=True
            )
        except (requests.RequestException, ValueError) as error:
            raise _unreadable(address, error) from error
        if response.status_code != requests.codes.ok:
            response.close()
            raise ReleaseError(
                f"{address}: answers {response.status_code} {response.reason}; see that a release"
                " lies there and that everybody may read it"
            )
        return response


def _unreadable(address: str, error: Exception) -> ReleaseError:
    reason = failure(error) if isinstance(error, requests.RequestException) else error
    return ReleaseError(f"{address}: cannot be read ({reason}); see to the address and the network")
