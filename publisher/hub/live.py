"""Keeps the served catalogue up to date, and keeps serving the last good one."""

import asyncio
import logging

from anyio import to_thread

from publisher.release.catalogue import Catalogue, load
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import Source

logger = logging.getLogger("publisher.hub")


class LiveCatalogue:
    """A source of releases, and the last good catalogue read from it.

    Raises `ReleaseError` if the source has no good catalogue at the start.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        # Taken before reading, so that the next request notices a change in between.
        self._stamp = source.stamp()
        self._catalogue = load(source)
        self._reading = asyncio.Lock()

    async def catalogue(self) -> Catalogue:
        """Return the catalogue; read it again if the release has changed.

        If the new release cannot be served, logs that once and returns the one before it.
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
