"""Retries with exponential backoff."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from publisher.util.http.errors import TransientError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """The number of attempts, the pauses between them and the timeouts of a request, in seconds.

    Pauses double from `first_pause` to `longest_pause`, with jitter so that many clients do
    not retry together. A server may ask for a pause of up to `longest_asked`.
    """

    attempts: int = 5
    first_pause: float = 1.0
    longest_pause: float = 60.0
    longest_asked: float = 120.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    @property
    def timeouts(self) -> tuple[float, float]:
        """The timeouts for requests: to connect, and between two reads."""
        return (self.connect_timeout, self.read_timeout)

    def run(self, step: Callable[[], T], warn: Callable[[str], None] | None = None) -> T:
        """Call `step` until it raises no `TransientError`, and return its result.

        `warn` gets one line before each pause. Raises the `TransientError` of the last attempt,
        and any other error of `step` at once.
        """
        import tenacity

        def tell(state: "RetryCallState") -> None:
            if warn is not None and state.outcome is not None:
                warn(
                    f"{state.outcome.exception()}; attempt {state.attempt_number + 1} of"
                    f" {self.attempts} in {state.upcoming_sleep:.0f} s"
                )

        try:
            return tenacity.Retrying(
                stop=tenacity.stop_after_attempt(self.attempts),
                wait=self._pause,
                retry=tenacity.retry_if_exception_type(TransientError),
                sleep=self.sleep,
                before_sleep=tell,
                reraise=True,
            )(step)
        except TransientError as error:
            if self.attempts == 1:
                raise
            raise error.after(self.attempts) from None

    def _pause(self, state: "RetryCallState") -> float:
        import tenacity

        growing = tenacity.wait_exponential_jitter(
            initial=self.first_pause, max=self.longest_pause, jitter=self.first_pause
        )
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause if isinstance(error, TransientError) else 0.0
        return max(growing(state), min(asked, self.longest_asked))


DEFAULT_RETRY = Retry()


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the wait that a Retry-After header asks for, in seconds; 0 without a valid one.

    Source: RFC 9110, 10.2.3.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        if re.fullmatch(r"\d+", text, re.ASCII):
            return float(text)
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)
