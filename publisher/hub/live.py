"""Reloads the catalogue when the release changes."""

import asyncio
import logging

from anyio import to_thread

from publisher.release.catalogue import Catalogue, load
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import Source

logger = logging.getLogger("publisher.hub")


class LiveCatalogue:
    """A release's source, and the last valid catalogue read from it.

    Raises `ReleaseError` if the first catalogue is invalid.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        # Taken before the catalogue is read, so that a change meanwhile is noticed next time.
        self._stamp = source.stamp()
        self._catalogue = load(source)
        self._reading = asyncio.Lock()

    async def catalogue(self) -> Catalogue:
        """Return the catalogue; reload it if the release has changed.

        If the new release is invalid, log that once and return the last valid catalogue.
        """
        stamp = self.source.stamp()
        if stamp == self._stamp or self._reading.locked():
            return self._catalogue
        async with self._reading:
            self._stamp = stamp
            try:
                self._catalogue = await to_thread.run_sync(load, self.source)
            except ReleaseError as error:
                logger.error("cannot read the changed release; still serving the last: %s", error)
            else:
                logger.info("the release has changed: %d versions", len(self._catalogue.models))
        return self._catalogue
