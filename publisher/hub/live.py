"""The release that is being served: what was published since is seen, what is broken is not."""

import asyncio
import logging

from anyio import to_thread

from publisher.release.catalogue import Catalogue, load
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import Source

logger = logging.getLogger("publisher.hub")


class Live:
    """A source with the last good catalogue that it gave.

    Raises `ReleaseError` if there is none to begin with.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        # Taken before reading: a change on the way is seen at the next request.
        self._stamp = source.stamp()
        self._catalogue = load(source)
        self._reading = asyncio.Lock()

    async def catalogue(self) -> Catalogue:
        """Return the catalogue, read again if the release has changed.

        A release that cannot be served is logged, once, and the one before it is kept.
        """
        stamp = self.source.stamp()
        if stamp == self._stamp or self._reading.locked():
            return self._catalogue
        async with self._reading:
            self._stamp = stamp
            try:
                self._catalogue = await to_thread.run_sync(load, self.source)
            except ReleaseError as error:
                logger.error("the release has changed and is kept as it was: %s", error)
            else:
                logger.info("the release has changed: %d versions", len(self._catalogue.models))
        return self._catalogue
