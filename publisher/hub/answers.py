"""The hub's responses: pages and small files from memory, archives in pieces."""

from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from publisher.hub.ranges import UnsatisfiableError, none_match, part
from publisher.release.catalogue import Model
from publisher.release.sources.base import RemoteFile, Source
from publisher.util.files import sha256

PIECE = 256 * 1024  # bytes of an archive in memory, for each client
REVALIDATE, FOREVER = "no-cache", "public, max-age=31536000, immutable"
A_DAY = "public, max-age=86400"
PLAIN = "text/plain; charset=utf-8"

# Pages load only their own files, and no site may embed them in a frame.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'"
)
SECURITY = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def plain(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with one line of text."""
    answer = Response(f"{message}\n", status, media_type=PLAIN)
    answer.headers.update({"Cache-Control": REVALIDATE, **(headers or {})})
    return answer


def redirect(location: str, status: int, cache: str) -> Response:
    """Return a redirect. `location` must consist of validated parts."""
    headers = {"Location": location, "Cache-Control": cache}
    return plain(f"It is at {location}", status, headers)


def content(request: Request, body: bytes, media_type: str) -> Response:
    """Return a small body, or 304 if the client has it (RFC 9110, 13.1.2)."""
    headers = {"ETag": f'"{sha256(body)}"', "Cache-Control": REVALIDATE}
    if not none_match(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


async def archive(request: Request, model: Model, source: Source) -> Response:
    """Return an archive or a part of it, or a redirect to its address.

    The digest is the strong ETag. A published version never changes, so clients may cache it
    for ever. Raises `ReleaseError` if the archive does not have the size that the index states.
    """
    stated = model.entry.archive
    opened = await to_thread.run_sync(source.open, model.archive, stated.size)
    if isinstance(opened, RemoteFile):
        return redirect(opened.address, 302, REVALIDATE)
    etag = f'"{stated.sha256}"'
    name = f"{model.entry.handle.split('/', 1)[1].replace('/', '_')}.tar.gz"
    headers = {"ETag": etag, "Cache-Control": FOREVER, "Accept-Ranges": "bytes"}
    asked = request.headers
    if not none_match(asked.get("if-none-match"), etag):
        opened.close()
        return Response(status_code=304, headers=headers)
    # Only GET supports ranges (RFC 9110, 14.2).
    wanted = asked.get("range") if request.method == "GET" else None
    try:
        chosen = part(wanted, asked.get("if-range"), etag, stated.size)
    except UnsatisfiableError:
        opened.close()
        return plain(
            f"The archive has {stated.size} bytes",
            416,
            {"Content-Range": f"bytes */{stated.size}"},
        )
    length = stated.size
    if chosen is not None:
        length = len(chosen)
        headers["Content-Range"] = f"bytes {chosen.start}-{chosen.stop - 1}/{stated.size}"
    headers |= {
        "Content-Length": str(length),
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    start = chosen.start if chosen else 0
    status = 200 if chosen is None else 206
    if request.method == "HEAD":
        opened.close()
        return Response(status_code=status, headers=headers, media_type="application/gzip")
    return StreamingResponse(
        _pieces(opened, start, length), status, headers=headers, media_type="application/gzip"
    )


async def _pieces(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    """Read a file in pieces, each in a thread and only once the last one is sent."""
    with file:
        file.seek(start)
        while length:
            piece = await to_thread.run_sync(file.read, min(PIECE, length))
            if not piece:
                raise EOFError(f"{file.name} is shorter than its index entry states")
            length -= len(piece)
            yield piece
