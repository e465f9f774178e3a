"""All HTTP of this program: requests, retries, resumable downloads and uploads.

    session = new_session()                              # publisher.util.http.request
    def once() -> bytes:
        with request(session, "GET", address, retry=retry, follow=MOST_REDIRECTS) as response:
            return body(require(response), 1 << 20)
    content = retry.run(once)                            # retries after a `TransientError`

    receive(address, part, largest=size)                 # publisher.util.http.download: resumes
    UploadSession(address, size, retry).advance(file)    # publisher.util.http.upload: resumes

Every failure is an `HttpError`. Its text holds no secrets; the caller adds what failed and where.
`request`, `download` and `upload` import requests, which is slow, so this package does not import
them.
"""

from publisher.util.http.address import (
    LOOPBACK,
    PLAIN_ADDRESS,
    is_service_address,
    origin_of,
    redirected,
    without_secrets,
)
from publisher.util.http.errors import (
    GoneError,
    HttpError,
    NoAnswerError,
    TransientError,
    advice,
    failure,
    is_transient,
    one_line,
)
from publisher.util.http.retry import DEFAULT_RETRY, Retry, retry_after

__all__ = [
    "DEFAULT_RETRY",
    "LOOPBACK",
    "PLAIN_ADDRESS",
    "GoneError",
    "HttpError",
    "NoAnswerError",
    "Retry",
    "TransientError",
    "advice",
    "failure",
    "is_service_address",
    "is_transient",
    "one_line",
    "origin_of",
    "redirected",
    "retry_after",
    "without_secrets",
]
